"""Content blocks of callers' messages as the core's parts, each by its type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from server.core import messages as m
from server.core.errors import InvalidRequest, UnsupportedParameter
from server.rpc.compat.anthropic import types as t
from server.rpc.compat.frame import Unknown, base64_bytes, given, read
from server.rpc.compat.opaque import PREVIOUS, Sealed, unseal

OURS: Final = "x_dragoman"
"""The member of a block in which we keep what Anthropic's form has no place for."""

_RESULT_PARTS: Final = ("text", "image", "document")

_ANSWERS: Final = ("tool_use", "thinking", "redacted_thinking")
"""Blocks that only answers hold."""

_SOURCES: Final = ("base64", "text", "url", "file")
"""Forms of media that the core knows. Any other (`content`: a document made of blocks) is for this wire."""


def kind_of(block: t.Block, place: str) -> str:
    """A block's type. Raises InvalidRequest."""
    try:
        return t.STRING.decode(block["type"])
    except (KeyError, msgspec.DecodeError):
        raise InvalidRequest.field(f"{place}.type", "must be given, e.g. text") from None


def plain_parts(content: str | Sequence[t.Block], place: str, unknown: Unknown) -> list[m.Part]:
    """Parts of a turn that is no answer, in order; results of tools among them."""
    if isinstance(content, str):
        return [m.Text(content)]
    return [_plain(block, f"{place}[{index}]", unknown) for index, block in enumerate(content)]


def _plain(block: t.Block, place: str, unknown: Unknown) -> m.Part:
    kind, data = kind_of(block, place), msgspec.json.encode(block)
    match kind:
        case "text":
            text, more = read(t.TEXT, data, place)
            unknown |= more
            return m.Text(text.text, cache=_cache(text.cache_control))
        case "image" | "document" if _is_foreign(block):
            return _kept(kind, block, place)
        case "image":
            media, more = read(t.MEDIA, data, place)
            unknown |= more
            return m.Image(_source(media.source, "image/png", f"{place}.source"), cache=_cache(media.cache_control))
        case "document":
            media, more = read(t.MEDIA, data, place)
            unknown |= more
            cited = media.citations is not None and media.citations.enabled
            source = _source(media.source, "application/pdf", f"{place}.source")
            return m.Document(source, media.title, cited, _cache(media.cache_control))
        case "tool_result":
            return _tool_result(data, place, unknown)
        case _ if kind in _ANSWERS:
            raise InvalidRequest.field(place, f"a block of type {kind} stands in messages of the assistant")
        case _:
            return _kept(kind, block, place)


def _is_foreign(block: t.Block) -> bool:
    """Whether a block's media come in a form that is not known here."""
    source = _object(block.get("source"))
    return isinstance(source.get("type"), str) and source["type"] not in _SOURCES


def _kept(kind: str, block: t.Block, place: str) -> m.NativeBlock:
    """The block as it came, for a provider of this wire."""
    return m.NativeBlock(kind, place, m.Opaque(m.NATIVE, t.WIRE, msgspec.json.encode(block)))


def _tool_result(data: bytes, place: str, unknown: Unknown) -> m.ToolResult:
    result, more = read(t.TOOL_RESULT, data, place)
    unknown |= more
    content = [] if result.content is None else plain_parts(result.content, f"{place}.content", unknown)
    for index, part in enumerate(content):
        if not isinstance(part, m.Text | m.Image | m.Document | m.NativeBlock):
            known = ", ".join(_RESULT_PARTS)
            raise InvalidRequest.field(f"{place}.content[{index}]", f"a tool's result holds {known}")
    return m.ToolResult(
        result.tool_use_id,
        tuple(content),  # type: ignore[arg-type]  # checked above
        bool(result.is_error),
        cache=_cache(result.cache_control),
    )


def _cache(marker: t.CacheControl | None) -> m.CacheControl | None:
    return None if marker is None else m.CacheControl(marker.ttl)


def _source(source: t.MediaSource, media_type: str, place: str) -> m.Source:
    match source:
        case t.MediaSource(type="base64", data=str(data)):
            return m.Inline(source.media_type or media_type, base64_bytes(data, f"{place}.data"))
        case t.MediaSource(type="text", data=str(data)):
            return m.Inline("text/plain", data.encode("utf-8", "replace"))
        case t.MediaSource(type="url", url=str(url)):
            return m.Remote(url, "" if source.media_type is None else source.media_type)
        case t.MediaSource(type="file", file_id=str(file_id)):
            return m.Uploaded(file_id)
        case _:
            raise UnsupportedParameter.field(place, "must be base64, text, url or file, with what that needs")


