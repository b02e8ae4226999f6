"""The conversation as the Messages API has it: turns of user and assistant, tool results first in the user's turn, the
blocks of earlier answers put together again from their parts and their opaque data."""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Final

import msgspec

from server.core.errors import InvalidRequest, UnsupportedParameter
from server.core.events import Warning
from server.core.messages import (
    Audio,
    CacheControl,
    ChatRequest,
    Document,
    Image,
    Inline,
    Message,
    NativeBlock,
    Opaque,
    Part,
    Reasoning,
    Remote,
    ServerTool,
    Source,
    Text,
    ToolCall,
    ToolResult,
)
from server.core.ports import ProviderCall
from server.providers.anthropic.tools import cache_control
from server.providers.anthropic.types import DIALECT, MEMBERS
from server.providers.params import JsonObject, raw_object
from server.providers.parsing import try_decode
from server.providers.wire import own_data

_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_-]+")
"""The ids that the API takes, by its own error: tool_use.id "should match pattern '^[a-zA-Z0-9_-]+$'"."""

_MAPPED: Final = "dgm_"


def wire_id(id: str) -> str:
    """A tool call's id as the API takes it: itself, or `dgm_` and its base64url. No two ids become one, and the mapped
    form can be read back."""
    if _PLAIN_ID.fullmatch(id) and not id.startswith(_MAPPED):
        return id
    return _MAPPED + urlsafe_b64encode(id.encode()).decode().rstrip("=")


