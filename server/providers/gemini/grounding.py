"""Sources of an answer: from groundingMetadata and citationMetadata to citations of the text blocks.

Google counts in bytes of UTF-8, and from the beginning of all the text of the answer, as recorded; its reference says
"from the start of the Part". So a place is believed where the text there is the one that the segment quotes, whichever
of the two counts leads to it; the neutral citation counts characters of its block.
"""

from __future__ import annotations

from typing import Final

import msgspec

from server.core.messages import Citation
from server.providers.parsing import tokens, try_decode


class _Source(msgspec.Struct, frozen=True, rename="camel"):
    """One of web, maps, image, retrievedContext: they differ in the name of the address."""

    uri: str | None = None
    source_uri: str | None = None
    title: str | None = None
    text: str | None = None


class _GroundingChunk(msgspec.Struct, frozen=True, rename="camel"):
    web: _Source | None = None
    retrieved_context: _Source | None = None
    maps: _Source | None = None
    image: _Source | None = None

    @property
    def source(self) -> _Source | None:
        return self.web or self.retrieved_context or self.maps or self.image


class _Segment(msgspec.Struct, frozen=True, rename="camel"):
    start_index: float | None = None
    end_index: float | None = None
    text: str | None = None


class _Support(msgspec.Struct, frozen=True, rename="camel"):
    segment: _Segment | None = None
    grounding_chunk_indices: list[int] | None = None


class _Grounding(msgspec.Struct, frozen=True, rename="camel"):
    grounding_chunks: list[_GroundingChunk] | None = None
    grounding_supports: list[_Support] | None = None


class _CitationSource(msgspec.Struct, frozen=True, rename="camel"):
    start_index: float | None = None
    end_index: float | None = None
    uri: str | None = None
    title: str | None = None


class _Recitation(msgspec.Struct, frozen=True, rename="camel"):
    """The Gemini API calls them citationSources, Vertex citations."""

    citation_sources: list[_CitationSource] | None = None
    citations: list[_CitationSource] | None = None


_GROUNDING: Final = msgspec.json.Decoder(_Grounding)
_RECITATION: Final = msgspec.json.Decoder(_Recitation)


class _Claim(msgspec.Struct, frozen=True):
    """A stretch of the answer and one of its sources. start, end: bytes; quoted: the stretch itself, None if unsaid."""

    start: int
    end: int | None
    quoted: str | None
    source: Citation


class Sources:
    """Gathers what the provider says of sources, and gives it out block by block."""

    def __init__(self) -> None:
        self._chunks: list[_GroundingChunk] = []
        self._seen: set[_Claim] = set()
        self._waiting: list[_Claim] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def grounding(self, raw: msgspec.Raw) -> None:
        """Note a groundingMetadata. A stream may repeat it or give it piece by piece. What cannot be read is skipped:
        it still stands in the provider's metadata."""
        found = try_decode(_GROUNDING, bytes(raw))
        if found is None:
            return
        self._chunks = found.grounding_chunks or self._chunks
        for support in found.grounding_supports or ():
            segment = support.segment or _Segment()
            for index in support.grounding_chunk_indices or ():
                source = self._chunks[index].source if 0 <= index < len(self._chunks) else None
                if source is not None:
                    cited = Citation(url=source.uri or source.source_uri, title=source.title, cited_text=source.text)
                    self._note(segment.start_index, segment.end_index, segment.text, cited)

    def recitation(self, raw: msgspec.Raw) -> None:
        """Note a citationMetadata: stretches that stand word for word somewhere else."""
        found = try_decode(_RECITATION, bytes(raw))
        for source in (found.citation_sources or found.citations or ()) if found is not None else ():
            self._note(source.start_index, source.end_index, None, Citation(url=source.uri, title=source.title))

    def take(self, block: str, before: int, *, last: bool = False) -> list[Citation]:
        """The citations of a block that is complete. before: bytes of text in the blocks before it. last: what has no
        place anywhere belongs here as well, without offsets."""
        placed: list[Citation] = []
        waiting: list[_Claim] = []
        data = block.encode()
        for claim in self._waiting:
            at = _place(claim, block, data, before)
            if at is not None:
                placed.append(msgspec.structs.replace(claim.source, start=at[0], end=at[1]))
            elif last:
                placed.append(claim.source)
            else:
                waiting.append(claim)
        self._waiting = waiting
        return placed

    def _note(self, start: float | None, end: float | None, quoted: str | None, source: Citation) -> None:
        claim = _Claim(tokens(start) or 0, tokens(end), quoted or None, source)
        if claim not in self._seen:
            self._seen.add(claim)
            self._waiting.append(claim)


def _place(claim: _Claim, block: str, data: bytes, before: int) -> tuple[int, int] | None:
    """Where a claim stands in a block, in characters; None where it does not."""
    for shift in (before, 0) if claim.quoted is not None else (before,):
        start, end = claim.start - shift, (claim.end or 0) - shift
        if not 0 <= start < end <= len(data):
            continue
        try:
            head, stretch = data[:start].decode(), data[start:end].decode()
        except UnicodeDecodeError:
            continue
        if claim.quoted in (None, stretch):
            return len(head), len(head) + len(stretch)
    at = block.find(claim.quoted) if claim.quoted is not None else -1
    return (at, at + len(claim.quoted)) if claim.quoted is not None and at >= 0 else None