# --- answers that come back -------------------------------------------------------------------------------------------


def answer_parts(content: str | Sequence[t.Block], place: str) -> list[m.Part]:
    """Parts of an earlier answer. What a block holds beyond its part goes with it, for a provider of this wire; what
    came in our containers, for its own."""
    if isinstance(content, str):
        return [m.Text(content)]
    parts: list[m.Part] = []
    for index, block in enumerate(content):
        found = _answered(block, f"{place}[{index}]")
        if isinstance(found, Sealed):
            _attach(parts, found)
        else:
            parts.append(found)
    return parts


def _answered(block: t.Block, place: str) -> m.Part | Sealed:
    kind, data = kind_of(block, place), msgspec.json.encode(block)
    match kind:
        case "text":
            text, _ = read(t.TEXT, data, place)
            rest = _rest(block, "text", "cache_control")
            if _is_ours(block.get("citations")):
                rest.pop("citations", None)
            return m.Text(text.text, opaque=_native(rest), cache=_cache(text.cache_control))
        case "tool_use":
            call, _ = read(t.TOOL_USE, data, place)
            arguments = bytes(call.input).decode() if given(call.input) else "{}"
            opaque = _native(_rest(block, "id", "name", "input", "cache_control"))
            return m.ToolCall(call.id, call.name, arguments, opaque, _cache(call.cache_control))
        case "thinking":
            thought, _ = read(t.THINKING, data, place)
            sealed = unseal(thought.signature)
            if sealed is not None:
                return m.Reasoning(thought.thinking, sealed.opaque)
            return m.Reasoning(thought.thinking, _native(_rest(block, "thinking")) if thought.signature else None)
        case "redacted_thinking":
            redacted, _ = read(t.REDACTED, data, place)
            sealed = unseal(redacted.data)
            if sealed is None:
                return m.Reasoning("", _native(_rest(block)))
            return m.Reasoning("", sealed.opaque) if sealed.of is None else sealed
        case _:
            return _server_tool(kind, block)


def _server_tool(kind: str, block: t.Block) -> m.ServerTool:
    ours = _object(block.get(OURS))
    words = {name: str(ours.get(name) or "") for name in ("type", "output", "opaque")}
    sealed = unseal(words["opaque"])
    return m.ServerTool(
        words["type"] or kind,
        _string(block.get("id")) or _string(block.get("tool_use_id")),
        _string(block.get("name")),
        bytes(block.get("input", b"")).decode(),
        words["output"] or bytes(block.get("content", b"")).decode(),
        (sealed.opaque if sealed is not None else None) if ours else _native(_rest(block, "input", "content")),
    )


def _attach(parts: list[m.Part], sealed: Sealed) -> None:
    """Give a part what came behind it; nothing where the caller has not sent that part back."""
    for index in range(len(parts) - 1, -1, -1):
        part = parts[index]
        is_it = isinstance(part, m.ToolCall) and part.id == sealed.of
        if is_it or (sealed.of == PREVIOUS and index == len(parts) - 1 and isinstance(part, m.Text)):
            parts[index] = msgspec.structs.replace(part, opaque=sealed.opaque)
            return


def _rest(block: t.Block, *said: str) -> dict[str, msgspec.Raw]:
    """A block's members but those that the part says by itself, and null ones."""
    return {name: raw for name, raw in block.items() if name not in (*said, OURS) and given(raw)}


def _native(rest: dict[str, msgspec.Raw]) -> m.Opaque | None:
    """The rest of a block for a provider of this wire; None where it is nothing but the type."""
    if not rest.keys() - {"type"}:
        return None
    return m.Opaque(m.NATIVE, t.WIRE, msgspec.json.encode(rest))


def _is_ours(citations: msgspec.Raw | None) -> bool:
    """Whether citations are another provider's, which no index into Anthropic's search goes with."""
    found = msgspec.json.decode(citations) if citations is not None else None
    return isinstance(found, list) and any(isinstance(one, dict) and one.get("encrypted_index") == "" for one in found)


def _object(raw: msgspec.Raw | None) -> dict[str, Any]:
    try:
        return t.OBJECT.decode(raw) if raw is not None else {}
    except msgspec.DecodeError:
        return {}


def _string(raw: msgspec.Raw | None) -> str:
    try:
        return t.STRING.decode(raw) if raw is not None else ""
    except msgspec.DecodeError:
        return ""