class _CallIds:
    """Ids within one conversation. Some providers number their calls from the start in every turn, and here an id may
    come once: a later call of the same id gets its ordinal, and results belong to the latest."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def of_call(self, id: str) -> str:
        self._seen[id] = self._seen.get(id, 0) + 1
        return self.of_result(id)

    def of_result(self, id: str) -> str:
        times = self._seen.get(id, 1)
        return wire_id(id if times == 1 else f"{id}#{times}")


class History:
    """Builds `system` and `messages` for one call. warnings: what of it had no place there, each kind once. files:
    whether a file that was uploaded beforehand is named."""

    def __init__(self, call: ProviderCall) -> None:
        self._call = call
        self._ids = _CallIds()
        self._warned: dict[str, Warning] = {}
        self.files = False

    @property
    def warnings(self) -> tuple[Warning, ...]:
        return tuple(self._warned.values())

    def build(self, request: ChatRequest, body: JsonObject) -> None:
        """Sets both. System messages ahead of the conversation go into `system`; later ones stay in their place, which
        older models refuse."""
        first = next((i for i, m in enumerate(request.messages) if m.role != "system"), len(request.messages))
        leading = [
            block for index, m in enumerate(request.messages[:first]) for block in self._blocks(m.parts, _at(index))
        ]
        if leading:
            ahead = [{"type": "text", "text": request.system}] if request.system else []
            body["system"] = ahead + leading
        elif request.system:
            body["system"] = request.system
        body["messages"] = self._turns(request.messages, first)

    def _turns(self, messages: Sequence[Message], first: int) -> list[JsonObject]:
        turns: list[JsonObject] = []
        open_results = False
        for index in range(first, len(messages)):
            message = messages[index]
            role = "user" if message.role == "tool" else message.role
            if message.name is not None and message.role != "tool":
                self._warn("name", "the Messages API has no names of speakers")
            if message.role == "assistant":
                blocks = self._answer(message, index)
            else:
                # The API wants the results at the start of the turn that follows their calls.
                parts = sorted(message.parts, key=lambda part: not isinstance(part, ToolResult))
                blocks = self._blocks(parts, _at(index))
            if open_results and role == "user":
                turns[-1]["content"] += blocks
            elif blocks:
                turns.append({"role": role, "content": blocks})
            open_results = message.role == "tool" and bool(turns)
        return turns

    def _blocks(self, parts: Sequence[Part], where: str) -> list[JsonObject]:
        """Blocks of a turn that is no answer. Empty texts, which the API refuses, say nothing."""
        return [
            self._block(part, f"{where}.parts[{index}]")
            for index, part in enumerate(parts)
            if not isinstance(part, Text) or part.text
        ]

    def _block(self, part: Part, where: str) -> JsonObject:
        match part:
            case Text():
                wire: JsonObject = {"type": "text", "text": part.text}
            case Image():
                if part.detail in ("low", "high"):
                    self._warn("detail", "the Messages API cannot be told how closely to look at an image")
                wire = {"type": "image", "source": self._source(part.source)}
            case Document():
                wire = self._document(part, where)
            case ToolResult():
                wire = self._result(part, where)
            case NativeBlock():
                return self._native(part)
            case Audio():
                raise UnsupportedParameter.field(where, f"{self._call.model}: the Messages API takes no audio")
            case _:
                raise InvalidRequest.field(where, f"a message of this role holds no {type(part).__name__}")
        return _marked(wire, part.cache)

    def _source(self, source: Source) -> JsonObject:
        match source:
            case Inline():
                data = b64encode(source.data).decode()
                return {"type": "base64", "media_type": source.media_type, "data": data}
            case Remote():
                return {"type": "url", "url": source.url}
            case _:
                self.files = True
                return {"type": "file", "file_id": source.file_id}

    def _document(self, part: Document, where: str) -> JsonObject:
        source = part.source
        wire: JsonObject = {"type": "document"}
        if isinstance(source, Inline) and source.media_type.startswith("text/"):
            wire["source"] = {"type": "text", "media_type": "text/plain", "data": _utf8(source.data, where)}
        elif isinstance(source, Inline) and source.media_type.partition(";")[0] != "application/pdf":
            raise UnsupportedParameter.field(
                where, f"{self._call.model}: the Messages API takes PDF and text as documents, not {source.media_type}"
            )
        else:
            wire["source"] = self._source(source)
        if part.name is not None:
            wire["title"] = part.name
        if part.citations:
            wire["citations"] = {"enabled": True}
        return wire

    def _native(self, part: NativeBlock) -> JsonObject:
        """As it came (`refuse_foreign_parts` lets no other wire's pass)."""
        self.files = self.files or part.type == "container_upload"
        return self._own(part.opaque)

    def _result(self, part: ToolResult, where: str) -> JsonObject:
        wire: JsonObject = {"type": "tool_result", "tool_use_id": self._ids.of_result(part.tool_call_id)}
        if content := self._blocks(part.content, where):
            wire["content"] = content
        if part.is_error:
            wire["is_error"] = True
        return wire

    def _answer(self, message: Message, index: int) -> list[JsonObject]:
        blocks = []
        for number, part in enumerate(message.parts):
            block = self._answered(part, f"{_at(index)}.parts[{number}]")
            if block is not None:
                blocks.append(block)
        return blocks

    def _answered(self, part: Part, where: str) -> JsonObject | None:
        """A part of an earlier answer as its block; None for one that only its own provider and model can read."""
        match part:
            case Text():
                if not part.text:
                    return None
                block: JsonObject = {"type": "text", "text": part.text, **self._own(part.opaque)}
                return _marked(block, part.cache)
            case ToolCall():
                call: JsonObject = {
                    "type": "tool_use",
                    "id": self._ids.of_call(part.id),
                    "name": part.name,
                    "input": raw_object(part.arguments or "{}", f"{where}.arguments"),
                    **self._own(part.opaque),
                }
                return _marked(call, part.cache)
            case Reasoning():
                return self._thought(part)
            case ServerTool():
                return self._step(part)
            case _:
                self._warn("assistant_media", "media in an earlier answer have no place in the Messages API")
                return None

    def _thought(self, part: Reasoning) -> JsonObject | None:
        """Thoughts go back with their signature, and without one they do not go at all."""
        own = self._own(part.opaque)
        if not own:
            self._warn("reasoning", "thoughts that this model has not signed were left out of the history")
            return None
        return own if _is(own, "redacted_thinking") else {**own, "thinking": part.text}

    def _step(self, part: ServerTool) -> JsonObject | None:
        own = self._own(part.opaque)
        if not own:
            self._warn("server_tool", "steps of tools that another provider or model ran were left out of the history")
            return None
        for name, text in (("input", part.input), ("content", part.output)):
            if text:
                own[name] = _json(text, name)
        return own

    def _own(self, opaque: Opaque | None) -> JsonObject:
        """The rest of a block, {} where there is none for this provider and model."""
        data = own_data(opaque, self._call, DIALECT)
        if data is None:
            return {}
        members = try_decode(MEMBERS, data)
        if members is None:
            raise InvalidRequest.field("messages", "hold opaque data that did not come back as it was given")
        return dict(members)

    def _warn(self, what: str, message: str) -> None:
        self._warned.setdefault(what, Warning(code="part_dropped", parameter="messages", message=f"{message}."))


def _at(index: int) -> str:
    return f"messages[{index}]"


def _is(block: JsonObject, type: str) -> bool:
    return bytes(block.get("type") or b"") == msgspec.json.encode(type)


def _marked(block: JsonObject, cache: CacheControl | None) -> JsonObject:
    if cache is not None:
        block["cache_control"] = cache_control(cache)
    return block


def _json(text: str, name: str) -> msgspec.Raw:
    """JSON text of any kind, to go out byte for byte."""
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise InvalidRequest.field("messages", f"hold a server tool whose {name} is not JSON") from None
    return msgspec.Raw(text.encode())


def _utf8(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidRequest.field(where, "must be UTF-8 text, as its media type says text") from None
