"""The core's answers as Anthropic's message: content blocks, stop reason, usage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from server.core import messages as m
from server.core.events import Usage, Warning
from server.core.native import kept
from server.core.ports import TokenCount
from server.core.stream import ChatResponse
from server.rpc.compat.anthropic import types as t
from server.rpc.compat.anthropic.blocks import OURS
from server.rpc.compat.frame import decoded, told_warnings
from server.rpc.compat.opaque import PREVIOUS, seal

Members = dict[str, Any]

_STOP: Final = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}

NO_JSON: Final = "INVALID_JSON"
"""Where a tool's arguments stand that are no JSON object, as Anthropic's documentation has it for tools of its own."""


def message(answer: ChatResponse, *, id: str) -> Members:
    """A whole answer. id: where the provider gives none."""
    metadata = decoded(answer.provider_metadata)
    native = answer.wire == t.WIRE
    content = [block for part in answer.message.parts for block in blocks(part, native=native)]
    beyond = {name: value for one in answer.native for name, value in kept(one).get("message", {}).items()}
    ending = end(answer.finish_reason, answer.raw_finish_reason, answer.refusal, metadata, native=native)
    return {
        **beyond,
        "id": answer.id or id,
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        **ending,
        "usage": usage(answer.usage, metadata, native=native),
        OURS: beside(answer.provider, answer.raw_finish_reason, answer.warnings),
    }


def token_count(found: TokenCount) -> Members:
    """The answer of count_tokens."""
    told: Members = {"provider": found.provider}
    if found.warnings:
        told["warnings"] = told_warnings(found.warnings)
    return {"input_tokens": found.input_tokens, OURS: told}


def beside(provider: str, raw_finish_reason: str, warnings: Sequence[Warning]) -> Members:
    """What Anthropic's form has no place for."""
    told: Members = {"provider": provider, "raw_finish_reason": raw_finish_reason}
    if warnings:
        told["warnings"] = told_warnings(warnings)
    return told


def end(reason: str, raw: str, refusal: str, metadata: Mapping[str, Any], *, native: bool) -> Members:
    """stop_reason and what goes with it. native: the words are Anthropic's already. Any other provider does not say
    which stop sequence it met, and `end_turn` stands for reasons that Anthropic does not have."""
    found: Members = {
        "stop_reason": raw if native else _STOP.get(reason, "end_turn"),
        "stop_sequence": metadata.get("stop_sequence") if native else None,
    }
    for name in ("stop_details", "container", "context_management"):
        if native and metadata.get(name) is not None:
            found[name] = metadata[name]
    if refusal and "stop_details" not in found:
        found["stop_details"] = {"type": "refusal", "category": None, "explanation": refusal}
    return found


def usage(counts: Usage, metadata: Mapping[str, Any], *, native: bool) -> Members:
    """Counts in Anthropic's way, where the prompt is what neither was read from the cache nor written to it. null for
    what the provider did not count."""
    own = metadata.get("usage") if native else None
    if isinstance(own, dict):
        return own
    fresh = counts.prompt_tokens
    if fresh is not None:
        fresh -= (counts.cached_tokens or 0) + (counts.cache_write_tokens or 0)
    found: Members = {
        "input_tokens": fresh,
        "output_tokens": counts.completion_tokens,
        "cache_creation_input_tokens": counts.cache_write_tokens,
        "cache_read_input_tokens": counts.cached_tokens,
    }
    if counts.reasoning_tokens is not None:
        found["output_tokens_details"] = {"thinking_tokens": counts.reasoning_tokens}
    return found


# --- blocks -----------------------------------------------------------------------------------------------------------


def blocks(part: m.Part, *, native: bool) -> list[Members]:
    """A part's block; behind it one that carries another provider's data for it, where it has no place for them."""
    rest = rest_of(part, native=native)
    match part:
        case m.Text():
            cited = citations(part.citations)
            block = {"type": "text", "text": part.text, **(rest or ({"citations": cited} if cited else {}))}
            return [block, *carrier(part.opaque, PREVIOUS, native=native)]
        case m.ToolCall():
            block = {**tool_use(part.id, part.name), **rest, "input": tool_input(part.arguments)}
            return [block, *carrier(part.opaque, part.id, native=native)]
        case m.Reasoning():
            return thinking(part.text, part.opaque, rest, native=native)
        case m.ServerTool():
            return [server_tool(part, rest, native=native)]
        case _:
            raise TypeError(f"an answer holds no {type(part).__name__}")


def rest_of(part: m.Part, *, native: bool) -> Members:
    """What a provider of this wire said in the block beyond the part, {} for any other provider."""
    opaque = getattr(part, "opaque", None)
    return dict(msgspec.json.decode(opaque.data, type=t.Block)) if native and opaque is not None else {}


def tool_use(id: str, name: str) -> Members:
    """The block of a call, its input not yet there."""
    return {"type": "tool_use", "id": id, "name": name, "input": {}}


def tool_input(arguments: str) -> object:
    """Arguments as an object, byte for byte."""
    try:
        t.OBJECT.decode(arguments)
    except msgspec.DecodeError:
        return {NO_JSON: arguments}
    return msgspec.Raw(arguments.encode())


def carrier(opaque: m.Opaque | None, of: str, *, native: bool) -> list[Members]:
    """A block for another provider's data that belong to a text or a tool call; callers send back blocks that they
    cannot read."""
    return [] if opaque is None or native else [{"type": "redacted_thinking", "data": seal(opaque, of)}]


def thinking(text: str, opaque: m.Opaque | None, rest: Members, *, native: bool) -> list[Members]:
    """Thoughts, signed by our container where another provider signed them its way; none for thoughts without both."""
    if native:
        is_redacted = bytes(rest.get("type", b"")) == b'"redacted_thinking"'
        return [rest if is_redacted else {"type": "thinking", "thinking": text, "signature": "", **rest}]
    if opaque is None:
        return [{"type": "thinking", "thinking": text, "signature": ""}] if text else []
    if not text:
        return [{"type": "redacted_thinking", "data": seal(opaque)}]
    return [{"type": "thinking", "thinking": text, "signature": seal(opaque)}]


def server_tool(part: m.ServerTool, rest: Members, *, native: bool) -> Members:
    """A step of a tool that the provider ran. Another provider's is told as a call of the nearest kind; what it was
    stands in x_dragoman."""
    if native:
        for name, text in (("input", part.input), ("content", part.output)):
            if text:
                rest[name] = msgspec.Raw(text.encode())
        return {"type": part.type, **rest}
    kept = {"type": part.type, "output": part.output, "opaque": seal(part.opaque) if part.opaque is not None else ""}
    return {
        "type": "server_tool_use",
        "id": part.id,
        "name": part.name or part.type,
        "input": tool_input(part.input or "{}"),
        OURS: {name: value for name, value in kept.items() if value},
    }


def citations(found: Sequence[m.Citation]) -> list[Members] | None:
    """Another provider's sources, as results of a web search; they have no index into Anthropic's own."""
    known = [
        {
            "type": "web_search_result_location",
            "url": one.url or "",
            "title": one.title,
            "cited_text": one.cited_text or "",
            "encrypted_index": "",
        }
        for one in found
    ]
    return known or None
