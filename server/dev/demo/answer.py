"""What the demo says: a pure function of the request, so that unary and stream, and every repetition, agree."""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from server.dev.demo.errors import ErrorReply, Refused, bad_request
from server.dev.demo.schema import SchemaRefused, fit
from server.dev.demo.tokens import (
    TOKENS_PER_ANSWER_START,
    TOKENS_PER_IMAGE,
    TOKENS_PER_MESSAGE,
    count_tokens,
    split_tokens,
)
from server.dev.demo.wire import (
    AudioPart,
    ChatBody,
    FilePart,
    ImagePart,
    Message,
    NamedTool,
    RefusalPart,
    TextPart,
    Tool,
    decode_data_uri,
)

CONTEXT_WINDOW = 1_048_576
"""Tokens that prompt and answer may have together."""

QUOTE_CHARACTERS = 240
MAX_COUNT = 10_000

_CLOSINGS = (
    "No language model was harmed for this answer.",
    "Ask again and you will read the same words.",
    "Give me a tool and I shall call it.",
    "Add a `seed` and this last sentence may change.",
)
_COUNT_TO = re.compile(r"\bcount to (\d{1,9})\b", re.IGNORECASE)
_REPEAT = re.compile(r"\s*repeat after me:[ \n]?(.*)", re.IGNORECASE | re.DOTALL)


class Style(enum.Enum):
    """How a model answers when nothing on the wire goes wrong."""

    CHAT = "chat"
    TOOLS = "tools"
    REASONER = "reasoner"
    ECHO = "echo"
    FILTERED = "filtered"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call: its id, the function's name, its arguments as JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer, and what it cost in tokens; completion_tokens includes reasoning_tokens."""

    id: str
    model: str
    text: str
    reasoning: str
    refusal: str
    calls: tuple[Call, ...]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int


