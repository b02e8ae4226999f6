"""POST /v1/messages as Anthropic documents it (platform.claude.com/docs/en/api/messages; anthropic-sdk-python
`types/message_create_params.py`): what callers send. Blocks are read by their `type`, and their members that are not
named here go with them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

WIRE: Final = "anthropic_messages"
"""Name of the wire that this dialect is, for data that only it has a place for."""

ABSENT: Final = msgspec.Raw(b"")
"""A raw member that did not come."""

Block = dict[str, msgspec.Raw]
"""A content block or a tool, by its members."""


class CacheControl(msgspec.Struct, frozen=True):
    """A place up to which the prompt is worth caching."""

    type: str = "ephemeral"
    ttl: str | None = None


class Text(msgspec.Struct, frozen=True):
    """Text; of an answer with its citations, which the caller sends back."""

    text: str
    type: str = "text"
    cache_control: CacheControl | None = None


class MediaSource(msgspec.Struct, frozen=True):
    """type: base64 (data, media_type), text (data), url (url), file (file_id)."""

    type: str
    data: str | None = None
    media_type: str | None = None
    url: str | None = None
    file_id: str | None = None


class Citations(msgspec.Struct, frozen=True):
    """Whether the answer is to cite from a document."""

    enabled: bool = False


class Media(msgspec.Struct, frozen=True):
    """An image or a document."""

    source: MediaSource
    type: str = ""
    title: str | None = None
    citations: Citations | None = None
    cache_control: CacheControl | None = None


class ToolResult(msgspec.Struct, frozen=True):
    """A tool's answer."""

    tool_use_id: str
    type: str = "tool_result"
    content: str | list[Block] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None


class ToolUse(msgspec.Struct, frozen=True):
    """A call that an earlier answer made. input: byte for byte."""

    id: str
    name: str
    input: msgspec.Raw = ABSENT
    type: str = "tool_use"
    cache_control: CacheControl | None = None


class Thinking(msgspec.Struct, frozen=True):
    """Earlier thoughts, with Anthropic's signature or our container."""

    thinking: str = ""
    signature: str = ""
    type: str = "thinking"


class Redacted(msgspec.Struct, frozen=True):
    """Earlier thoughts that nobody may read; or our container."""

    data: str
    type: str = "redacted_thinking"


class Message(msgspec.Struct, frozen=True):
    """role: user, assistant, system."""

    role: str
    content: str | list[Block]


class ThinkingConfig(msgspec.Struct, frozen=True):
    """type: enabled, disabled, adaptive. display: summarized, omitted."""

    type: str
    budget_tokens: int | None = None
    display: str | None = None


class OutputFormat(msgspec.Struct, frozen=True):
    """type: json_schema."""

    type: str
    schema: msgspec.Raw = ABSENT


class OutputConfig(msgspec.Struct, frozen=True):
    """The form of the answer, and how much work goes into it."""

    effort: str | None = None
    format: OutputFormat | None = None


class ToolChoice(msgspec.Struct, frozen=True):
    """type: auto, any, tool, none."""

    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Tool(msgspec.Struct, frozen=True):
    """A tool that the caller runs. input_schema: byte for byte."""

    name: str
    input_schema: msgspec.Raw = ABSENT
    type: str | None = None
    description: str | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None


class Metadata(msgspec.Struct, frozen=True):
    """user_id: an opaque id of the end user."""

    user_id: str | None = None


class Request(msgspec.Struct, frozen=True):
    """tools: objects of any type, read by `type`."""

    messages: list[Message]
    model: str = ""
    max_tokens: int | None = None
    metadata: Metadata | None = None
    output_config: OutputConfig | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    system: str | list[Block] | None = None
    temperature: float | None = None
    thinking: ThinkingConfig | None = None
    tool_choice: ToolChoice | None = None
    tools: list[Block] | None = None
    top_k: int | None = None
    top_p: float | None = None


REQUEST: Final = msgspec.json.Decoder(Request)
TEXT: Final = msgspec.json.Decoder(Text)
MEDIA: Final = msgspec.json.Decoder(Media)
TOOL_RESULT: Final = msgspec.json.Decoder(ToolResult)
TOOL_USE: Final = msgspec.json.Decoder(ToolUse)
THINKING: Final = msgspec.json.Decoder(Thinking)
REDACTED: Final = msgspec.json.Decoder(Redacted)
TOOL: Final = msgspec.json.Decoder(Tool)
STRING: Final = msgspec.json.Decoder(str)
OBJECT: Final[msgspec.json.Decoder[dict[str, Any]]] = msgspec.json.Decoder(dict[str, Any])
