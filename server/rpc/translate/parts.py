"""The parts of turns, both ways: what an answer is rendered to comes back as the same core parts with the history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dragoman.v1 import chat_pb2 as pb
from server.core import messages as m
from server.core.errors import InvalidRequest

ROLE_PARTS: Mapping[str, frozenset[str]] = {
    "system": frozenset({"text"}),
    "user": frozenset({"text", "image", "document", "audio"}),
    "assistant": frozenset({"text", "reasoning", "tool_call", "server_tool"}),
    "tool": frozenset({"text", "image", "document"}),
}
"""Which parts a turn can hold, by its role."""

MOST_INT32 = 2**31

_CACHEABLE = frozenset({"text", "image", "document", "tool_call"})

_MEDIA_FIELDS: Mapping[str, frozenset[str]] = {
    "image": frozenset({"detail"}),
    "document": frozenset({"name", "citations"}),
    "audio": frozenset(),
}
"""Which of MediaPart's fields each kind of media takes, besides its source."""


# --- proto to core ----------------------------------------------------------------------------------------------------


def part_from_proto(part: pb.Part, role: m.Role, path: str) -> m.Part:
    """One part of a turn. Raises InvalidRequest, its field below `path`, for one that the role cannot hold."""
    kind = part.WhichOneof("part")
    if kind is None or kind not in ROLE_PARTS[role]:
        allowed = ", ".join(sorted(ROLE_PARTS[role]))
        raise InvalidRequest.field(path, f"a message with role {role} holds parts of {allowed} (got {kind})")
    cache = cache_from_proto(part)
    if cache is not None and kind not in _CACHEABLE:
        raise InvalidRequest.field(f"{path}.cache_control", f"cannot stand on {kind}")
    return _FROM_PROTO[kind](getattr(part, kind), cache, f"{path}.{kind}")


def cache_from_proto(holder: pb.Part | pb.Tool) -> m.CacheControl | None:
    """The holder's cache_control, None where it has none."""
    return m.CacheControl(holder.cache_control.ttl or None) if holder.HasField("cache_control") else None


def tool_call_from_proto(call: pb.ToolCall, cache: m.CacheControl | None = None) -> m.ToolCall:
    """A call with its arguments byte for byte; none are an empty object."""
    return m.ToolCall(call.id, call.function.name, call.function.arguments or "{}", _opaque(call), cache)


def _text(part: pb.TextPart, cache: m.CacheControl | None, _path: str) -> m.Text:
    return m.Text(part.text, tuple(map(_citation, part.citations)), _opaque(part), part.logprobs_json, cache)


def _citation(citation: pb.Citation) -> m.Citation:
    given = {field.name: value for field, value in citation.ListFields()}
    return m.Citation(**given)


def _image(part: pb.MediaPart, cache: m.CacheControl | None, path: str) -> m.Image:
    return m.Image(_source(part, "image", path), part.detail or None, cache)


def _document(part: pb.MediaPart, cache: m.CacheControl | None, path: str) -> m.Document:
    return m.Document(_source(part, "document", path), part.name or None, part.citations, cache)


def _audio(part: pb.MediaPart, _cache: m.CacheControl | None, path: str) -> m.Audio:
    return m.Audio(_source(part, "audio", path))


def _source(part: pb.MediaPart, kind: str, path: str) -> m.Source:
    for name in ("detail", "name", "citations"):
        if getattr(part, name) and name not in _MEDIA_FIELDS[kind]:
            raise InvalidRequest.field(f"{path}.{name}", f"cannot stand on {kind}")
    match part.WhichOneof("source"):
        case "url":
            return m.Remote(_filled(part.url, f"{path}.url"), part.media_type)
        case "file_id":
            return m.Uploaded(_filled(part.file_id, f"{path}.file_id"), part.media_type)
        case _:
            if not part.data:
                raise InvalidRequest.field(f"{path}.data", "must not be empty")
            if not part.media_type:
                raise InvalidRequest.field(f"{path}.media_type", "must be given with data, e.g. image/png")
            return m.Inline(part.media_type, part.data)


def _filled(text: str, path: str) -> str:
    if not text:
        raise InvalidRequest.field(path, "must not be empty")
    return text


