"""What comes back from /responses, typed: events of a stream, items, and whole answers.

Unknown event and item types are never decoded by these: providers add some all the time.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from server.core.events import Usage
from server.providers.openai_chat.chunks import ABSENT
from server.providers.parsing import all_tokens

DIALECT: Final = "openai_responses"
"""This wire's name among those that callers may speak too (`Wire.dialect`)."""


class Details(msgspec.Struct, frozen=True):
    """Parts of a count."""

    cached_tokens: float | None = None
    cache_write_tokens: float | None = None
    reasoning_tokens: float | None = None


class WireUsage(msgspec.Struct, frozen=True):
    """output_tokens includes reasoning, at every server."""

    input_tokens: float | None = None
    output_tokens: float | None = None
    total_tokens: float | None = None
    input_tokens_details: Details | None = None
    output_tokens_details: Details | None = None


class Annotation(msgspec.Struct, frozen=True):
    """A source. Offsets are characters of the part's text; only url_citation and container_file_citation have them."""

    type: str | None = None
    url: str | None = None
    title: str | None = None
    filename: str | None = None
    start_index: float | None = None
    end_index: float | None = None


class Part(msgspec.Struct, frozen=True):
    """A piece of a message or of a reasoning item."""

    type: str | None = None
    text: str | None = None
    refusal: str | None = None
    annotations: list[msgspec.Raw] | None = None
    logprobs: list[msgspec.Raw] | None = None


class Item(msgspec.Struct, frozen=True):
    """An output item of a type that this gateway knows. arguments: a string, from some servers an object."""

    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: msgspec.Raw = ABSENT
    input: str | None = None
    encrypted_content: str | None = None
    content: list[Part] | None = None
    summary: list[Part] | None = None


class ItemHead(msgspec.Struct, frozen=True):
    """What every item has."""

    type: str | None = None
    id: str | None = None


class Incomplete(msgspec.Struct, frozen=True):
    """Why an answer is incomplete: max_output_tokens, content_filter."""

    reason: str | None = None


class Response(msgspec.Struct, frozen=True):
    """A whole answer, or what an event says of one. status: completed, incomplete, failed, queued, in_progress,
    cancelled."""

    id: str | None = None
    model: str | None = None
    status: str | None = None
    output: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    incomplete_details: Incomplete | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None


class EventHead(msgspec.Struct, frozen=True):
    """The type of an event; LM Studio sends an error without one."""

    type: str | None = None
    error: msgspec.Raw = ABSENT


class Event(msgspec.Struct, frozen=True):
    """One event of a stream, of a type in `answer.py`'s tables. The item that it is about is told by output_index:
    ids may change from event to event (GitHub Copilot)."""

    output_index: float | None = None
    item_id: str | None = None
    content_index: float | None = None
    summary_index: float | None = None
    delta: str | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: msgspec.Raw = ABSENT
    input: str | None = None
    logprobs: list[msgspec.Raw] | None = None
    item: msgspec.Raw = ABSENT
    part: Part | None = None
    annotation: msgspec.Raw = ABSENT
    response: msgspec.Raw = ABSENT


USAGE: Final = msgspec.json.Decoder(WireUsage)
ANNOTATION: Final = msgspec.json.Decoder(Annotation)
ITEM: Final = msgspec.json.Decoder(Item)
ITEM_HEAD: Final = msgspec.json.Decoder(ItemHead)
RESPONSE: Final = msgspec.json.Decoder(Response)
EVENT_HEAD: Final = msgspec.json.Decoder(EventHead)
EVENT: Final = msgspec.json.Decoder(Event)
OBJECT: Final = msgspec.json.Decoder(dict[str, Any])

_INCOMPLETE: Final = {"max_output_tokens": "length", "content_filter": "content_filter"}


def raw_finish_reason(status: str, reason: str | None) -> str:
    """The provider's two words as one: `completed`, `incomplete:max_output_tokens`."""
    return f"{status}:{reason}" if status == "incomplete" and reason else status


def map_finish_reason(status: str, reason: str | None, *, has_tool_calls: bool) -> str:
    """The neutral word; the raw one where there is no equal. The API has no word for tool calls: they are in the
    answer or not."""
    if status == "completed":
        return "tool_calls" if has_tool_calls else "stop"
    if status == "incomplete" and reason in _INCOMPLETE:
        return _INCOMPLETE[reason]
    return raw_finish_reason(status, reason)


def map_usage(usage: WireUsage) -> Usage:
    """Neutral counts. A zero is a count here: OpenAI has sent nothing but zeros for an incomplete answer."""
    inputs = usage.input_tokens_details or Details()
    outputs = usage.output_tokens_details or Details()
    prompt, completion, total, cached, written, reasoning = all_tokens(
        usage.input_tokens,
        usage.output_tokens,
        usage.total_tokens,
        inputs.cached_tokens,
        inputs.cache_write_tokens,
        outputs.reasoning_tokens,
    )
    if total is None and prompt is not None and completion is not None:
        total = prompt + completion
    return Usage(prompt, completion, total, cached, written, reasoning)
