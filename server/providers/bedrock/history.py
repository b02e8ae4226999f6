"""The conversation as Converse has it: turns of user and assistant that alternate, the blocks of earlier answers put
together again from their parts and their opaque data."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec

from server.core.errors import InvalidRequest
from server.core.events import Warning
from server.core.messages import (
    Audio,
    CacheControl,
    ChatRequest,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    ServerTool,
    Text,
    ToolCall,
    ToolResult,
)
from server.core.ports import ProviderCall
from server.providers.bedrock.families import family_of
from server.providers.bedrock.media import Media
from server.providers.bedrock.tools import cache_point
from server.providers.bedrock.types import MEMBERS
from server.providers.params import JsonObject, raw_object
from server.providers.parsing import try_decode
from server.providers.wire import own_data

MAX_ID: Final = 64
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
"""Service model, ToolUseId."""

_MAPPED: Final = "dgm_"
_HASHED: Final = "dgh_"


def wire_id(id: str) -> str:
    """A tool call's id as Converse takes it: itself; else `dgm_` and its base64url, which can be read back; where that
    is longer than 64 characters, `dgh_` and a hash. No two ids become one."""
    if _PLAIN_ID.fullmatch(id) and not id.startswith((_MAPPED, _HASHED)):
        return id
    mapped = _MAPPED + urlsafe_b64encode(id.encode()).decode().rstrip("=")
    return mapped if len(mapped) <= MAX_ID else _HASHED + sha256(id.encode()).hexdigest()[: MAX_ID - len(_HASHED)]


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


class _Turn:
    """A turn as it grows. Results stand at its start, whatever order its messages came in, as Claude wants them."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.results: list[JsonObject] = []
        self.others: list[JsonObject] = []


