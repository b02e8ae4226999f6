"""The Responses wire: requests out, answers and streams in. Its errors, and all that is no answer, are those of the
same server's Chat Completions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from server.core.errors import NotConfigured, ProviderError, ProviderProtocolError, StreamTruncated
from server.core.events import StreamEvent
from server.core.ports import ProviderCall, ProviderTarget
from server.providers.http import HttpRequest
from server.providers.openai_chat.presets import Preset
from server.providers.openai_chat.wire import OpenAIChatWire
from server.providers.openai_responses.answer import Answer
from server.providers.openai_responses.request import build_body
from server.providers.openai_responses.servers import Server
from server.providers.openai_responses.types import DIALECT
from server.providers.parsing import FramedParser, counted, decode
from server.providers.sse import SseEvent, SseParser
from server.providers.wire import (
    BuiltRequest,
    Clock,
    Exchange,
    IdSource,
    ModelPage,
    StreamParser,
    Wire,
    random_call_id,
)

PATH: Final = "/responses"

COUNTED: Final = (
    "model",
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "text",
    "truncation",
)
"""What of a request is counted (openai-python, `types/responses/input_token_count_params.py`); the rest says how to
answer."""


class ResponsesWire(Wire):
    """server: the row that this instance serves."""

    dialect = DIALECT

    def __init__(self, server: Server, *, clock: Clock = time.time, new_id: IdSource = random_call_id) -> None:
        super().__init__(clock=clock, new_id=new_id)
        self._server = server
        self._chat = OpenAIChatWire(server.preset, clock=clock, new_id=new_id)

    def build_request(self, call: ProviderCall) -> BuiltRequest:
        body, warnings = build_body(call, self._server)
        headers = (
            _credential(call.target, self._server.preset),
            ("content-type", "application/json"),
            ("accept", "text/event-stream" if call.stream else "application/json"),
        )
        url = _url(call.target, self._server.preset)
        return BuiltRequest(HttpRequest("POST", url, headers, msgspec.json.encode(body)), warnings)

    def parse_response(self, exchange: Exchange, body: bytes) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        self.answer(exchange, events.append).whole(body.strip())
        return events

    def stream_parser(self, exchange: Exchange) -> StreamParser:
        return ResponsesStreamParser(exchange, self)

    def build_count(self, call: ProviderCall) -> BuiltRequest:
        """POST /responses/input_tokens (developers.openai.com/api/reference, responses/input_tokens)."""
        if not self._server.counts_tokens:
            return super().build_count(call)
        built = self.build_request(msgspec.structs.replace(call, stream=False))
        whole = msgspec.json.decode(built.http.body, type=dict[str, msgspec.Raw])
        body = {name: whole[name] for name in COUNTED if name in whole}
        parts = urlsplit(built.http.url)
        url = urlunsplit(parts._replace(path=f"{parts.path}/input_tokens"))
        return BuiltRequest(
            msgspec.structs.replace(built.http, url=url, body=msgspec.json.encode(body)), built.warnings
        )

    def parse_count(self, body: bytes) -> int:
        return counted(decode(_COUNT, body.strip(), "a count of tokens").input_tokens)

    def map_error(self, target: ProviderTarget, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return self._chat.map_error(target, status, headers, body)

    def build_list_models(self, target: ProviderTarget, page: str | None = None) -> HttpRequest:
        return self._chat.build_list_models(target, page)

    def parse_models(self, body: bytes, page: str | None = None) -> ModelPage:
        return self._chat.parse_models(body, page)

    def build_validate(self, target: ProviderTarget) -> HttpRequest:
        return self._chat.build_validate(target)

    def answer(self, exchange: Exchange, emit: Callable[[StreamEvent], None]) -> Answer:
        """A new answer, that hands its events to `emit`."""
        return Answer(exchange, self._server, emit, new_id=self._new_id, clock=self._clock)


class ResponsesStreamParser(FramedParser[SseEvent]):
    """Typed events, the last of which is response.completed, response.incomplete, response.failed or error. A body
    that ends without one of these is cut (BerriAI/LightRAG issue 3701): no server is known to leave it out."""

    def __init__(self, exchange: Exchange, wire: ResponsesWire) -> None:
        super().__init__(exchange, SseParser())
        self._answer = wire.answer(exchange, self.events.append)

    def on_frame(self, frame: SseEvent) -> None:
        data = frame.data.strip()
        if not data or data == b"[DONE]":
            return
        try:
            self._answer.frame(data, frame.event)
        except ProviderProtocolError:
            if frame.unterminated:
                raise StreamTruncated("The connection ended in the middle of a stream event.") from None
            raise
        finally:
            self.usage = self._answer.usage

    def on_end(self) -> None:
        """Nothing makes up for a missing last event."""


def _url(target: ProviderTarget, preset: Preset) -> str:
    """Where a call goes: the configured endpoint, or the preset's own. Its query, if it has one, is kept."""
    base = target.endpoint or preset.base_url
    if base is None:
        raise NotConfigured(f"The configuration for {preset.name} needs an endpoint.")
    try:
        parts = urlsplit(base)
    except ValueError as exc:
        raise NotConfigured(f"The endpoint for {preset.name} is no URL.") from exc
    root = parts.path.rstrip("/").removesuffix("/chat/completions").removesuffix(PATH)
    return urlunsplit((parts.scheme, parts.netloc, (root or preset.path) + PATH, parts.query, ""))


def _credential(target: ProviderTarget, preset: Preset) -> tuple[str, str]:
    if target.secret is None:
        raise NotConfigured(f"The configuration for {preset.name} has no API key.")
    key = target.secret.reveal()
    return ("api-key", key) if preset.auth == "api_key_header" else ("authorization", f"Bearer {key}")


class _Count(msgspec.Struct, frozen=True):
    input_tokens: float | None = None


_COUNT: Final = msgspec.json.Decoder(_Count)
