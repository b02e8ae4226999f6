"""What a Chat Completions request may hold, and which ones OpenAI would turn away.

Fields that stand here are checked; what does not stand here is accepted and unused, so that a caller's own options can
be sent. Shapes: platform.openai.com API reference, Chat Completions.
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any, Literal

import msgspec

from server.dev.demo.errors import bad_request

Role = Literal["system", "developer", "user", "assistant", "tool"]


class FunctionCall(msgspec.Struct):
    """The function a call names, its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct):
    """A tool call of an assistant message."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class Url(msgspec.Struct):
    """Where an image is, or the image itself as a data URI."""

    url: str
    detail: str | None = None


class Audio(msgspec.Struct):
    """Audio as base64."""

    data: str
    format: str


class File(msgspec.Struct):
    """A file, by its data or by an id."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class TextPart(msgspec.Struct, tag="text", tag_field="type"):
    """A part of content: text."""

    text: str


class ImagePart(msgspec.Struct, tag="image_url", tag_field="type"):
    """A part of content: an image."""

    image_url: Url


class AudioPart(msgspec.Struct, tag="input_audio", tag_field="type"):
    """A part of content: audio."""

    input_audio: Audio


class FilePart(msgspec.Struct, tag="file", tag_field="type"):
    """A part of content: a file."""

    file: File


class RefusalPart(msgspec.Struct, tag="refusal", tag_field="type"):
    """A part of an assistant's content: a refusal."""

    refusal: str


Part = TextPart | ImagePart | AudioPart | FilePart | RefusalPart


class Message(msgspec.Struct):
    """One message of the conversation."""

    role: Role
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    def parts(self) -> list[Part]:
        """The content as a list, whichever way it was written."""
        if isinstance(self.content, str):
            return [TextPart(self.content)]
        return self.content or []

    def text(self) -> str:
        """All text parts, joined."""
        return "".join(part.text for part in self.parts() if isinstance(part, TextPart))


class FunctionSpec(msgspec.Struct):
    """A function that may be called; parameters is a JSON Schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct):
    """A tool offered: functions only."""

    type: Literal["function"]
    function: FunctionSpec


class NamedFunction(msgspec.Struct):
    """The name in a named tool choice."""

    name: str


class NamedTool(msgspec.Struct):
    """The tool choice that names a function."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(msgspec.Struct):
    """A named JSON Schema for the answer."""

    name: str
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(msgspec.Struct):
    """What the answer's text must be."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(msgspec.Struct):
    """What a stream carries beside the deltas."""

    include_usage: bool | None = None


class ChatBody(msgspec.Struct):
    """The request. demo_scenario: the demo's own field, see docs/demo-provider.md."""

    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    reasoning_effort: str | None = None
    demo_scenario: str | None = None

    def token_limit(self) -> int | None:
        """The smaller of the two limits that were sent, None without one."""
        return min((n for n in (self.max_tokens, self.max_completion_tokens) if n is not None), default=None)

    def stops(self) -> list[str]:
        """The stop sequences as a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("temperature", 0, 2),
    ("top_p", 0, 1),
    ("frequency_penalty", -2, 2),
    ("presence_penalty", -2, 2),
    ("max_tokens", 1, math.inf),
    ("max_completion_tokens", 1, math.inf),
    ("n", 1, 1),
)
MAX_STOPS = 4

_DECODER = msgspec.json.Decoder(ChatBody)


def parse_chat(body: bytes) -> ChatBody:
    """The request of a JSON body. Raises Refused with OpenAI's 400 for what is not JSON, not its shape or not legal."""
    try:
        chat = _DECODER.decode(body)
    except msgspec.ValidationError as exc:
        raise bad_request(f"Invalid request: {exc}", code="invalid_type") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise bad_request("We could not parse the JSON body of your request.") from exc
    _check_ranges(chat)
    _check_messages(chat)
    return chat


def _check_ranges(chat: ChatBody) -> None:
    for name, least, most in _RANGES:
        value = getattr(chat, name)
        if value is not None and not least <= value <= most:
            raise bad_request(
                f"Invalid '{name}': must be between {least} and {most}, but got {value}.",
                param=name,
                code="invalid_value",
            )
    if len(chat.stops()) > MAX_STOPS:
        raise bad_request(
            f"Invalid 'stop': at most {MAX_STOPS} sequences.", param="stop", code="array_above_max_length"
        )
    if isinstance(chat.tool_choice, NamedTool):
        name = chat.tool_choice.function.name
        if name not in {tool.function.name for tool in chat.tools or []}:
            raise bad_request(f"Tool choice '{name}' not found in 'tools' parameter.", param="tool_choice")
    elif chat.tool_choice not in (None, "none") and not chat.tools:
        raise bad_request("'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")


def _check_messages(chat: ChatBody) -> None:
    if not chat.messages:
        raise bad_request("Invalid 'messages': expected at least one message.", param="messages", code="empty_array")
    open_calls: set[str] = set()
    for at, message in enumerate(chat.messages):
        param = f"messages.[{at}]"
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                raise bad_request(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceding message with "
                    "'tool_calls'.",
                    param=f"{param}.role",
                )
            open_calls.discard(message.tool_call_id)
            continue
        _check_answered(open_calls, param)
        open_calls = {call.id for call in message.tool_calls or []}
        if message.content is None and not message.tool_calls:
            raise bad_request("Invalid value for 'content': expected a string, got null.", param=f"{param}.content")
    _check_answered(open_calls, "messages")


def _check_answered(open_calls: set[str], param: str) -> None:
    if open_calls:
        raise bad_request(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. These had no answer: {', '.join(sorted(open_calls))}",
            param=param,
        )


def decode_data_uri(url: str, param: str) -> tuple[str, bytes] | None:
    """Media type and bytes of a base64 data URI, None for any other URL. Raises Refused when it does not decode."""
    if not url.startswith("data:"):
        return None
    head, _, data = url.removeprefix("data:").partition(",")
    media_type, _, encoding = head.partition(";")
    if encoding != "base64":
        raise bad_request("A data URI must be base64.", param=param, code="invalid_base64")
    try:
        return media_type, base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise bad_request("Invalid base64 data URI.", param=param, code="invalid_base64") from exc
