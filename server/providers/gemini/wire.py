"""The Gemini wire: requests out, answers and streams in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode

import msgspec

from server.core.errors import ProviderError, ProviderProtocolError, StreamTruncated
from server.core.events import StreamEvent
from server.core.ports import EmbedCall, ListedModel, ProviderCall, ProviderTarget
from server.providers.gemini.answer import Answer
from server.providers.gemini.chunks import ANSWER, CHUNK
from server.providers.gemini.embeddings import plan, read_answer
from server.providers.gemini.endpoint import credentials, place_of
from server.providers.gemini.errors import map_error, read_body
from server.providers.gemini.request import build_body
from server.providers.http import HttpRequest
from server.providers.params import JsonObject
from server.providers.parsing import FramedParser, counted, decode, tokens
from server.providers.sse import SseEvent, SseParser
from server.providers.wire import (
    BuiltRequest,
    EmbedAnswer,
    EmbedExchange,
    EmbedPlan,
    Exchange,
    ModelPage,
    StreamParser,
    Wire,
)

PAGE_SIZE: Final = 1000
"""The most that the API gives at once."""

VERTEX_COUNTED: Final = ("contents", "systemInstruction", "tools", "generationConfig")
"""What Vertex AI's countTokens takes; the rest of a request is no input of the model."""

_MAX_LOOSE: Final = 64 * 1024


