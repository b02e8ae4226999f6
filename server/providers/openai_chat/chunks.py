"""What comes back from /chat/completions, typed: chunks of a stream, and whole answers, which are one big chunk."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from server.core.events import Usage
from server.providers.parsing import all_tokens, try_decode

ABSENT: Final = msgspec.Raw(b"")

NOTHING: Final = (ABSENT, msgspec.Raw(b"null"))
"""What a raw field holds that says nothing: it is not there, or null."""


class TokenDetails(msgspec.Struct, frozen=True):
    """Parts of a count."""

    cached_tokens: float | None = None
    cache_write_tokens: float | None = None
    reasoning_tokens: float | None = None


_NO_DETAILS: Final = TokenDetails()


class WireUsage(msgspec.Struct, frozen=True):
    """prompt_cache_hit_tokens: DeepSeek's older name for cached ones."""

    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    total_tokens: float | None = None
    prompt_tokens_details: TokenDetails | None = None
    completion_tokens_details: TokenDetails | None = None
    prompt_cache_hit_tokens: float | None = None


class FunctionPiece(msgspec.Struct, frozen=True):
    """arguments: a string, an object (some servers), or nothing."""

    name: str | None = None
    arguments: msgspec.Raw = ABSENT


class ToolPiece(msgspec.Struct, frozen=True):
    """A piece of a tool call; any of it may be missing. extra_content: Gemini's signature, to be sent back."""

    index: float | None = None
    id: str | int | None = None
    function: FunctionPiece | None = None
    extra_content: msgspec.Raw = ABSENT


class ContentPart(msgspec.Struct, frozen=True):
    """Mistral's content list: text, or thinking with texts of its own."""

    type: str | None = None
    text: str | None = None
    thinking: str | list[ContentPart] | None = None


class UrlCitation(msgspec.Struct, frozen=True):
    """Offsets are characters of the answer's text."""

    url: str | None = None
    title: str | None = None
    content: str | None = None
    start_index: float | None = None
    end_index: float | None = None


class Annotation(msgspec.Struct, frozen=True):
    """A source; only url_citation is known."""

    type: str | None = None
    url_citation: UrlCitation | None = None


class Delta(msgspec.Struct, frozen=True):
    """A stream's delta, and a whole answer's message: they have the same fields."""

    content: str | list[ContentPart] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    tool_calls: list[ToolPiece] | None = None
    function_call: FunctionPiece | None = None
    refusal: str | None = None
    annotations: list[Annotation] | None = None
    executed_tools: list[dict[str, Any]] | None = None
    audio: msgspec.Raw = ABSENT
    images: msgspec.Raw = ABSENT


class Logprobs(msgspec.Struct, frozen=True):
    """One entry per token."""

    content: list[msgspec.Raw] | None = None


class Choice(msgspec.Struct, frozen=True):
    """One of `n` answers. delta in streams, message in whole answers. error: OpenRouter, for a choice that broke."""

    index: float | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    native_finish_reason: str | None = None
    logprobs: Logprobs | None = None
    error: msgspec.Raw = ABSENT


class GroqExtra(msgspec.Struct, frozen=True):
    """Groq's own corner."""

    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


class Chunk(msgspec.Struct, frozen=True):
    """One event of a stream, or a whole answer. Unknown fields are ignored."""

    id: str | None = None
    model: str | None = None
    choices: list[Choice] | None = None
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    x_groq: GroqExtra | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    provider: str | None = None
    citations: msgspec.Raw = ABSENT
    timings: msgspec.Raw = ABSENT
    usage_breakdown: msgspec.Raw = ABSENT


CHUNK: Final = msgspec.json.Decoder(Chunk)
USAGE: Final = msgspec.json.Decoder(WireUsage)
TEXT: Final = msgspec.json.Decoder(str)

_FINISH: Final = {
    "stop": "stop",
    "length": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}

BROKEN: Final = frozenset({"error", "insufficient_system_resource"})
"""Finish reasons that say that the answer is not whole (Mistral, OpenRouter; DeepSeek)."""


def map_finish_reason(raw: str, *, has_tool_calls: bool) -> str:
    """The neutral word; the raw one where there is no equal.

    A named tool_choice, Gemini and Ollama say `stop` beside tool calls, vLLM says `tool_calls` without any: what is in
    the answer decides between these two.
    """
    neutral = _FINISH.get(raw, raw)
    if neutral in ("stop", "tool_calls"):
        return "tool_calls" if has_tool_calls else "stop"
    return neutral


def map_usage(usage: WireUsage, *, reasoning_outside: bool = False) -> Usage:
    """Neutral counts. All zeros is how servers say that they did not count."""
    inputs = usage.prompt_tokens_details or _NO_DETAILS
    outputs = usage.completion_tokens_details or _NO_DETAILS
    prompt, completion, total, cached, written, reasoning = all_tokens(
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.total_tokens,
        inputs.cached_tokens if inputs.cached_tokens is not None else usage.prompt_cache_hit_tokens,
        inputs.cache_write_tokens,
        outputs.reasoning_tokens,
    )
    if not (prompt or completion or total):
        return Usage()
    if reasoning_outside and completion is not None:
        completion += reasoning or 0
    if total is None and prompt is not None and completion is not None:
        total = prompt + completion
    return Usage(prompt, completion, total, cached, written, reasoning)


def given(raw: msgspec.Raw) -> bool:
    """Whether a raw field is there and not null."""
    return raw not in NOTHING


def arguments_text(raw: msgspec.Raw) -> str | None:
    """Arguments as text: a string's content, an object as it stands."""
    if raw in NOTHING:
        return None
    text = bytes(raw)
    return try_decode(TEXT, text) if text.startswith(b'"') else text.decode("utf-8", "replace")