def answer(chat: ChatBody, style: Style, raw: bytes) -> Answer:
    """Answer `chat`; raw is its JSON body, from which ids are derived and which the echo style reads.

    Raises Refused: context_length_exceeded, a schema that cannot be served, an image that does not decode.
    """
    pictures = list(_attachments(chat))
    prompt_tokens = _prompt_tokens(chat)
    if prompt_tokens > CONTEXT_WINDOW:
        raise context_too_long(CONTEXT_WINDOW, prompt_tokens)
    reasoning = _reasoning(chat) if style is Style.REASONER and chat.reasoning_effort != "none" else ""
    calls = _calls(chat, style, _digest(raw))
    text = "" if calls or style is Style.REFUSAL else _text(chat, style, raw, pictures)
    refusal = "I am the demo provider and was asked to refuse this." if style is Style.REFUSAL and not calls else ""
    text = _cut_at_stop(text, chat.stops())

    budget = _Budget(chat.token_limit())
    reasoning = budget.take(reasoning)
    reasoning_tokens = budget.spent
    calls = budget.take_calls(calls)
    text, refusal = budget.take(text), budget.take(refusal)
    if style is Style.FILTERED:
        text, finish = text[: len(text) // 2], "content_filter"
    else:
        finish = "length" if budget.overdrawn else "tool_calls" if calls else "stop"
    # OpenAI says "stop" for a call that tool_choice named.
    if finish == "tool_calls" and isinstance(chat.tool_choice, NamedTool):
        finish = "stop"
    return Answer(
        id=f"chatcmpl-demo-{_digest(raw)}",
        model=chat.model,
        text=text,
        reasoning=reasoning,
        refusal=refusal,
        calls=calls,
        finish_reason=finish,
        prompt_tokens=prompt_tokens,
        completion_tokens=budget.spent if style is not Style.FILTERED else reasoning_tokens + count_tokens(text),
        reasoning_tokens=reasoning_tokens,
    )


def context_too_long(window: int, asked: int) -> Refused:
    """OpenAI's 400 for a prompt over the context window, with both lengths in the message."""
    return Refused(
        ErrorReply(
            400,
            "invalid_request_error",
            "context_length_exceeded",
            f"This model's maximum context length is {window} tokens. However, your messages resulted in {asked} "
            "tokens. Please reduce the length of the messages.",
            "messages",
        )
    )


def last_user_text(chat: ChatBody) -> str:
    """The text of the last user message, empty without one."""
    return next((message.text() for message in reversed(chat.messages) if message.role == "user"), "")


class _Budget:
    """Counts tokens out until the limit, and remembers whether something had to be cut."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self.spent = 0
        self.overdrawn = False

    def take_calls(self, calls: tuple[Call, ...]) -> tuple[Call, ...]:
        taken: list[Call] = []
        for call in calls:
            if self._limit is not None and self.spent >= self._limit:
                self.overdrawn = True
                break
            taken.append(Call(call.id, call.name, self.take(call.arguments)))
        return tuple(taken)

    def take(self, text: str) -> str:
        tokens = split_tokens(text)
        if self._limit is not None and len(tokens) > self._limit - self.spent:
            self.overdrawn = True
            tokens = tokens[: self._limit - self.spent]
        self.spent += len(tokens)
        return "".join(tokens)


def _digest(raw: bytes) -> str:
    """A name for the request, the same whether it was sent to be streamed or not."""
    body = msgspec.json.decode(raw)
    asked = {key: value for key, value in body.items() if key not in ("stream", "stream_options")}
    return hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()[:24]


def _prompt_tokens(chat: ChatBody) -> int:
    tokens = TOKENS_PER_ANSWER_START
    for message in chat.messages:
        tokens += TOKENS_PER_MESSAGE + count_tokens(message.text())
        tokens += sum(count_tokens(call.function.name + call.function.arguments) for call in message.tool_calls or [])
        tokens += TOKENS_PER_IMAGE * sum(1 for part in message.parts() if not isinstance(part, TextPart | RefusalPart))
    if chat.tools:
        tokens += count_tokens(msgspec.json.encode(chat.tools).decode())
    return tokens


def _attachments(chat: ChatBody) -> Iterator[str]:
    for at, message in enumerate(chat.messages):
        for nth, part in enumerate(message.parts()):
            match part:
                case ImagePart(image_url):
                    yield _image(image_url.url, f"messages.[{at}].content.[{nth}].image_url")
                case AudioPart(audio):
                    yield f"{audio.format} audio of {len(audio.data) * 3 // 4} bytes"
                case FilePart(file):
                    yield f"a file of {len(file.file_data or '')} characters"
                case TextPart() | RefusalPart():
                    pass


def _image(url: str, param: str) -> str:
    decoded = decode_data_uri(url, param)
    if decoded is None:
        return "an image by URL (not fetched)"
    media_type, data = decoded
    size = ""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        size = f", {int.from_bytes(data[16:20])}x{int.from_bytes(data[20:24])} pixels"
    elif data[:4] == b"GIF8" and len(data) >= 10:
        size = f", {int.from_bytes(data[6:8], 'little')}x{int.from_bytes(data[8:10], 'little')} pixels"
    return f"an {media_type} image of {len(data)} bytes{size}"


def _text(chat: ChatBody, style: Style, raw: bytes, pictures: list[str]) -> str:
    if style is Style.ECHO:
        body = msgspec.json.decode(raw)
        return msgspec.json.encode({key: value for key, value in body.items() if key != "messages"}).decode()
    wanted = chat.response_format
    if wanted is not None and wanted.type != "text":
        return _json_text(chat, pictures)
    asked = last_user_text(chat)
    if repeat := _REPEAT.fullmatch(asked):
        return repeat[1]
    if count := _COUNT_TO.search(asked):
        return " ".join(str(n) for n in range(1, min(int(count[1]), MAX_COUNT) + 1))
    return _prose(chat, asked, pictures)


def _json_text(chat: ChatBody, pictures: list[str]) -> str:
    asked = last_user_text(chat)
    wanted = chat.response_format
    value: Any = {"answer": _prose(chat, asked, pictures), "model": chat.model}
    if wanted is not None and wanted.type == "json_schema":
        if wanted.json_schema is None:
            raise bad_request("Missing required parameter: 'response_format.json_schema'.", param="response_format")
        try:
            value = fit(wanted.json_schema.schema or {}, _subject(asked), strict=True)
        except SchemaRefused as exc:
            message = f"Invalid schema for response_format '{wanted.json_schema.name}': {exc}"
            raise bad_request(message, param="response_format") from exc
    return msgspec.json.encode(value).decode()


def _prose(chat: ChatBody, asked: str, pictures: list[str]) -> str:
    said = [f"You asked: “{_quote(asked)}”" if asked else "You asked nothing."]
    results = _tool_results(chat.messages)
    said += [f"The tool {name} answered: “{_quote(result)}”" for name, result in results]
    said += [f"I was sent {picture}." for picture in pictures]
    said.append(f"I am {chat.model}, the demo provider: a real HTTP server with no language model behind it.")
    said.append(f"This conversation came to me as {_inventory(chat.messages)}.")
    pick = hashlib.sha256(f"{chat.seed or 0}|{asked}".encode()).digest()[0]
    said.append(_CLOSINGS[pick % len(_CLOSINGS)] if chat.seed else _CLOSINGS[0])
    return " ".join(said)


def _inventory(messages: list[Message]) -> str:
    roles: dict[str, int] = {}
    for message in messages:
        roles[message.role] = roles.get(message.role, 0) + 1
    total = f"{len(messages)} message{'s' if len(messages) != 1 else ''}"
    return f"{total} ({', '.join(f'{n} {role}' for role, n in roles.items())})"


def _tool_results(messages: list[Message]) -> list[tuple[str, str]]:
    names = {call.id: call.function.name for message in messages for call in message.tool_calls or []}
    results: list[tuple[str, str]] = []
    for message in reversed(messages):
        if message.role != "tool":
            break
        results.append((names.get(message.tool_call_id or "", "?"), message.text()))
    return results[::-1]


def _quote(text: str) -> str:
    return text if len(text) <= QUOTE_CHARACTERS else f"{text[:QUOTE_CHARACTERS]}…"


def _reasoning(chat: ChatBody) -> str:
    return (
        f"The conversation holds {_inventory(chat.messages)}. The question is “{_quote(last_user_text(chat))}”. "
        "I shall say what I was asked, and that I am a demo."
    )


def _subject(asked: str) -> str:
    """A word of the question that can stand for a free string: the last name-like one, else the last one."""
    words: list[str] = re.findall(r"\w+", asked)
    names = [word for word in words[1:] if word[0].isupper()]
    return (names or words or ["demo"])[-1]


def _cut_at_stop(text: str, stops: list[str]) -> str:
    found = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(found)] if found else text


def _calls(chat: ChatBody, style: Style, digest: str) -> tuple[Call, ...]:
    tools = _chosen(chat, style)
    asked = last_user_text(chat)
    return tuple(
        Call(f"call_{digest[:20]}{nth:02d}", tool.function.name, _arguments(tool, _subject(asked)))
        for nth, tool in enumerate(tools)
    )


def _chosen(chat: ChatBody, style: Style) -> list[Tool]:
    tools = chat.tools or []
    if isinstance(chat.tool_choice, NamedTool):
        return [tool for tool in tools if tool.function.name == chat.tool_choice.function.name]
    if not tools or chat.tool_choice == "none" or (chat.tool_choice != "required" and chat.messages[-1].role == "tool"):
        return []
    if style is Style.TOOLS:
        chosen = tools if len(tools) > 1 else tools * 2
    else:
        asked = last_user_text(chat).lower()
        chosen = [tool for tool in tools if _is_named(tool.function.name, asked)] or tools[:1]
    return chosen[:1] if chat.parallel_tool_calls is False else chosen


def _is_named(name: str, asked: str) -> bool:
    return any(word in asked for word in re.split(r"[_\W]+", name.lower()) if len(word) > 3)


def _arguments(tool: Tool, subject: str) -> str:
    try:
        value = fit(tool.function.parameters or {"type": "object"}, subject, strict=False)
    except SchemaRefused as exc:
        message = f"Invalid schema for function '{tool.function.name}': {exc}"
        raise bad_request(message, param="tools") from exc
    return msgspec.json.encode(value).decode()