class GeminiWire(Wire):
    """generateContent; `alt=sse` for streams. Vertex AI by the endpoint (see `endpoint.py`)."""

    def build_request(self, call: ProviderCall) -> BuiltRequest:
        place = place_of(call.target)
        body, warnings = build_body(call, place)
        headers = (
            *credentials(call.target, place),
            ("content-type", "application/json"),
            ("accept", "text/event-stream" if call.stream else "application/json"),
        )
        verb = "streamGenerateContent" if call.stream else "generateContent"
        url = place.model_url(call.model, verb) + ("?alt=sse" if call.stream else "")
        return BuiltRequest(HttpRequest("POST", url, headers, msgspec.json.encode(body)), warnings)

    def parse_response(self, exchange: Exchange, body: bytes) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        found = decode(ANSWER, _compact(body), "an answer")
        answer = self.answer(exchange, events.append)
        chunks = found if isinstance(found, list) else [found]
        for chunk in chunks:
            answer.chunk(chunk)
        if not answer.finished and not any(chunk.candidates for chunk in chunks):
            raise ProviderProtocolError("The provider's answer holds no candidate.")
        answer.complete()
        return events

    def stream_parser(self, exchange: Exchange) -> StreamParser:
        return GeminiStreamParser(exchange, self)

    def build_embed(self, call: EmbedCall) -> EmbedPlan:
        return plan(call, place_of(call.target))

    def parse_embed(self, exchange: EmbedExchange, body: bytes) -> EmbedAnswer:  # noqa: ARG002  all forms say what they are
        return read_answer(body)

    def build_count(self, call: ProviderCall) -> BuiltRequest:
        """countTokens. The Gemini API takes the whole request in `generateContentRequest`, Vertex AI what of it is
        counted (ai.google.dev/api/tokens; aiplatform v1, CountTokensRequest)."""
        place = place_of(call.target)
        whole, warnings = build_body(msgspec.structs.replace(call, stream=False), place)
        url = place.model_url(call.model, "countTokens")
        if place.vertex:
            body: JsonObject = {name: whole[name] for name in VERTEX_COUNTED if name in whole}
        else:
            resource = call.model if "/" in call.model else f"models/{call.model}"
            body = {"generateContentRequest": {"model": resource, **whole}}
        headers = (
            *credentials(call.target, place),
            ("content-type", "application/json"),
            ("accept", "application/json"),
        )
        return BuiltRequest(HttpRequest("POST", url, headers, msgspec.json.encode(body)), warnings)

    def parse_count(self, body: bytes) -> int:
        return counted(decode(_COUNT, body, "a count of tokens").total_tokens)

    def map_error(self, target: ProviderTarget, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:  # noqa: ARG002
        return map_error(read_body(body), status, headers, now=self._clock())

    def map_stream_error(self, exchange: Exchange, body: bytes) -> ProviderError:
        """The error of a body that stands inside a stream that had begun with a 2xx."""
        return map_error(read_body(body), None, exchange.headers, now=self._clock())

    def build_list_models(self, target: ProviderTarget, page: str | None = None) -> HttpRequest:
        place = place_of(target)
        query = {"pageSize": str(PAGE_SIZE)} | ({"pageToken": page} if page is not None else {})
        headers = (*credentials(target, place), ("accept", "application/json"))
        return HttpRequest("GET", f"{place.models_url}?{urlencode(query)}", headers)

    def parse_models(self, body: bytes, page: str | None = None) -> ModelPage:  # noqa: ARG002
        found = decode(_MODELS, body, "a list of models")
        rows = found.models or found.publisher_models or []
        return ModelPage(tuple(row.listed() for row in rows if row.name), found.next_page_token or None)

    def answer(self, exchange: Exchange, emit: Callable[[StreamEvent], None]) -> Answer:
        """A new answer, that hands its events to `emit`."""
        return Answer(exchange, emit, new_id=self._new_id, clock=self._clock)


def _compact(body: bytes) -> bytes:
    """Without the indentation that whole answers come with: parts of them are kept and sent back. What is no JSON stays
    as it is."""
    try:
        return msgspec.json.format(body, indent=-1)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return body


class GeminiStreamParser(FramedParser[SseEvent]):
    """`data: {response}` events, each with what is new. The end of the body is the end of the answer, provided that a
    finish reason had come."""

    def __init__(self, exchange: Exchange, wire: GeminiWire) -> None:
        super().__init__(exchange, SseParser())
        self._wire = wire
        self._answer = wire.answer(exchange, self.events.append)
        self._tail = bytearray()

    def feed(self, data: bytes) -> list[StreamEvent]:
        self._tail += data
        if len(self._tail) > 2 * _MAX_LOOSE:
            del self._tail[:-_MAX_LOOSE]
        return super().feed(data)

    def on_frame(self, frame: SseEvent) -> None:
        data = frame.data.strip()
        if not data or data == b"[DONE]":  # the marker of other APIs, which some proxies add
            return
        try:
            chunk = decode(CHUNK, data, "a stream event")
        except ProviderProtocolError:
            if frame.unterminated:
                raise StreamTruncated("The connection ended in the middle of a stream event.") from None
            raise
        try:
            self._answer.chunk(chunk)
        finally:
            self.usage = self._answer.usage

    def on_end(self) -> None:
        if self._answer.finished:
            self._answer.complete()
        elif (loose := self._loose()) is not None:
            raise self._wire.map_stream_error(self.exchange, loose)

    def _loose(self) -> bytes | None:
        """An error that Google puts behind the events as bare JSON, which no event-stream parser sees
        (googleapis/js-genai#461, googleapis/python-genai#1162)."""
        tail = bytes(self._tail).replace(b"\r\n", b"\n").rpartition(b"\n\n")[2].strip()
        return tail if tail[:1] in (b"{", b"[") and b'"error"' in tail else None


class _Model(msgspec.Struct, frozen=True, rename="camel"):
    """A model of the Gemini API (`models/x`) or of a Vertex publisher (`publishers/google/models/x`)."""

    name: str | None = None
    display_name: str | None = None
    input_token_limit: float | None = None
    output_token_limit: float | None = None

    def listed(self) -> ListedModel:
        name = self.name or ""
        return ListedModel(
            name=name.removeprefix("publishers/google/").removeprefix("models/"),
            display_name=self.display_name,
            context_tokens=tokens(self.input_token_limit) or None,
            output_tokens=tokens(self.output_token_limit) or None,
        )


class _ModelList(msgspec.Struct, frozen=True, rename="camel"):
    models: list[_Model] | None = None
    publisher_models: list[_Model] | None = None
    next_page_token: str | None = None


_MODELS: Final = msgspec.json.Decoder(_ModelList)


class _Count(msgspec.Struct, frozen=True, rename="camel"):
    total_tokens: float | None = None


_COUNT: Final = msgspec.json.Decoder(_Count)
