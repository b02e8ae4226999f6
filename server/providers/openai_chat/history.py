"""The conversation as Chat Completions messages: parts of every kind, tool results, earlier thoughts."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Final

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
from server.providers.openai_chat.presets import Preset
from server.providers.params import JsonObject
from server.providers.parsing import try_decode
from server.providers.wire import own_data

DIALECT: Final = "openai_chat"
"""This wire's name among those that callers may speak too (`Wire.dialect`)."""

_AUDIO_FORMATS: Final = {"wav": "wav", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav", "mpeg": "mp3", "mp3": "mp3"}

_DETAILS: Final = msgspec.json.Decoder(list[dict[str, Any]])
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])
_NOT_OURS: Final = "the opaque data of a part is not what the provider gave"


def cache_control(ttl: str | None) -> JsonObject:
    """Anthropic's marker, which OpenRouter hands on."""
    return {"type": "ephemeral", "ttl": ttl} if ttl else {"type": "ephemeral"}


def _named(wire: JsonObject, message: Message) -> JsonObject:
    if message.name is not None:
        wire["name"] = message.name
    return wire


class History:
    """Builds `messages` for one call. warnings: what of the history had no place there, each kind once."""

    def __init__(self, call: ProviderCall, preset: Preset) -> None:
        self._call = call
        self._preset = preset
        self.warnings: list[Warning] = []
        self._warned: set[str] = set()

    def build(self, request: ChatRequest) -> list[JsonObject]:
        """All messages in order. What a tool result holds besides text follows the results as a user message, as the
        API takes nothing but text in them."""
        out: list[JsonObject] = []
        if request.system is not None:
            out.append({"role": "system", "content": request.system})
        aside: list[JsonObject] = []
        for index, message in enumerate(request.messages):
            parts = message.parts
            # A text and nothing else goes out as a string in every role.
            if len(parts) == 1 and type(part := parts[0]) is Text and part.cache is None:
                if aside:
                    self._flush(out, aside)
                wire: JsonObject = {"role": message.role, "content": part.text}
                out.append(wire if message.name is None else _named(wire, message))
                continue
            where = f"messages[{index}]"
            results = [part for part in parts if isinstance(part, ToolResult)]
            others = tuple(part for part in parts if not isinstance(part, ToolResult))
            out.extend(self._result(result, aside, where) for result in results)
            if results and not others:
                continue
            if aside:
                self._flush(out, aside)
            out.append(self._message(message, others, where))
        if aside:
            self._flush(out, aside)
        return out

    @staticmethod
    def _flush(out: list[JsonObject], aside: list[JsonObject]) -> None:
        out.append({"role": "user", "content": list(aside)})
        aside.clear()

    def _message(self, message: Message, parts: tuple[Part, ...], where: str) -> JsonObject:
        wire: JsonObject = {"role": message.role}
        if message.role == "assistant":
            self._assistant(wire, parts)
        else:
            wire["content"] = self._content(parts, where)
        return _named(wire, message)

    def _content(self, parts: Sequence[Part], where: str) -> str | list[JsonObject]:
        """A plain string where that says everything: every server takes it."""
        if all(isinstance(part, Text) for part in parts) and len(parts) <= 1 and not self._marked(parts):
            return "".join(part.text for part in parts if isinstance(part, Text))
        return [self._part(part, f"{where}.parts[{index}]") for index, part in enumerate(parts)]

    def _marked(self, parts: Sequence[Part]) -> bool:
        """Whether a cache marker must be sent; where there is none to send, that is said once."""
        return any(getattr(part, "cache", None) is not None for part in parts) and self._takes_markers()

    def _takes_markers(self) -> bool:
        if not self._preset.cache_control:
            self._warn("cache_control", f"{self._preset.name} takes no cache markers")
        return self._preset.cache_control

    def _part(self, part: Part, where: str) -> JsonObject:
        match part:
            case Text():
                return self._with_cache({"type": "text", "text": part.text}, part.cache)
            case Image():
                image: JsonObject = {"url": self._url(part.source, where, remote=self._preset.remote_images)}
                if part.detail is not None:
                    image["detail"] = part.detail
                return self._with_cache({"type": "image_url", "image_url": image}, part.cache)
            case Document():
                return self._with_cache(self._document(part, where), part.cache)
            case Audio(source=Inline() as source):
                subtype = source.media_type.partition("/")[2].partition(";")[0].lower()
                audio = {"data": b64encode(source.data).decode(), "format": _AUDIO_FORMATS.get(subtype, subtype)}
                return {"type": "input_audio", "input_audio": audio}
            case Audio():
                raise UnsupportedParameter.field(where, "Chat Completions takes audio only as bytes in the request")
            case _:
                raise UnsupportedParameter.field(where, f"a message of this role holds no {type(part).__name__}")

    def _with_cache(self, wire: JsonObject, cache: CacheControl | None) -> JsonObject:
        if cache is not None and self._takes_markers():
            wire["cache_control"] = cache_control(cache.ttl)
        return wire

    @staticmethod
    def _url(source: Source, where: str, *, remote: bool) -> str:
        match source:
            case Inline():
                return f"data:{source.media_type};base64,{b64encode(source.data).decode()}"
            case Remote() if remote:
                return source.url
            case _:
                raise UnsupportedParameter.field(where, "this server takes it only as bytes in the request")

    def _document(self, part: Document, where: str) -> JsonObject:
        if part.citations:
            self._warn("citations", "Chat Completions cannot be asked to cite from a document")
        source = part.source
        if isinstance(source, Inline) and source.media_type.startswith("text/"):
            text = source.data.decode("utf-8", "replace")
            return {"type": "text", "text": f"{part.name}:\n{text}" if part.name else text}
        if not self._preset.files:
            raise UnsupportedParameter.field(where, f"{self._preset.name} takes no documents in Chat Completions")
        match source:
            case Inline():
                file = {"filename": part.name or "document", "file_data": self._url(source, where, remote=False)}
            case Remote():
                raise UnsupportedParameter.field(where, "Chat Completions takes a document as bytes or by file id")
            case _:
                file = {"file_id": source.file_id}
        return {"type": "file", "file": file}

    def _result(self, result: ToolResult, aside: list[JsonObject], where: str) -> JsonObject:
        texts = [part for part in result.content if isinstance(part, Text)]
        others = [part for part in result.content if not isinstance(part, Text)]
        if result.is_error:
            self._warn("is_error", "Chat Completions has no mark for a failed tool; its result was sent as it is")
        content: str | list[JsonObject] = self._content(texts, where)
        if result.cache is not None and self._takes_markers():
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            parts[-1:] = [self._with_cache(part, result.cache) for part in parts[-1:]]
            content = parts
        if others:
            aside.append({"type": "text", "text": f"Result of tool call {result.tool_call_id}:"})
            aside.extend(self._part(part, where) for part in others)
            content = content or "The result follows in the next message."
        return {"role": "tool", "tool_call_id": self._id(result.tool_call_id), "content": content}

    def _assistant(self, wire: JsonObject, parts: Sequence[Part]) -> None:
        texts = [part for part in parts if isinstance(part, Text)]
        thoughts = [part for part in parts if isinstance(part, Reasoning)]
        calls = [part for part in parts if isinstance(part, ToolCall)]
        if any(isinstance(part, ServerTool) for part in parts):
            self._warn("server_tool", "the steps of tools that a provider ran have no place in Chat Completions")
        if any(isinstance(part, (Image, Document, Audio)) for part in parts):
            self._warn("assistant_media", "media in an earlier answer have no place in Chat Completions")
        text = "".join(part.text for part in texts)
        wire["content"] = text if text or not calls else None
        if self._marked(texts):
            wire["content"] = [self._part(part, "") for part in texts]
        self._reasoning(wire, thoughts, text, has_calls=bool(calls))
        if calls:
            wire["tool_calls"] = [self._call_of(part) for part in calls]

    def _call_of(self, part: ToolCall) -> JsonObject:
        wire: JsonObject = {
            "id": self._id(part.id),
            "type": "function",
            "function": {"name": part.name, "arguments": part.arguments or "{}"},
        }
        if data := self._own(part.opaque):
            # It comes back from the caller, so it is checked before it goes into the body as it is.
            if try_decode(_OBJECT, data) is None:
                raise InvalidRequest.field("messages", _NOT_OURS)
            wire["extra_content"] = msgspec.Raw(data)
        return wire

    def _reasoning(self, wire: JsonObject, thoughts: list[Reasoning], text: str, *, has_calls: bool) -> None:
        back = self._preset.reasoning_back
        thought = "".join(part.text for part in thoughts)
        if back == "reasoning_content" and (thoughts or has_calls):
            # DeepSeek refuses a turn with tool calls that lacks the field, even an empty one.
            wire["reasoning_content"] = thought
        elif not thoughts:
            return
        elif back == "reasoning":
            wire["reasoning"] = thought
        elif back == "reasoning_details" and (details := self._details(thoughts)):
            wire["reasoning_details"] = details
        elif back == "thinking_parts" and thought:
            thinking = {"type": "thinking", "thinking": [{"type": "text", "text": thought}]}
            wire["content"] = [thinking, *([{"type": "text", "text": text}] if text else [])]
        else:
            self._warn("reasoning", "the thoughts of earlier turns have no place there and were left out")

    def _details(self, thoughts: list[Reasoning]) -> list[JsonObject]:
        details: list[JsonObject] = []
        for part in thoughts:
            if (data := self._own(part.opaque)) is None:
                continue
            if (found := try_decode(_DETAILS, data)) is None:
                raise InvalidRequest.field("messages", _NOT_OURS)
            details.extend(found)
        return details

    def _own(self, opaque: Opaque | None) -> bytes | None:
        """Opaque data goes back to the provider and model that it is from, and to nobody else."""
        if opaque is None:
            return None
        data = own_data(opaque, self._call, DIALECT)
        if data is not None:
            return data
        self._warn("opaque", "data that only another provider or model can read was left out of the history")
        return None

    def _id(self, id: str) -> str:
        return self._preset.call_id(id) if self._preset.call_id is not None else id

    def _warn(self, what: str, message: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            self.warnings.append(Warning(code="part_dropped", parameter="messages", message=f"{message}."))
