"""POST /v1/responses as OpenAI documents it (platform.openai.com/docs/api-reference/responses; openai-python
`types/responses`): what callers send. Input items are read one by one, by their type. Members that are not named here
are kept apart, for a provider of the same wire."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from server.rpc.compat.openai.types import ABSENT, InputAudio

WIRE: Final = "openai_responses"
"""Name of the wire that this dialect is, for data that only it has a place for."""


class Breakpoint(msgspec.Struct, frozen=True):
    """The prompt up to here is worth caching. mode: explicit."""

    mode: str = "explicit"


class InputText(msgspec.Struct, frozen=True, tag="input_text"):
    """Text."""

    text: str
    prompt_cache_breakpoint: Breakpoint | None = None


class InputImage(msgspec.Struct, frozen=True, tag="input_image"):
    """image_url: of the web, or a data URL. detail: low, high, auto."""

    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None
    prompt_cache_breakpoint: Breakpoint | None = None


class InputFile(msgspec.Struct, frozen=True, tag="input_file"):
    """file_data: a data URL, or base64 of a PDF."""

    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None
    prompt_cache_breakpoint: Breakpoint | None = None


class InputAudioPart(msgspec.Struct, frozen=True, tag="input_audio"):
    """A recording."""

    input_audio: InputAudio


class OutputText(msgspec.Struct, frozen=True, tag="output_text"):
    """Text of an earlier answer. annotations and logprobs say nothing to a model."""

    text: str
    annotations: msgspec.Raw = ABSENT
    logprobs: msgspec.Raw = ABSENT


class RefusalPart(msgspec.Struct, frozen=True, tag="refusal"):
    """What an earlier answer said in declining."""

    refusal: str


ResultPart = InputText | InputImage | InputFile
Part = InputText | InputImage | InputFile | InputAudioPart | OutputText | RefusalPart


class MessageItem(msgspec.Struct, frozen=True):
    """Somebody's words. Of an assistant's, id and status mean nothing where nothing is stored."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]
    type: str = "message"
    id: str | None = None
    status: str | None = None


class FunctionCallItem(msgspec.Struct, frozen=True):
    """arguments: JSON text."""

    call_id: str
    name: str
    arguments: str = ""
    type: str = ""
    id: str | None = None
    status: str | None = None


class CustomCallItem(msgspec.Struct, frozen=True):
    """A call of a custom tool: text instead of JSON."""

    call_id: str
    name: str
    input: str = ""
    type: str = ""
    id: str | None = None
    status: str | None = None


class CallOutputItem(msgspec.Struct, frozen=True):
    """The result of a call of either kind."""

    call_id: str
    output: str | list[ResultPart]
    type: str = ""
    id: str | None = None
    status: str | None = None


class Thought(msgspec.Struct, frozen=True):
    """A piece of a summary, or of the thoughts themselves."""

    text: str = ""


class ReasoningItem(msgspec.Struct, frozen=True):
    """Earlier thoughts. encrypted_content: OpenAI's own, or our container of another's (`server.rpc.compat.opaque`)."""

    summary: list[Thought] | None = None
    content: list[Thought] | None = None
    encrypted_content: str | None = None


class Head(msgspec.Struct, frozen=True):
    """What tells items apart: a message may come without a type."""

    type: str | None = None
    role: str | None = None


class Function(msgspec.Struct, frozen=True):
    """A tool, flat. parameters: a JSON schema, byte for byte."""

    name: str
    type: str = "function"
    description: str | None = None
    parameters: msgspec.Raw = ABSENT
    strict: bool | None = None


class Format(msgspec.Struct, frozen=True):
    """The form of the answer, flat. schema: byte for byte."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: msgspec.Raw = ABSENT
    strict: bool | None = None
    description: str | None = None


class TextConfig(msgspec.Struct, frozen=True):
    """What stands under `text`."""

    format: Format | None = None


class ReasoningConfig(msgspec.Struct, frozen=True):
    """effort: none, minimal, low, medium, high, xhigh, max. summary, or by its old name generate_summary: auto,
    concise, detailed."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    """include_obfuscation: nothing is padded here, whatever it says."""

    include_obfuscation: bool | None = None


class Request(msgspec.Struct, frozen=True):
    """input: text, or a list of items. tools: objects of any type, read by `type`. background, conversation,
    previous_response_id, prompt, store: ask for state, which is not kept; refused where they do. metadata: comes back
    in the answer."""

    input: msgspec.Raw = ABSENT
    model: str = ""
    background: bool | None = None
    conversation: msgspec.Raw = ABSENT
    include: list[str] | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: str | None = None
    prompt: msgspec.Raw = ABSENT
    reasoning: ReasoningConfig | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    text: TextConfig | None = None
    tool_choice: str | dict[str, Any] | None = None
    tools: list[dict[str, msgspec.Raw]] | None = None
    top_logprobs: int | None = None
    top_p: float | None = None
    user: str | None = None


REQUEST: Final = msgspec.json.Decoder(Request)
MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
INPUT: Final = msgspec.json.Decoder(str | list[msgspec.Raw])
HEAD: Final = msgspec.json.Decoder(Head)
MESSAGE: Final = msgspec.json.Decoder(MessageItem)
FUNCTION_CALL: Final = msgspec.json.Decoder(FunctionCallItem)
CUSTOM_CALL: Final = msgspec.json.Decoder(CustomCallItem)
CALL_OUTPUT: Final = msgspec.json.Decoder(CallOutputItem)
REASONING: Final = msgspec.json.Decoder(ReasoningItem)
FUNCTION: Final = msgspec.json.Decoder(Function)
