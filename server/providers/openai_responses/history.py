"""The conversation as input items: messages, calls and their results, earlier thoughts and steps of server tools."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from server.core.errors import UnsupportedParameter
from server.core.events import Warning
from server.core.messages import (
    Audio,
    CacheControl,
    Document,
    Image,
    Inline,
    Message,
    Opaque,
    Part,
    Reasoning,
    Remote,
    ServerTool,
    Text,
    ToolCall,
    ToolResult,
)
from server.core.ports import ProviderCall
from server.providers.openai_responses.kept import CUSTOM_CALL, read_extras
from server.providers.openai_responses.servers import Server
from server.providers.openai_responses.types import DIALECT, OBJECT
from server.providers.params import JsonObject
from server.providers.parsing import try_decode
from server.providers.wire import own_data

MAX_CALL_ID: Final = 64
"""Characters that `call_id` may have (the API reference's schema)."""

CACHE_TTL: Final = "30m"
"""How long OpenAI keeps what a marker marks: the only lifetime there is."""


def call_id(id: str) -> str:
    """An id that is too long is replaced by one that follows from it, the same for a call and its result."""
    return id if len(id) <= MAX_CALL_ID else f"call_{sha256(id.encode()).hexdigest()[:40]}"


class History:
    """Builds `input` for one call. warnings: what of the history had no place there, each kind once. sends_thoughts:
    whether encrypted thoughts of this model go back, which then surely thinks."""

    def __init__(self, call: ProviderCall, server: Server) -> None:
        self._call = call
        self._name = server.preset.name
        self._takes_markers = call.model.startswith(server.cache_breakpoints) if server.cache_breakpoints else False
        self._custom: set[str] = set()
        self._warned: dict[str, Warning] = {}
        self.sends_thoughts = False

    @property
    def warnings(self) -> tuple[Warning, ...]:
        return tuple(self._warned.values())

    def build(self, messages: Sequence[Message]) -> list[JsonObject | msgspec.Raw]:
        """All items in order."""
        out: list[JsonObject | msgspec.Raw] = []
        for index, message in enumerate(messages):
            where = f"messages[{index}]"
            if message.name is not None:
                self._warn("name", "the Responses API has no names of speakers; they were left out")
            if message.role == "assistant":
                self._assistant(out, message.parts)
                continue
            out.extend(self._result(part, where) for part in message.parts if isinstance(part, ToolResult))
            others = [part for part in message.parts if not isinstance(part, ToolResult)]
            if others or message.role != "tool":
                out.append({"role": message.role, "content": self._content(others, where)})
        return out

    # --- what users, systems and tools say ----------------------------------------------------------------------------

    def _content(self, parts: Sequence[Part], where: str) -> str | list[JsonObject]:
        """A plain string where that says everything."""
        wire = [self._part(part, f"{where}.parts[{index}]") for index, part in enumerate(parts)]
        if not wire:
            return ""
        if len(wire) == 1 and wire[0].keys() == {"type", "text"}:
            return str(wire[0]["text"])
        return wire

    def _part(self, part: Part, where: str) -> JsonObject:
        match part:
            case Text():
                return self._marked({"type": "input_text", "text": part.text}, part.cache)
            case Image():
                return self._marked(self._image(part), part.cache)
            case Document():
                return self._marked(self._document(part), part.cache)
            case Audio():
                raise UnsupportedParameter.field(
                    where, f"{self._name} takes no audio in its Responses API ({self._call.model})"
                )
            case _:
                raise UnsupportedParameter.field(where, f"a message of this role holds no {type(part).__name__}")

    @staticmethod
    def _image(part: Image) -> JsonObject:
        image: JsonObject = {"type": "input_image"}
        match part.source:
            case Inline() as source:
                image["image_url"] = _data_uri(source)
            case Remote() as source:
                image["image_url"] = source.url
            case source:
                image["file_id"] = source.file_id
        if part.detail is not None:
            image["detail"] = part.detail
        return image

    def _document(self, part: Document) -> JsonObject:
        if part.citations:
            self._warn("citations", "the Responses API cannot be asked to cite from a document")
        match part.source:
            case Inline(media_type=kind) as source if kind.startswith("text/"):
                text = source.data.decode("utf-8", "replace")
                return {"type": "input_text", "text": f"{part.name}:\n{text}" if part.name else text}
            case Inline() as source:
                ending = ".pdf" if source.media_type == "application/pdf" else ""
                name = part.name or f"document{ending}"
                return {"type": "input_file", "filename": name, "file_data": _data_uri(source)}
            case Remote() as source:
                return {"type": "input_file", "file_url": source.url}
            case source:
                return {"type": "input_file", "file_id": source.file_id}

    def _marked(self, wire: JsonObject, cache: CacheControl | None) -> JsonObject:
        if cache is None:
            return wire
        if not self._takes_markers:
            self._warn(
                "cache_control",
                f"{self._call.model} takes no cache markers; the beginning of a prompt is cached by itself",
            )
            return wire
        if cache.ttl not in (None, CACHE_TTL):
            self._warn("ttl", f"the cache keeps for {CACHE_TTL} whatever is asked for", code="parameter_approximated")
        return {**wire, "prompt_cache_breakpoint": {"mode": "explicit"}}

    def _result(self, result: ToolResult, where: str) -> JsonObject:
        if result.is_error:
            self._warn("is_error", "the Responses API has no mark for a failed tool; its result was sent as it is")
        output = self._content(result.content, where)
        if result.cache is not None:
            parts = [{"type": "input_text", "text": output}] if isinstance(output, str) else output
            parts[-1:] = [self._marked(part, result.cache) for part in parts[-1:]]
            output = parts if self._takes_markers else output
        kind = f"{CUSTOM_CALL}_output" if result.tool_call_id in self._custom else "function_call_output"
        return {"type": kind, "call_id": call_id(result.tool_call_id), "output": output}

    # --- what the model said ------------------------------------------------------------------------------------------

    def _assistant(self, out: list[JsonObject | msgspec.Raw], parts: Sequence[Part]) -> None:
        thoughts = [self._own(part.opaque) for part in parts if isinstance(part, Reasoning)]
        if thoughts and not any(thoughts):
            self._warn("reasoning", "thoughts that this model did not encrypt itself have no place there")
        said: JsonObject | None = None
        for part in parts:
            if isinstance(part, Text):
                said = self._say(out, part, said)
                continue
            said = None
            match part:
                case Reasoning() if data := self._own(part.opaque):
                    self.sends_thoughts = True
                    out.append(msgspec.Raw(data))
                case ToolCall():
                    out.append(self._tool_call(part))
                case ServerTool():
                    self._step(out, part)
                case Image() | Document() | Audio():
                    self._warn("assistant_media", "media in an earlier answer have no place there")
                case _:
                    pass

    def _say(self, out: list[JsonObject | msgspec.Raw], part: Text, said: JsonObject | None) -> JsonObject | None:
        """Text joins the message before it, if both say the same besides (`phase`)."""
        if part.cache is not None:
            self._warn("cache_control", "an earlier answer takes no cache marker")
        if not part.text:
            return said
        fresh: JsonObject = {**read_extras(self._own(part.opaque)), "role": "assistant", "content": part.text}
        if said is not None and {**said, "content": ""} == {**fresh, "content": ""}:
            content: Any = said["content"]
            before = [{"type": "output_text", "text": content}] if isinstance(content, str) else content
            said["content"] = [*before, {"type": "output_text", "text": part.text}]
            return said
        said = fresh
        out.append(said)
        return said

    def _tool_call(self, part: ToolCall) -> JsonObject:
        rest = read_extras(self._own(part.opaque))
        wire: JsonObject = {"call_id": call_id(part.id), "name": part.name}
        if rest.get("type") == CUSTOM_CALL:
            self._custom.add(part.id)
            said = try_decode(OBJECT, part.arguments) or {}
            return {**rest, **wire, "input": str(said.get("input", part.arguments))}
        self._custom.discard(part.id)
        return {**rest, "type": "function_call", **wire, "arguments": part.arguments or "{}"}

    def _step(self, out: list[JsonObject | msgspec.Raw], part: ServerTool) -> None:
        if data := self._own(part.opaque):
            out.append(msgspec.Raw(data))
        else:
            self._warn("server_tool", "steps of tools that another provider or model ran were left out")

    def _own(self, opaque: Opaque | None) -> bytes | None:
        """Opaque data goes back to the provider and model that it is from, and to nobody else."""
        if opaque is None:
            return None
        data = own_data(opaque, self._call, DIALECT)
        if data is not None and try_decode(OBJECT, data) is not None:
            return data
        self._warn("opaque", "data that only another provider, model or API can read was left out of the history")
        return None

    def _warn(self, what: str, message: str, code: str = "part_dropped") -> None:
        self._warned.setdefault(what, Warning(code=code, parameter="messages", message=f"{message}."))


def _data_uri(source: Inline) -> str:
    return f"data:{source.media_type};base64,{b64encode(source.data).decode()}"
