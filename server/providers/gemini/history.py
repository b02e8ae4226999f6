"""The conversation as `contents`: roles user and model, parts of every kind, results matched to calls."""

from __future__ import annotations

from base64 import b64encode
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
from server.providers.blocks import is_object
from server.providers.gemini.endpoint import Place
from server.providers.gemini.kept import Kept, Piece, kept_of, raw_part
from server.providers.gemini.thinking import takes_levels
from server.providers.params import JsonObject, approximated, raw_object
from server.providers.wire import own_data

NO_SIGNATURE: Final = "skip_thought_signature_validator"
"""What Gemini 3 takes instead of a signature for a call that another model made; without any it answers 400
(ai.google.dev/gemini-api/docs/thought-signatures, FAQ)."""


class _Call(msgspec.Struct, frozen=True):
    """A function call of the history, for its result. order: among the calls of its turn. given_id: the provider's."""

    name: str
    order: int
    given_id: str | None


class History:
    """Builds `systemInstruction` and `contents` for one call. warnings: what had no place there, each kind once."""

    def __init__(self, call: ProviderCall, place: Place) -> None:
        self._call = call
        self._place = place
        self._calls: dict[str, _Call] = {}
        self._warned: dict[str, Warning] = {}
        self._details: set[str] = set()

    @property
    def warnings(self) -> tuple[Warning, ...]:
        return tuple(self._warned.values())

    @property
    def media_resolution(self) -> str | None:
        """`generationConfig.mediaResolution` for what the images ask for; the API has it for all of them together."""
        wanted = self._details - {"auto"}
        if len(self._details) > 1:
            self._approximate("detail", "images cannot have different details; the highest was asked for", "detail")
        if not wanted:
            return None
        return f"MEDIA_RESOLUTION_{'HIGH' if 'high' in wanted else 'LOW'}"

    def system(self, request: ChatRequest) -> list[JsonObject]:
        """The parts of `systemInstruction`."""
        parts: list[JsonObject] = [] if request.system is None else [{"text": request.system}]
        leading = True
        for index, message in enumerate(request.messages):
            if message.role != "system":
                leading = False
                continue
            if not leading:
                self._approximate("system", "a system message after the beginning was moved to it, as Gemini has none")
            for part in message.parts:
                if not isinstance(part, Text):
                    raise UnsupportedParameter.field(f"messages[{index}]", "a system message holds nothing but text")
                parts.append({"text": part.text})
                self._cache(part.cache)
        return parts

    def contents(self, request: ChatRequest) -> list[JsonObject]:
        """All turns in order. The results of a turn's calls go in one content, in the order of the calls; media that
        cannot stand in a result follow it in a content of their own."""
        out: list[JsonObject] = []
        results: list[ToolResult] = []
        for index, message in enumerate(request.messages):
            where = f"messages[{index}]"
            if message.name is not None:
                self._warn("name", "Gemini takes no names of participants", "name")
            found = [part for part in message.parts if isinstance(part, ToolResult)]
            others = [part for part in message.parts if not isinstance(part, ToolResult)]
            results += found
            if message.role == "system" or (found and not others):
                continue
            self._flush(out, results)
            if message.role == "assistant":
                parts = self._model_parts(others, where)
            else:
                parts = [wire for place, part in enumerate(others) for wire in self._part(part, f"{where}[{place}]")]
            if found:
                out[-1]["parts"] += parts  # one message stays one content
            elif parts:
                out.append({"role": "model" if message.role == "assistant" else "user", "parts": parts})
        self._flush(out, results)
        return out

    # --- parts of any turn --------------------------------------------------------------------------------------------

    def _part(self, part: Part, where: str) -> list[JsonObject]:
        match part:
            case Text():
                self._cache(part.cache)
                return [{"text": part.text}]
            case Image():
                self._cache(part.cache)
                if part.detail is not None:
                    self._details.add(part.detail)
                return [self._media(part.source)]
            case Document():
                self._cache(part.cache)
                if part.citations:
                    self._warn("citations", "Gemini cannot be asked to cite from a document", "citations")
                name = [{"text": f"{part.name}:"}] if part.name else []
                return [*name, self._media(part.source)]
            case Audio():
                return [self._media(part.source)]
            case _:
                raise UnsupportedParameter.field(where, f"a message of this role holds no {type(part).__name__}")

    def _media(self, source: Source) -> JsonObject:
        match source:
            case Inline():
                data = b64encode(source.data).decode()
                return {"inlineData": {"mimeType": source.media_type, "data": data}}
            case Remote():
                file = {"fileUri": source.url}
            case _:
                file = {"fileUri": self._place.file_uri(source.file_id)}
        return {"fileData": file | ({"mimeType": source.media_type} if source.media_type else {})}

    # --- an answer that goes back -------------------------------------------------------------------------------------

    def _model_parts(self, parts: Sequence[Part], where: str) -> list[JsonObject]:
        out: list[JsonObject] = []
        order = 0
        for part in parts:
            match part:
                case Text():
                    self._cache(part.cache)
                    out += self._pieces(part.text, part.opaque) or ([{"text": part.text}] if part.text else [])
                case Reasoning():
                    thoughts = self._pieces(part.text, part.opaque)
                    if not thoughts:
                        self._warn("reasoning", "thoughts that are not this model's own were left out of the history")
                    out += thoughts
                case ToolCall():
                    out.append(self._call_part(part, order, f"{where}.tool_calls[{order}]"))
                    order += 1
                case ServerTool():
                    raw = raw_part(self._own(part.opaque))
                    if raw is None:
                        self._warn("server_tool", "steps of tools that another provider ran were left out")
                    else:
                        out.append(raw)  # type: ignore[arg-type]  # encoded as it came
                case _:
                    out += self._part(part, where)
        return out

    def _pieces(self, text: str, opaque: Opaque | None) -> list[JsonObject]:
        """The parts that a block was, each with its own signature; [] if that is not known, or the text is another."""
        kept = kept_of(self._own(opaque))
        if kept is None or not kept.pieces:
            return []
        if sum(piece.chars for piece in kept.pieces) != len(text) or any(piece.chars < 0 for piece in kept.pieces):
            self._warn("signature", "the signatures of a text that was changed were left out of the history")
            return []
        out: list[JsonObject] = []
        at = 0
        for piece in kept.pieces:
            out.append(_piece(text[at : at + piece.chars], piece))
            at += piece.chars
        return out

    def _call_part(self, part: ToolCall, order: int, where: str) -> JsonObject:
        kept = kept_of(self._own(part.opaque)) or Kept()
        self._cache(part.cache)
        self._calls[part.id] = _Call(part.name, order, kept.id)
        function: JsonObject = {"name": part.name, "args": raw_object(part.arguments or "{}", f"{where}.arguments")}
        if kept.id is not None:
            function["id"] = kept.id
        wire: JsonObject = {"functionCall": function}
        signature = kept.signature
        if signature is None and order == 0 and takes_levels(self._call.info):
            signature = NO_SIGNATURE
        if signature is not None:
            wire["thoughtSignature"] = signature
        return wire

    def _own(self, opaque: Opaque | None) -> bytes | None:
        """Opaque data goes back to the provider and model that it is from, and to nobody else."""
        data = own_data(opaque, self._call)
        if opaque is not None and data is None:
            self._warn("opaque", "data that only another provider or model can read was left out of the history")
        return data

    # --- results ------------------------------------------------------------------------------------------------------

    def _flush(self, out: list[JsonObject], results: list[ToolResult]) -> None:
        """One content for all results so far."""
        if not results:
            return
        aside: list[JsonObject] = []
        known = [(self._calls.get(result.tool_call_id), result) for result in results]
        known.sort(key=lambda pair: pair[0].order if pair[0] is not None else 0)
        out.append({"role": "user", "parts": [self._result(call, result, aside) for call, result in known]})
        if aside:
            out.append({"role": "user", "parts": aside})
        results.clear()

    def _result(self, call: _Call | None, result: ToolResult, aside: list[JsonObject]) -> JsonObject:
        name = call.name if call is not None else result.name
        if name is None:
            raise InvalidRequest.field("messages.tool_call_id", f"answers no tool call ({result.tool_call_id[:64]!r})")
        self._cache(result.cache)
        media: list[JsonObject] = []
        for part in result.content:
            media += self._part(part, "messages.content") if not isinstance(part, Text) else []
        function: JsonObject = {"name": name, "response": _response(result)}
        if call is not None and call.given_id is not None:
            function["id"] = call.given_id
        if media and takes_levels(self._call.info):
            function["parts"] = media
        elif media:
            # Results with media of their own are taken from Gemini 3 on.
            aside += [{"text": f"Result of the call of {name}:"}, *media]
        return {"functionResponse": function}

    # --- what has no place --------------------------------------------------------------------------------------------

    def _cache(self, cache: CacheControl | None) -> None:
        if cache is not None:
            self._warn("cache_control", "Gemini takes no cache markers: it caches by itself, or by cachedContent")

    def _warn(self, what: str, message: str, parameter: str = "messages") -> None:
        self._warned.setdefault(what, Warning(code="part_dropped", parameter=parameter, message=f"{message}."))

    def _approximate(self, what: str, how: str, parameter: str = "messages") -> None:
        self._warned.setdefault(what, approximated(parameter, how))


def _piece(text: str, piece: Piece) -> JsonObject:
    wire: JsonObject = {"text": text}
    if piece.thought:
        wire["thought"] = True
    if piece.signature is not None:
        wire["thoughtSignature"] = piece.signature
    return wire


def _response(result: ToolResult) -> JsonObject | msgspec.Raw:
    """`functionResponse.response` is an object: a result that is one goes as it stands, anything else under the key
    that the API's reference names, `output` or `error`."""
    texts = [part.text for part in result.content if isinstance(part, Text)]
    if len(texts) > 1:
        return {"error" if result.is_error else "output": texts}
    text = "".join(texts)
    value = msgspec.Raw(text.encode()) if is_object(text) else text
    if result.is_error:
        return {"error": value}
    return value if isinstance(value, msgspec.Raw) else {"output": value}
