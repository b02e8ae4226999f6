"""What comes back from the Messages API: whole messages, stream events, errors, the list of models.

Field names are the wire's (anthropic-sdk-python `types/message.py`, `raw_message_stream_event.py`, `model_info.py`; the
beta ones among them). Unknown fields are ignored, every field may be missing or null.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

DIALECT: Final = "anthropic_messages"
"""This wire's name among those that callers may speak too (`Wire.dialect`)."""

Members = dict[str, msgspec.Raw]
"""A JSON object whose members stay as the bytes that came."""

ABSENT: Final = msgspec.Raw(b"")
"""A raw member that did not come; `given` asks for it (msgspec knows no optional Raw)."""


def given(data: msgspec.Raw) -> bool:
    """Whether a raw member came, and not as null."""
    return bytes(data) not in (b"", b"null")


class Usage(msgspec.Struct, frozen=True):
    """Counts as the provider sends them. input_tokens excludes what was read from the cache or written to it."""

    input_tokens: float | None = None
    output_tokens: float | None = None
    cache_creation_input_tokens: float | None = None
    cache_read_input_tokens: float | None = None
    output_tokens_details: OutputDetails | None = None


class OutputDetails(msgspec.Struct, frozen=True):
    """Part of output_tokens."""

    thinking_tokens: float | None = None


class StopDetails(msgspec.Struct, frozen=True):
    """Why the model declined. category: cyber, bio, ... null where none is named."""

    category: str | None = None
    explanation: str | None = None


class WireMessage(msgspec.Struct, frozen=True):
    """A whole answer; in a stream's message_start its head. type: "message", or "error" in a body that is none."""

    type: str | None = None
    id: str | None = None
    model: str | None = None
    content: list[Members] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: msgspec.Raw = ABSENT
    container: msgspec.Raw = ABSENT
    context_management: msgspec.Raw = ABSENT
    usage: msgspec.Raw = ABSENT


class Delta(msgspec.Struct, frozen=True):
    """The delta of a content block, and that of the message at its end: no name means two things."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    citation: msgspec.Raw = ABSENT
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: msgspec.Raw = ABSENT
    container: msgspec.Raw = ABSENT


class Event(msgspec.Struct, frozen=True):
    """One event of a stream, whichever it is. delta is read as `Delta`, or as members where its type is unknown."""

    type: str | None = None
    message: WireMessage | None = None
    index: int | None = None
    content_block: Members | None = None
    delta: msgspec.Raw = ABSENT
    usage: msgspec.Raw = ABSENT
    context_management: msgspec.Raw = ABSENT


class Citation(msgspec.Struct, frozen=True):
    """Any of the five kinds: where in a document, or which page of a search."""

    url: str | None = None
    source: str | None = None
    title: str | None = None
    document_title: str | None = None
    cited_text: str | None = None


class ErrorDetails(msgspec.Struct, frozen=True):
    """error_code: says what `type` is too coarse for (enforced_spend_limit_reached)."""

    error_code: str | None = None


class ErrorObject(msgspec.Struct, frozen=True):
    """type: invalid_request_error, overloaded_error, ..."""

    type: str | None = None
    message: str | None = None
    details: msgspec.Raw = ABSENT


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of a refusal, and the `error` event of a stream. message, detail: where a proxy before it speaks."""

    error: ErrorObject | str | None = None
    message: str | None = None
    detail: str | None = None


class Model(msgspec.Struct, frozen=True):
    """A row of the list of models. max_tokens: of an answer."""

    id: str | None = None
    display_name: str | None = None
    max_input_tokens: float | None = None
    max_tokens: float | None = None


class ModelList(msgspec.Struct, frozen=True):
    """A page of the list."""

    data: list[Model] | None = None
    has_more: bool | None = None
    last_id: str | None = None


MESSAGE: Final = msgspec.json.Decoder(WireMessage)
EVENT: Final = msgspec.json.Decoder(Event)
DELTA: Final = msgspec.json.Decoder(Delta)
MEMBERS: Final = msgspec.json.Decoder(Members)
OBJECT: Final[msgspec.json.Decoder[dict[str, Any]]] = msgspec.json.Decoder(dict[str, Any])
TEXT: Final = msgspec.json.Decoder(str)
CITATION: Final = msgspec.json.Decoder(Citation)
CITATIONS: Final = msgspec.json.Decoder(list[msgspec.Raw])
STOP_DETAILS: Final = msgspec.json.Decoder(StopDetails)
ERROR_BODY: Final = msgspec.json.Decoder(ErrorBody)
ERROR_DETAILS: Final = msgspec.json.Decoder(ErrorDetails)
MODELS: Final = msgspec.json.Decoder(ModelList)