class History:
    """Builds `system` and `messages` for one call. warnings: what of it had no place there, each kind once. used: names
    of the tools that are called in it."""

    def __init__(self, call: ProviderCall) -> None:
        self._call = call
        self._family = family_of(call)
        self._caching = call.info is None or "prompt_caching" in call.info.capabilities
        self._ids = _CallIds()
        self._media = Media(call, self._approximate)
        self._warned: dict[str, Warning] = {}
        self.used: list[str] = []

    @property
    def warnings(self) -> tuple[Warning, ...]:
        return tuple(self._warned.values())

    def build(self, request: ChatRequest, body: JsonObject) -> None:
        """Sets both. System messages ahead of the conversation go into `system`; later ones stay in their place, as
        turns of their own, which most models refuse."""
        first = next((i for i, m in enumerate(request.messages) if m.role != "system"), len(request.messages))
        system = [{"text": request.system}] if request.system else []
        for index, message in enumerate(request.messages[:first]):
            system += self._blocks(message.parts, _at(index))
        body["messages"] = self._turns(request.messages, first)
        if system:
            body["system"] = system

    def _turns(self, messages: Sequence[Message], first: int) -> list[JsonObject]:
        """Messages of one role that follow one another are one turn: "A conversation must alternate between user and
        assistant roles" (microsoft/semantic-kernel#10281)."""
        turns: list[_Turn] = []
        for index in range(first, len(messages)):
            message = messages[index]
            role = "user" if message.role == "tool" else message.role
            if message.name is not None and message.role != "tool":
                self._drop("name", "names of speakers have no place in Converse")
            turn = turns[-1] if turns and turns[-1].role == role else _Turn(role)
            if message.role == "assistant":
                turn.others += self._answer(message, index)
            else:
                for number, part in enumerate(message.parts):
                    blocks = self._blocks((part,), _at(index), number)
                    (turn.results if isinstance(part, ToolResult) else turn.others).extend(blocks)
            if (turn.results or turn.others) and (not turns or turns[-1] is not turn):
                turns.append(turn)
        return [{"role": turn.role, "content": [*turn.results, *turn.others]} for turn in turns]

    def _blocks(self, parts: Sequence[Part], where: str, first: int = 0) -> list[JsonObject]:
        """Blocks of a turn that is no answer. Empty texts, which Converse refuses, say nothing."""
        blocks: list[JsonObject] = []
        for number, part in enumerate(parts, first):
            if not isinstance(part, Text) or part.text:
                blocks.append(self._block(part, f"{where}.parts[{number}]"))
                blocks += self._cached(getattr(part, "cache", None))
        return blocks

    def _block(self, part: Part, where: str) -> JsonObject:
        match part:
            case Text():
                return {"text": part.text}
            case Image():
                return self._media.image(part, where)
            case Document():
                return self._media.document(part, where)
            case Audio():
                return self._media.audio(part, where)
            case ToolResult():
                return self._result(part, where)
            case _:
                raise InvalidRequest.field(where, f"a message of this role holds no {type(part).__name__}")

    def _result(self, part: ToolResult, where: str) -> JsonObject:
        """Empty texts are taken here (NousResearch/hermes-agent#55092), but not as all that an error says."""
        content = [self._block(inner, f"{where}.content[{number}]") for number, inner in enumerate(part.content)]
        if any(getattr(inner, "cache", None) is not None for inner in part.content) and self._caching:
            self._approximate("cache", "a cache mark inside a tool result has no place in Converse and was left out")
        if part.is_error and not any(block.get("text", "-").strip() for block in content):
            content = [{"text": "error"}]
            self._approximate("error", "an error of a tool that says nothing was sent as the word error")
        result: JsonObject = {"toolUseId": self._ids.of_result(part.tool_call_id), "content": content or [{"text": ""}]}
        if part.is_error and self._family.tool_status:
            result["status"] = "error"
        elif part.is_error:
            why = "does not take the status of a tool result: that one is an error stands in its text alone"
            self._approximate("status", f"{self._call.model} {why}")
        return {"toolResult": result}

    def _answer(self, message: Message, index: int) -> list[JsonObject]:
        blocks: list[JsonObject] = []
        for number, part in enumerate(message.parts):
            block = self._answered(part, f"{_at(index)}.parts[{number}]")
            if block is not None:
                blocks.append(block)
                blocks += self._cached(getattr(part, "cache", None))
        return blocks

    def _answered(self, part: Part, where: str) -> JsonObject | None:
        """A part of an earlier answer as its block; None for one that only its own provider and model can read, and for
        text without a letter, which Converse refuses ("must contain non-whitespace text")."""
        match part:
            case Text():
                return self._text(part)
            case ToolCall():
                self.used.append(part.name)
                call: JsonObject = {
                    **self._own(part.opaque),
                    "toolUseId": self._ids.of_call(part.id),
                    "name": part.name,
                    "input": raw_object(part.arguments or "{}", f"{where}.arguments"),
                }
                return {"toolUse": call}
            case Reasoning():
                return self._thought(part)
            case ServerTool():
                return self._step(part)
            case _:
                self._drop("assistant_media", "media in an earlier answer have no place in Converse")
                return None

    def _text(self, part: Text) -> JsonObject | None:
        if not part.text.strip():
            return None
        own = self._own(part.opaque)
        if "citations" not in own:
            return {"text": part.text}
        return {"citationsContent": {"content": [{"text": part.text}], "citations": own["citations"]}}

    def _thought(self, part: Reasoning) -> JsonObject | None:
        """Thoughts go back to the model that had them, unchanged, and to no other."""
        own = self._own(part.opaque) if own_data(part.opaque, self._call) is not None else None
        if own is None or not self._family.sends_thoughts_back:
            why = "thoughts that are not this model's, or that it does not take back, were left out of the history"
            self._drop("reasoning", why)
            return None
        if "redactedContent" in own:
            return {"reasoningContent": own}
        return {"reasoningContent": {"reasoningText": {"text": part.text, **own}}}

    def _step(self, part: ServerTool) -> JsonObject | None:
        own = self._own(part.opaque)
        if not own:
            self._drop("server_tool", "steps of tools that another provider or model ran were left out of the history")
            return None
        if part.type == "toolResult":
            own["content"] = _json(part.output or "[]", "output")
            return {"toolResult": own}
        self.used.append(part.name)
        own["input"] = _json(part.input or "{}", "input")
        return {"toolUse": own}

    def _own(self, opaque: Opaque | None) -> JsonObject:
        """The rest of a block, {} where there is none for this provider and model."""
        data = own_data(opaque, self._call)
        if data is None:
            return {}
        members = try_decode(MEMBERS, data)
        if members is None:
            raise InvalidRequest.field("messages", "hold opaque data that did not come back as it was given")
        return dict(members)

    def _cached(self, cache: CacheControl | None) -> list[JsonObject]:
        if cache is None:
            return []
        if not self._caching:
            self._warned.setdefault(
                "cache_control",
                Warning(
                    code="parameter_stripped",
                    parameter="cache_control",
                    message=f"cache_control was left out: {self._call.model} does not cache prompts.",
                ),
            )
            return []
        return [cache_point(cache)]

    def _drop(self, what: str, message: str) -> None:
        self._warned.setdefault(what, Warning(code="part_dropped", parameter="messages", message=f"{message}."))

    def _approximate(self, what: str, message: str) -> None:
        warning = Warning(code="part_approximated", parameter="messages", message=f"{message}.")
        self._warned.setdefault(what, warning)


def _at(index: int) -> str:
    return f"messages[{index}]"


def _json(text: str, name: str) -> msgspec.Raw:
    """JSON text of any kind, to go out byte for byte."""
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise InvalidRequest.field("messages", f"hold a server tool whose {name} is not JSON") from None
    return msgspec.Raw(text.encode())
