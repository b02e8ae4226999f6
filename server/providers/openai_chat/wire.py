"""The Chat Completions wire: requests out, answers and streams in, for every preset."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from server.core.errors import (
    NotConfigured,
    ProviderError,
    ProviderProtocolError,
    ProviderUnauthenticated,
    StreamTruncated,
)
from server.core.events import Native, StreamEvent
from server.core.ports import EmbedCall, ListedModel, ProviderCall, ProviderTarget
from server.providers.errors import WireError, provider_error
from server.providers.http import HttpRequest
from server.providers.openai_chat.answer import Answer
from server.providers.openai_chat.chunks import CHUNK, Chunk
from server.providers.openai_chat.embeddings import plan, read_answer
from server.providers.openai_chat.errors import read_error
from server.providers.openai_chat.history import DIALECT
from server.providers.openai_chat.native import natives
from server.providers.openai_chat.presets import Preset, preset_for
from server.providers.openai_chat.request import build_body
from server.providers.parsing import UNREADABLE, FramedParser, decode, tokens
from server.providers.sse import SseEvent, SseParser
from server.providers.wire import (
    BuiltRequest,
    Clock,
    EmbedAnswer,
    EmbedExchange,
    EmbedPlan,
    Exchange,
    IdSource,
    ModelPage,
    StreamParser,
    Wire,
    random_call_id,
)

DONE: Final = b"[DONE]"


class OpenAIChatWire(Wire):
    """preset: the row of the slug that this instance serves; `custom` finds the row of its endpoint's host."""

    dialect = DIALECT

    def __init__(self, preset: Preset, *, clock: Clock = time.time, new_id: IdSource = random_call_id) -> None:
        super().__init__(clock=clock, new_id=new_id)
        self._preset = preset

    def build_request(self, call: ProviderCall) -> BuiltRequest:
        preset = preset_for(call.target, self._preset)
        body, warnings = build_body(call, preset)
        headers = (
            *_credentials(call.target, preset),
            ("content-type", "application/json"),
            ("accept", "text/event-stream" if call.stream else "application/json"),
        )
        url = _url(call.target, preset, "/chat/completions")
        return BuiltRequest(HttpRequest("POST", url, headers, msgspec.json.encode(body)), warnings)

    def parse_response(self, exchange: Exchange, body: bytes) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        # DeepSeek keeps a connection alive with empty lines before the JSON.
        chunk = decode(CHUNK, body.strip(), "an answer")
        answer = self.answer(exchange, events.append)
        answer.chunk(chunk)
        if events and exchange.call.request.dialect == DIALECT:  # nobody else can make use of them
            events += natives(body)
        if not chunk.choices:
            # Some servers put an error into a 200 in shapes of their own.
            said = read_error(body, None)
            if said.message or said.code:
                raise self._error(exchange.call.target, said, exchange.headers)
            raise ProviderProtocolError("The provider's answer holds no choice.")
        answer.complete()
        return events

    def stream_parser(self, exchange: Exchange) -> StreamParser:
        return ChatStreamParser(exchange, self)

    def build_embed(self, call: EmbedCall) -> EmbedPlan:
        preset = preset_for(call.target, self._preset)
        headers = (
            *_credentials(call.target, preset),
            ("content-type", "application/json"),
            ("accept", "application/json"),
        )
        url = _url(call.target, preset, "/embeddings")
        return plan(call, preset, lambda body: HttpRequest("POST", url, headers, body))

    def parse_embed(self, exchange: EmbedExchange, body: bytes) -> EmbedAnswer:
        answer = read_answer(body)
        if answer is None:
            said = read_error(body, None)
            if said.message or said.code:
                raise self._error(exchange.call.target, said, exchange.headers)
            raise ProviderProtocolError("The provider's answer holds no embeddings.")
        return answer

    def map_error(self, target: ProviderTarget, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return self._error(target, read_error(body, status), headers)

    def build_list_models(self, target: ProviderTarget, page: str | None = None) -> HttpRequest:  # noqa: ARG002
        return self._get(target, "/models")

    def build_validate(self, target: ProviderTarget) -> HttpRequest:
        return self._get(target, preset_for(target, self._preset).validate_path)

    def parse_models(self, body: bytes, page: str | None = None) -> ModelPage:  # noqa: ARG002  one page is all
        found = decode(_MODELS, body.strip(), "a list of models")
        rows = found if isinstance(found, list) else (found.data or found.models or [])
        return ModelPage(tuple(row.listed() for row in rows if row.id))

    def _get(self, target: ProviderTarget, path: str) -> HttpRequest:
        preset = preset_for(target, self._preset)
        return HttpRequest(
            "GET", _url(target, preset, path), (*_credentials(target, preset), ("accept", "application/json"))
        )

    def _error(self, target: ProviderTarget, error: WireError, headers: Mapping[str, str]) -> ProviderError:
        preset = preset_for(target, self._preset)
        mapped = provider_error(error, headers, table=preset.errors, now=self._clock())
        if error.status == 400 and any(words in (error.message or "").lower() for words in preset.bad_key):
            return ProviderUnauthenticated(
                mapped.message,
                http_status=mapped.http_status,
                type=mapped.type,
                code=mapped.code,
                provider_message=mapped.provider_message,
                request_id=mapped.request_id,
                metadata=mapped.metadata,
            )
        return mapped

    def answer(self, exchange: Exchange, emit: Callable[[StreamEvent], None]) -> Answer:
        """A new answer, that hands its events to `emit`."""
        preset = preset_for(exchange.call.target, self._preset)
        return Answer(exchange, preset, emit, new_id=self._new_id, clock=self._clock)


class ChatStreamParser(FramedParser[SseEvent]):
    """`data: {chunk}` events, ended by `data: [DONE]`. Servers that leave that out are done when the body is, provided
    that they had given a finish reason."""

    def __init__(self, exchange: Exchange, wire: OpenAIChatWire) -> None:
        super().__init__(exchange, SseParser())
        self._answer = wire.answer(exchange, self.events.append)
        self._wants_natives = exchange.call.request.dialect == DIALECT
        self._natives: list[Native] = []

    def on_frame(self, frame: SseEvent) -> None:
        data = frame.data
        # A chunk is an object: only what is none is looked at closely.
        if data[:1] != b"{" and data.strip() == DONE:
            self._answer.complete()
            return
        if not data or data.isspace():
            return
        try:
            chunk = CHUNK.decode(data)
        except UNREADABLE:
            chunk = self._closely(frame)
        try:
            self._answer.chunk(chunk)
        finally:
            self.usage = self._answer.usage
        if self._wants_natives:
            self._natives += natives(data)
            if self._natives and self._answer.started:
                self.events += self._natives
                self._natives.clear()

    @staticmethod
    def _closely(frame: SseEvent) -> Chunk:
        """A chunk that is not read at once: mended, or the error that it is."""
        try:
            return decode(CHUNK, frame.data, "a stream event")
        except ProviderProtocolError:
            if frame.unterminated:
                raise StreamTruncated("The connection ended in the middle of a stream event.") from None
            raise

    def on_end(self) -> None:
        if self._answer.finish_reason is not None:
            self._answer.complete()


class _TopProvider(msgspec.Struct, frozen=True):
    max_completion_tokens: float | None = None


class _Model(msgspec.Struct, frozen=True):
    """A model in any of the lists: OpenAI has id alone; the limits as Groq, Mistral, vLLM, OpenRouter call them."""

    id: str | None = None
    name: str | None = None
    context_length: float | None = None
    context_window: float | None = None
    max_context_length: float | None = None
    max_model_len: float | None = None
    max_completion_tokens: float | None = None
    top_provider: _TopProvider | None = None

    def listed(self) -> ListedModel:
        limits = (self.context_length, self.context_window, self.max_context_length, self.max_model_len)
        output = self.max_completion_tokens
        if output is None and self.top_provider is not None:
            output = self.top_provider.max_completion_tokens
        return ListedModel(
            name=self.id or "",
            display_name=self.name,
            context_tokens=next((tokens(limit) for limit in limits if limit), None),
            output_tokens=tokens(output) or None,
        )


class _ModelList(msgspec.Struct, frozen=True):
    """data is null at an Ollama without models; some servers call it models."""

    data: list[_Model] | None = None
    models: list[_Model] | None = None


_MODELS: Final[msgspec.json.Decoder[list[_Model] | _ModelList]] = msgspec.json.Decoder(list[_Model] | _ModelList)


def _url(target: ProviderTarget, preset: Preset, path: str) -> str:
    """Where a call goes: the configured endpoint, or the preset's own. Its query, if it has one, is kept."""
    base = target.endpoint or preset.base_url
    if base is None:
        raise NotConfigured(f"The configuration for {preset.name} needs an endpoint.")
    try:
        return _placed(base, preset.path if target.endpoint else "", path)
    except ValueError as exc:
        raise NotConfigured(f"The endpoint for {preset.name} is no URL.") from exc


@lru_cache(maxsize=1024)
def _placed(base: str, own_path: str, path: str) -> str:
    """`path` below `base`, or below `own_path` there where base has no path. Raises ValueError for what is no URL."""
    parts = urlsplit(base)
    root = parts.path.rstrip("/").removesuffix("/chat/completions") or own_path
    return urlunsplit((parts.scheme, parts.netloc, root + path, parts.query, ""))


def _credentials(target: ProviderTarget, preset: Preset) -> tuple[tuple[str, str], ...]:
    if target.secret is None:
        if preset.auth == "optional_bearer":
            return ()
        raise NotConfigured(f"The configuration for {preset.name} has no API key.")
    key = target.secret.reveal()
    return (("api-key", key),) if preset.auth == "api_key_header" else (("authorization", f"Bearer {key}"),)
