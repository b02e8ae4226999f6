"""What comes back from generateContent, typed: each event of a stream is a whole response that holds what is new.

Enums and counts follow google/genai/types.py of python-genai and what was recorded. Google's JSON leaves out zero
values (proto3), so an absent count is 0 wherever another one is there.
"""

from __future__ import annotations

from typing import Final

import msgspec

from server.core.events import Usage
from server.providers.parsing import all_tokens

ABSENT: Final = msgspec.Raw(b"")

PartialValue = str | float | bool | None


class PartialArg(msgspec.Struct, frozen=True, rename="camel"):
    """A piece of a call's arguments (Vertex streamFunctionCallArguments): where it belongs, and one kind of value."""

    json_path: str = "$"
    string_value: str | None = None
    number_value: int | float | None = None
    bool_value: bool | None = None
    null_value: msgspec.Raw = ABSENT
    will_continue: bool | None = None


class FunctionCall(msgspec.Struct, frozen=True, rename="camel"):
    """A call, whole; or a piece of one where will_continue or partial_args is there."""

    name: str | None = None
    id: str | None = None
    args: msgspec.Raw = ABSENT
    partial_args: list[PartialArg] | None = None
    will_continue: bool | None = None


class Part(msgspec.Struct, frozen=True, rename="camel"):
    """One part of an answer: exactly one of its kinds, perhaps with a signature beside it."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    executable_code: msgspec.Raw = ABSENT
    code_execution_result: msgspec.Raw = ABSENT
    tool_call: msgspec.Raw = ABSENT
    tool_response: msgspec.Raw = ABSENT


class ServerStep(msgspec.Struct, frozen=True, rename="camel"):
    """A step of a tool that ran at the provider, of any of the four kinds; their fields do not collide."""

    id: str | None = None
    tool_type: str | None = None
    args: msgspec.Raw = ABSENT
    response: msgspec.Raw = ABSENT
    language: str | None = None
    code: str | None = None
    outcome: str | None = None
    output: str | None = None


class Content(msgspec.Struct, frozen=True):
    """Parts are read one by one, so that each can be kept as it came. Blocked answers have none, or no content."""

    parts: list[msgspec.Raw] | None = None


class LogprobsResult(msgspec.Struct, frozen=True, rename="camel"):
    """One entry per token."""

    top_candidates: list[msgspec.Raw] | None = None
    chosen_candidates: list[msgspec.Raw] | None = None


class Candidate(msgspec.Struct, frozen=True, rename="camel"):
    """One answer. index is left out where it is 0."""

    index: float | None = None
    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    safety_ratings: msgspec.Raw = ABSENT
    grounding_metadata: msgspec.Raw = ABSENT
    citation_metadata: msgspec.Raw = ABSENT
    url_context_metadata: msgspec.Raw = ABSENT
    logprobs_result: LogprobsResult | None = None
    avg_logprobs: msgspec.Raw = ABSENT


class PromptFeedback(msgspec.Struct, frozen=True, rename="camel"):
    """Why a prompt was not answered at all."""

    block_reason: str | None = None
    block_reason_message: str | None = None


class WireUsage(msgspec.Struct, frozen=True, rename="camel"):
    """prompt includes cached; candidates excludes thoughts; total is the sum of the other four."""

    prompt_token_count: float | None = None
    candidates_token_count: float | None = None
    thoughts_token_count: float | None = None
    tool_use_prompt_token_count: float | None = None
    cached_content_token_count: float | None = None
    total_token_count: float | None = None


class Chunk(msgspec.Struct, frozen=True, rename="camel"):
    """One event of a stream, or a whole answer. Unknown fields are ignored."""

    candidates: list[Candidate] | None = None
    prompt_feedback: msgspec.Raw = ABSENT
    usage_metadata: msgspec.Raw = ABSENT
    model_version: str | None = None
    response_id: str | None = None
    error: msgspec.Raw = ABSENT


CHUNK: Final = msgspec.json.Decoder(Chunk)
ANSWER: Final[msgspec.json.Decoder[Chunk | list[Chunk]]] = msgspec.json.Decoder(Chunk | list[Chunk])
"""A list is what a stream is without `alt=sse`."""
PART: Final = msgspec.json.Decoder(Part)
STEP: Final = msgspec.json.Decoder(ServerStep)
USAGE: Final = msgspec.json.Decoder(WireUsage)
FEEDBACK: Final = msgspec.json.Decoder(PromptFeedback)
KEYS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

_FINISH: Final = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
}

BROKEN: Final = frozenset(
    {"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"}
)
"""Finish reasons that say that the model failed at its answer: there is nothing to act on, and asking again helps."""


def map_finish_reason(raw: str, *, has_tool_calls: bool) -> str:
    """The neutral word; the raw one where there is no equal (LANGUAGE, OTHER, NO_IMAGE). Gemini says STOP for calls
    too."""
    if raw == "STOP" and has_tool_calls:
        return "tool_calls"
    return _FINISH.get(raw, raw)


def map_usage(usage: WireUsage) -> Usage | None:
    """Neutral counts; None where the provider has not counted yet."""
    prompt, candidates, thoughts, tools, total, cached = all_tokens(
        usage.prompt_token_count,
        usage.candidates_token_count,
        usage.thoughts_token_count,
        usage.tool_use_prompt_token_count,
        usage.total_token_count,
        usage.cached_content_token_count,
    )
    if prompt is None and candidates is None and thoughts is None and total is None:
        return None
    asked = (prompt or 0) + (tools or 0)
    answered = (candidates or 0) + (thoughts or 0)
    return Usage(
        prompt_tokens=asked,
        completion_tokens=answered,
        total_tokens=asked + answered if total is None else total,
        cached_tokens=cached,
        reasoning_tokens=thoughts,
    )


def given(raw: msgspec.Raw) -> bool:
    """Whether a raw field is there and says something."""
    return raw is not ABSENT and bytes(raw) not in (b"null", b"{}", b"[]")
