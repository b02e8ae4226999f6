"""POST /v1/chat/completions as OpenAI documents it (platform.openai.com/docs/api-reference/chat; openai-python
`types/chat`): what callers send, and what they get. Members that are not named here are kept apart, as bytes for a
provider of the same wire."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

WIRE: Final = "openai_chat"
"""Name of the wire that this dialect is, for data that only it has a place for."""

ABSENT: Final = msgspec.Raw(b"")
"""A raw member that did not come."""


class CacheMarker(msgspec.Struct, frozen=True):
    """Anthropic's marker, which servers of this wire take too."""

    type: str = "ephemeral"
    ttl: str | None = None


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    """Text."""

    text: str
    cache_control: CacheMarker | None = None


class RefusalPart(msgspec.Struct, frozen=True, tag="refusal"):
    """What an earlier answer said in declining."""

    refusal: str


class ImageUrl(msgspec.Struct, frozen=True):
    """url: of the web, or a data URL. detail: low, high, auto."""

    url: str
    detail: str | None = None


class ImagePart(msgspec.Struct, frozen=True, tag="image_url"):
    """An image."""

    image_url: ImageUrl
    cache_control: CacheMarker | None = None


class InputAudio(msgspec.Struct, frozen=True):
    """data: base64. format: wav, mp3."""

    data: str
    format: str


class AudioPart(msgspec.Struct, frozen=True, tag="input_audio"):
    """A recording."""

    input_audio: InputAudio


class FileObject(msgspec.Struct, frozen=True):
    """file_data: a data URL, or base64 of a PDF."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(msgspec.Struct, frozen=True, tag="file"):
    """A document."""

    file: FileObject
    cache_control: CacheMarker | None = None


UserPart = TextPart | ImagePart | AudioPart | FilePart


class FunctionCall(msgspec.Struct, frozen=True):
    """arguments: JSON text."""

    name: str
    arguments: str = ""


class ToolCall(msgspec.Struct, frozen=True):
    """extra_content: where servers of this wire keep what must come back with the call (Gemini's signature)."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"
    extra_content: msgspec.Raw = ABSENT
    cache_control: CacheMarker | None = None


class SystemMessage(msgspec.Struct, frozen=True, tag_field="role", tag="system"):
    """Instructions."""

    content: str | list[TextPart]
    name: str | None = None


class DeveloperMessage(msgspec.Struct, frozen=True, tag_field="role", tag="developer"):
    """The same, by OpenAI's newer word."""

    content: str | list[TextPart]
    name: str | None = None


class UserMessage(msgspec.Struct, frozen=True, tag_field="role", tag="user"):
    """A user's turn."""

    content: str | list[UserPart]
    name: str | None = None


class AssistantMessage(msgspec.Struct, frozen=True, tag_field="role", tag="assistant"):
    """An earlier answer, as it was given. annotations and x_dragoman say nothing to a model. audio, function_call:
    refused unless null."""

    content: str | list[TextPart | RefusalPart] | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    annotations: msgspec.Raw = ABSENT
    audio: msgspec.Raw = ABSENT
    function_call: msgspec.Raw = ABSENT
    x_dragoman: msgspec.Raw = ABSENT


class ToolMessage(msgspec.Struct, frozen=True, tag_field="role", tag="tool"):
    """A tool's result."""

    tool_call_id: str
    content: str | list[TextPart]
    name: str | None = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class Function(msgspec.Struct, frozen=True):
    """parameters: a JSON schema, byte for byte."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw = ABSENT
    strict: bool | None = None


class NamedFunction(msgspec.Struct, frozen=True):
    """The function to call."""

    name: str


class ChosenTool(msgspec.Struct, frozen=True):
    """type: function; `allowed_tools` and `custom` are refused."""

    type: str
    function: NamedFunction | None = None


class JsonSchema(msgspec.Struct, frozen=True):
    """schema: byte for byte."""

    name: str
    schema: msgspec.Raw = ABSENT
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    """include_obfuscation: nothing is padded here, whatever it says."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Request(msgspec.Struct, frozen=True):
    """tools: objects of any type, read by `type`. functions, function_call: OpenAI's forms before tools; refused."""

    messages: list[Message]
    model: str = ""
    audio: msgspec.Raw = ABSENT
    frequency_penalty: float | None = None
    function_call: msgspec.Raw = ABSENT
    functions: msgspec.Raw = ABSENT
    logprobs: bool | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    modalities: list[str] | None = None
    n: int | None = None
    parallel_tool_calls: bool | None = None
    presence_penalty: float | None = None
    reasoning_effort: str | None = None
    response_format: ResponseFormat | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    tool_choice: str | ChosenTool | None = None
    tools: list[dict[str, msgspec.Raw]] | None = None
    top_k: int | None = None
    top_logprobs: int | None = None
    top_p: float | None = None
    user: str | None = None
    web_search_options: msgspec.Raw = ABSENT


REQUEST: Final = msgspec.json.Decoder(Request)
FUNCTION: Final = msgspec.json.Decoder(Function)
TEXT: Final = msgspec.json.Decoder(str)


# --- answers ----------------------------------------------------------------------------------------------------------


class Delta(msgspec.Struct, omit_defaults=True):
    """What is added to the message. reasoning_content as DeepSeek has it, reasoning_details as OpenRouter has it."""

    role: str | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning_details: list[Any] | None = None
    annotations: list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class ChunkChoice(msgspec.Struct, kw_only=True):
    """The only choice, index 0."""

    index: int = 0
    delta: Delta
    logprobs: object = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct, kw_only=True):
    """One event. usage: absent unless it was asked for; then null in every event but the last."""

    id: str
    object: str = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    service_tier: Any = msgspec.UNSET
    system_fingerprint: Any = msgspec.UNSET
    usage: Any = msgspec.UNSET
    x_dragoman: Any = msgspec.UNSET


class AnswerMessage(msgspec.Struct, kw_only=True):
    """The whole answer."""

    role: str = "assistant"
    content: str | None
    refusal: str | None = None
    annotations: Any = msgspec.UNSET
    reasoning_content: Any = msgspec.UNSET
    reasoning_details: Any = msgspec.UNSET
    tool_calls: Any = msgspec.UNSET


class AnswerChoice(msgspec.Struct, kw_only=True):
    """The only choice, index 0."""

    index: int = 0
    message: AnswerMessage
    logprobs: Any = None
    finish_reason: str


class Completion(msgspec.Struct, kw_only=True):
    """The body of an answer that comes at once."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[AnswerChoice]
    service_tier: Any = msgspec.UNSET
    system_fingerprint: Any = msgspec.UNSET
    usage: Any = None
    x_dragoman: Any = msgspec.UNSET