def _reasoning(part: pb.ReasoningPart, _cache: m.CacheControl | None, _path: str) -> m.Reasoning:
    return m.Reasoning(part.text, _opaque(part))


def _tool_call(call: pb.ToolCall, cache: m.CacheControl | None, _path: str) -> m.ToolCall:
    return tool_call_from_proto(call, cache)


def _server_tool(part: pb.ServerToolPart, _cache: m.CacheControl | None, _path: str) -> m.ServerTool:
    return m.ServerTool(part.type, part.id, part.name, part.input_json, part.output_json, _opaque(part))


def _opaque(holder: pb.TextPart | pb.ReasoningPart | pb.ToolCall | pb.ServerToolPart) -> m.Opaque | None:
    if not holder.HasField("opaque"):
        return None
    return m.Opaque(holder.opaque.provider, holder.opaque.model, holder.opaque.data)


_FROM_PROTO: Mapping[str, Callable[[Any, m.CacheControl | None, str], m.Part]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "audio": _audio,
    "reasoning": _reasoning,
    "tool_call": _tool_call,
    "server_tool": _server_tool,
}


# --- core to proto: what an answer is made of -------------------------------------------------------------------------


def fill_answer(turn: pb.Message, message: m.Message) -> None:
    """An answer as a turn of the contract: content and tool_calls where they say everything, else parts."""
    turn.role = message.role
    parts = message.parts
    first = parts[0] if parts else None
    text = first.text if isinstance(first, m.Text) and first == m.Text(first.text) else ""
    others = parts[1:] if text else parts
    calls = [part for part in others if isinstance(part, m.ToolCall) and part.cache is None] if others else []
    if len(calls) < len(others):
        turn.parts.extend(map(_part_to_proto, parts))
        return
    if text:
        turn.content = text
    if calls:
        turn.tool_calls.extend(map(tool_call_to_proto, calls))


def tool_call_to_proto(call: m.ToolCall) -> pb.ToolCall:
    """A call as OpenAI's element, with its opaque data beside it."""
    made = pb.ToolCall(id=call.id, type="function", opaque=opaque_to_proto(call.opaque))
    made.function.name, made.function.arguments = call.name, call.arguments
    return made


def opaque_to_proto(opaque: m.Opaque | None) -> pb.Opaque | None:
    """Provider's own data, byte for byte."""
    return None if opaque is None else pb.Opaque(provider=opaque.provider, model=opaque.model, data=opaque.data)


def citation_to_proto(citation: m.Citation) -> pb.Citation:
    """A source; offsets that are no int32 are not an offset in a text, and are left out."""
    return pb.Citation(
        url=citation.url,
        title=citation.title,
        cited_text=citation.cited_text,
        start=int32(citation.start),
        end=int32(citation.end),
    )


def int32(number: int | None) -> int | None:
    """`number` if the contract's counters can hold it; a count beyond 2^31 is no count, so it is as if not reported."""
    return number if number is not None and -MOST_INT32 <= number < MOST_INT32 else None


def _part_to_proto(part: m.Part) -> pb.Part:
    match part:
        case m.Text():
            return pb.Part(
                text=pb.TextPart(
                    text=part.text,
                    citations=map(citation_to_proto, part.citations),
                    opaque=opaque_to_proto(part.opaque),
                    logprobs_json=part.logprobs,
                ),
                cache_control=_cache_to_proto(part.cache),
            )
        case m.Reasoning():
            return pb.Part(reasoning=pb.ReasoningPart(text=part.text, opaque=opaque_to_proto(part.opaque)))
        case m.ToolCall():
            return pb.Part(tool_call=tool_call_to_proto(part), cache_control=_cache_to_proto(part.cache))
        case m.ServerTool():
            return pb.Part(
                server_tool=pb.ServerToolPart(
                    type=part.type,
                    id=part.id,
                    name=part.name,
                    input_json=part.input,
                    output_json=part.output,
                    opaque=opaque_to_proto(part.opaque),
                )
            )
        case m.Image() | m.Document() | m.Audio() | m.ToolResult() | m.NativeBlock():
            raise TypeError(f"an answer holds no {type(part).__name__}")


def _cache_to_proto(cache: m.CacheControl | None) -> pb.CacheControl | None:
    return None if cache is None else pb.CacheControl(ttl=cache.ttl or "")
