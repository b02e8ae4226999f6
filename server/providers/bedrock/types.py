"""What comes back from Bedrock: whole answers, stream events, errors, the lists of models.

Names are the wire's in snake case (botocore `bedrock-runtime/2023-09-30/service-2.json` and
`bedrock/2023-04-20/service-2.json`). Unknown members are ignored, every member may be missing or null. A content block
is a union: one member, whose name says what the block is.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

Members = dict[str, msgspec.Raw]
"""A JSON object whose members stay as the bytes that came."""

ABSENT: Final = msgspec.Raw(b"")
"""A raw member that did not come; `given` asks for it (msgspec knows no optional Raw)."""


def given(data: msgspec.Raw) -> bool:
    """Whether a raw member came, and not as null."""
    return bytes(data) not in (b"", b"null")


class Usage(msgspec.Struct, frozen=True, rename="camel"):
    """TokenUsage. inputTokens excludes what was read from the cache or written to it; totalTokens includes both. The
    two ...TokenCount are older names that still come beside the others."""

    input_tokens: float | None = None
    output_tokens: float | None = None
    total_tokens: float | None = None
    cache_read_input_tokens: float | None = None
    cache_write_input_tokens: float | None = None
    cache_read_input_token_count: float | None = None
    cache_write_input_token_count: float | None = None


class Message(msgspec.Struct, frozen=True, rename="camel"):
    """The answer's content blocks."""

    content: list[Members] | None = None


class Output(msgspec.Struct, frozen=True, rename="camel"):
    """ConverseOutput."""

    message: Message | None = None


class PromptRouter(msgspec.Struct, frozen=True, rename="camel"):
    """Which model a prompt router chose."""

    invoked_model_id: str | None = None


class Trace(msgspec.Struct, frozen=True, rename="camel"):
    """What of a trace is read; the whole of it goes into provider_metadata."""

    prompt_router: PromptRouter | None = None


class ConverseResponse(msgspec.Struct, frozen=True, rename="camel"):
    """A whole answer; also the metadata event of a stream, which has the same members at its end."""

    output: Output | None = None
    stop_reason: str | None = None
    usage: msgspec.Raw = ABSENT
    metrics: msgspec.Raw = ABSENT
    trace: msgspec.Raw = ABSENT
    performance_config: msgspec.Raw = ABSENT
    service_tier: msgspec.Raw = ABSENT
    additional_model_response_fields: msgspec.Raw = ABSENT


class ToolUseDelta(msgspec.Struct, frozen=True, rename="camel"):
    """A piece of a tool call's input, JSON text."""

    input: str | None = None


class ReasoningDelta(msgspec.Struct, frozen=True, rename="camel"):
    """A piece of a thought, its signature, or an encrypted thought (base64)."""

    text: str | None = None
    signature: str | None = None
    redacted_content: str | None = None


class Delta(msgspec.Struct, frozen=True, rename="camel"):
    """ContentBlockDelta: one of these. toolResult: a list of blocks."""

    text: str | None = None
    tool_use: ToolUseDelta | None = None
    reasoning_content: ReasoningDelta | None = None
    tool_result: list[msgspec.Raw] | None = None
    citation: msgspec.Raw = ABSENT


class DeltaEvent(msgspec.Struct, frozen=True, rename="camel"):
    """contentBlockDelta."""

    content_block_index: int | None = None
    delta: Delta | None = None


class StartEvent(msgspec.Struct, frozen=True, rename="camel"):
    """contentBlockStart: only for toolUse, toolResult and image."""

    content_block_index: int | None = None
    start: Members | None = None


class StopEvent(msgspec.Struct, frozen=True, rename="camel"):
    """contentBlockStop, and messageStop."""

    content_block_index: int | None = None
    stop_reason: str | None = None
    additional_model_response_fields: msgspec.Raw = ABSENT


class Reasoning(msgspec.Struct, frozen=True, rename="camel"):
    """reasoningContent of a whole answer."""

    reasoning_text: ReasoningDelta | None = None
    redacted_content: str | None = None


class SourceText(msgspec.Struct, frozen=True, rename="camel"):
    """A stretch of text: of a citation's source, or of what it stands for."""

    text: str | None = None


class Web(msgspec.Struct, frozen=True, rename="camel"):
    """A page that was found by a web search."""

    url: str | None = None
    domain: str | None = None


class Location(msgspec.Struct, frozen=True, rename="camel"):
    """Where in the source; the places in documents stay in the opaque data."""

    web: Web | None = None


class Citation(msgspec.Struct, frozen=True, rename="camel"):
    """A source. In a stream it comes as a delta of the text that it belongs to."""

    title: str | None = None
    source: str | None = None
    source_content: list[SourceText] | None = None
    location: Location | None = None


class CitationsContent(msgspec.Struct, frozen=True, rename="camel"):
    """Text with its sources, one block."""

    content: list[SourceText] | None = None
    citations: list[msgspec.Raw] | None = None


class ErrorBody(msgspec.Struct, frozen=True, rename="camel"):
    """An error's body; its type is in a header, in some services in `__type`. The refusal of an API key writes
    Message."""

    message: str | None = None
    capital_message: str | None = msgspec.field(name="Message", default=None)
    type: str | None = msgspec.field(name="__type", default=None)
    original_status_code: int | None = None
    original_message: str | None = None


class FoundationModel(msgspec.Struct, frozen=True, rename="camel"):
    """A row of the foundation models."""

    model_id: str | None = None
    model_name: str | None = None
    provider_name: str | None = None


class InferenceProfile(msgspec.Struct, frozen=True, rename="camel"):
    """A row of the inference profiles. type: SYSTEM_DEFINED, or APPLICATION, which is called by its ARN."""

    inference_profile_id: str | None = None
    inference_profile_name: str | None = None
    inference_profile_arn: str | None = None
    type: str | None = None


class ModelList(msgspec.Struct, frozen=True, rename="camel"):
    """Either list."""

    model_summaries: list[FoundationModel] | None = None
    inference_profile_summaries: list[InferenceProfile] | None = None
    next_token: str | None = None


RESPONSE: Final = msgspec.json.Decoder(ConverseResponse)
DELTA_EVENT: Final = msgspec.json.Decoder(DeltaEvent)
START_EVENT: Final = msgspec.json.Decoder(StartEvent)
STOP_EVENT: Final = msgspec.json.Decoder(StopEvent)
MEMBERS: Final = msgspec.json.Decoder(Members)
OBJECT: Final[msgspec.json.Decoder[dict[str, Any]]] = msgspec.json.Decoder(dict[str, Any])
TEXT: Final = msgspec.json.Decoder(str)
RAW_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
REASONING: Final = msgspec.json.Decoder(Reasoning)
CITATION: Final = msgspec.json.Decoder(Citation)
CITATIONS_CONTENT: Final = msgspec.json.Decoder(CitationsContent)
USAGE: Final = msgspec.json.Decoder(Usage)
TRACE: Final = msgspec.json.Decoder(Trace)
ERROR_BODY: Final = msgspec.json.Decoder(ErrorBody)
MODELS: Final = msgspec.json.Decoder(ModelList)
