"""Sources of grounded answers become citations with offsets in characters."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.events import Warning
from server.core.messages import Citation, Text
from server.core.stream import fold
from tests.providers.gemini.support import answer, chunk, done, function, streamed, text, whole

WEB = [{"web": {"uri": "https://a", "title": "A"}}, {"web": {"uri": "https://b", "title": "B"}}]


def grounding(*supports: tuple[int, int | None, str | None, list[int]], chunks: Any = WEB) -> dict[str, Any]:
    """groundingMetadata; a start of 0 is left out, as Google does."""
    rows = []
    for start, end, words, indices in supports:
        segment: dict[str, Any] = {"startIndex": start} if start else {}
        segment |= {"endIndex": end} if end is not None else {}
        segment |= {"text": words} if words is not None else {}
        rows.append({"segment": segment, "groundingChunkIndices": indices})
    return {"groundingMetadata": {"groundingChunks": chunks, "groundingSupports": rows, "webSearchQueries": ["q"]}}


def cited(part: Any) -> list[tuple[str | None, int | None, int | None]]:
    assert isinstance(part, Text)
    return [(citation.url, citation.start, citation.end) for citation in part.citations]


def test_byte_offsets_become_character_offsets() -> None:
    """Google counts bytes; °, é and 😀 are more than one."""
    words = "69°F é 😀. Next one."
    end = len("69°F é 😀.".encode())
    found = grounding((0, end, "69°F é 😀.", [0, 1]), (end + 1, len(words.encode()), "Next one.", [1]))
    (part,) = answer(chunk(text(words)), chunk(text(""), finish="STOP", **found)).message.parts
    assert cited(part) == [("https://a", 0, 9), ("https://b", 0, 9), ("https://b", 10, 19)]
    assert words[0:9] == "69°F é 😀."


def test_a_citation_names_its_source() -> None:
    """Address and title of the web, maps, an image; a retrieved document has its words, too."""
    chunks = [
        {"web": {"uri": "w", "title": "W"}},
        {"retrievedContext": {"uri": "r", "title": "R", "text": "from the store"}},
        {"maps": {"uri": "m", "title": "M"}},
        {"image": {"sourceUri": "i", "title": "I"}},
    ]
    found = grounding((0, 2, "ab", [0, 1, 2, 3, 9, -1]), chunks=chunks)
    (part,) = fold(whole(chunk(text("ab"), finish="STOP", **found))).message.parts
    assert isinstance(part, Text)
    assert part.citations == (
        Citation("w", "W", None, 0, 2),
        Citation("r", "R", "from the store", 0, 2),
        Citation("m", "M", None, 0, 2),
        Citation("i", "I", None, 0, 2),
    )


@pytest.mark.parametrize("start", [4, 0], ids=["of the whole text", "of the part"])
def test_offsets_count_from_the_whole_text_or_from_the_part(start: int) -> None:
    """Recorded is the first, written is the second: the quoted words decide. A document's early blocks get theirs."""
    found = grounding((0, 4, "one.", [0]), (start, start + 4, "two.", [1]))
    parts = [text("one."), function("f", {}), text("two.")]
    first, _, second = fold(whole(chunk(*parts, finish="STOP", **found))).message.parts
    assert (cited(first), cited(second)) == ([("https://a", 0, 4)], [("https://b", 0, 4)])


def test_words_that_stand_elsewhere_are_found_by_themselves() -> None:
    """Wrong offsets do not lead to wrong places."""
    found = grounding((1, 3, "two", [0]), (900, 903, "two", [1]))
    (part,) = fold(whole(chunk(text("é one two"), finish="STOP", **found))).message.parts
    assert cited(part) == [("https://a", 6, 9), ("https://b", 6, 9)]


@pytest.mark.parametrize(
    "support", [(0, 99, "nowhere", [0]), (1, 2, None, [0]), (0, None, None, [0]), (5, 2, None, [0])]
)
def test_a_place_that_is_none_leaves_the_source_without_offsets(
    support: tuple[int, int | None, str | None, list[int]],
) -> None:
    """Inside a character, behind the end, before its start: the source is still named."""
    (part,) = fold(whole(chunk(text("éa"), finish="STOP", **grounding(support)))).message.parts
    assert cited(part) == [("https://a", None, None)]


def test_metadata_that_is_repeated_cites_once() -> None:
    """Streams may send the same again, and empty ones before."""
    found = grounding((0, 2, "ab", [0]))
    events = streamed(
        chunk(text("a"), groundingMetadata={}), chunk(text("b"), **found), chunk(text("c"), finish="STOP", **found)
    )
    assert cited(fold(events).message.parts[0]) == [("https://a", 0, 2)]
    assert json.loads(done(events).provider_metadata) == found


def test_sources_that_come_after_their_block_are_told_of() -> None:
    """A closed block cannot be cited any more in a stream: they stand in the metadata, with a warning."""
    found = grounding((0, 2, "ab", [0]))
    completed = done(streamed(chunk(text("ab")), chunk(function("f", {})), chunk(finish="STOP", **found)))
    assert [warning.code for warning in completed.warnings] == ["citations_unplaced"]
    assert isinstance(completed.warnings[0], Warning)
    assert json.loads(completed.provider_metadata) == found


@pytest.mark.parametrize("key", ["citationSources", "citations"])
def test_recitations_are_citations(key: str) -> None:
    """citationMetadata, under either API's name."""
    rows = [{"endIndex": 3, "uri": "https://a", "title": "T"}]
    (part,) = fold(whole(chunk(text("éa!"), finish="STOP", citationMetadata={key: rows}))).message.parts
    assert cited(part) == [("https://a", 0, 2)]


@pytest.mark.parametrize("broken", [{"groundingChunks": 5}, {"groundingSupports": [{"segment": 1}]}])
def test_metadata_that_cannot_be_read_costs_nothing_but_its_citations(broken: Any) -> None:
    """The answer stands, and so does what was sent."""
    completed = done(whole(chunk(text("a"), finish="STOP", groundingMetadata=broken)))
    assert json.loads(completed.provider_metadata) == {"groundingMetadata": broken}


def test_what_was_fetched_stands_in_the_metadata() -> None:
    """urlContextMetadata has no neutral place of its own."""
    fetched = {"urlMetadata": [{"retrievedUrl": "https://a", "urlRetrievalStatus": "URL_RETRIEVAL_STATUS_SUCCESS"}]}
    completed = done(streamed(chunk(text("a"), finish="STOP", urlContextMetadata=fetched)))
    assert json.loads(completed.provider_metadata) == {"urlContextMetadata": fetched}
