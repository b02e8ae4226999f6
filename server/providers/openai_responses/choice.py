"""A server with two APIs: each call goes by the one that the server's row says; all else is the same for both."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from server.core.errors import ProviderError
from server.core.events import StreamEvent
from server.core.messages import NATIVE, Part, ToolCall
from server.core.ports import EmbedCall, ProviderCall, ProviderTarget
from server.providers.http import HttpRequest
from server.providers.openai_chat.wire import OpenAIChatWire
from server.providers.openai_responses.servers import HOSTS, Server, server_for
from server.providers.openai_responses.wire import ResponsesWire
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


class TwoApiWire(Wire):
    """default: the row of the slug; an endpoint's host may say another."""

    def __init__(self, default: Server, *, clock: Clock = time.time, new_id: IdSource = random_call_id) -> None:
        super().__init__(clock=clock, new_id=new_id)
        self._default = default
        self._responses: dict[str, Wire] = {}
        self._chat: dict[str, Wire] = {}
        for server in (default, *(row for _, row in HOSTS)):
            name = server.preset.name
            self._responses[name] = ResponsesWire(server, clock=clock, new_id=new_id)
            self._chat[name] = OpenAIChatWire(server.preset, clock=clock, new_id=new_id)

    def _wire(self, call: ProviderCall) -> Wire:
        """The same for every stage of a call: it depends on the call alone."""
        server = server_for(call.target, self._default)
        return (self._responses if server.takes(call) else self._chat)[server.preset.name]

    def _any(self, target: ProviderTarget) -> Wire:
        return self._chat[server_for(target, self._default).preset.name]

    def build_request(self, call: ProviderCall) -> BuiltRequest:
        wire = self._wire(call)
        if isinstance(wire, ResponsesWire):
            return wire.build_request(call)
        return wire.build_request(_for_chat(call))

    def dialect_of(self, call: ProviderCall) -> str:
        return self._wire(call).dialect

    def parse_response(self, exchange: Exchange, body: bytes) -> list[StreamEvent]:
        return self._wire(exchange.call).parse_response(exchange, body)

    def stream_parser(self, exchange: Exchange) -> StreamParser:
        return self._wire(exchange.call).stream_parser(exchange)

    def build_embed(self, call: EmbedCall) -> EmbedPlan:
        return self._any(call.target).build_embed(call)

    def parse_embed(self, exchange: EmbedExchange, body: bytes) -> EmbedAnswer:
        return self._any(exchange.call.target).parse_embed(exchange, body)

    def build_count(self, call: ProviderCall) -> BuiltRequest:
        return self._wire(call).build_count(call)

    def parse_count(self, body: bytes) -> int:
        return self._responses[self._default.preset.name].parse_count(body)

    def map_error(self, target: ProviderTarget, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return self._any(target).map_error(target, status, headers, body)

    def build_list_models(self, target: ProviderTarget, page: str | None = None) -> HttpRequest:
        return self._any(target).build_list_models(target, page)

    def parse_models(self, body: bytes, page: str | None = None) -> ModelPage:
        return self._chat[self._default.preset.name].parse_models(body, page)

    def build_validate(self, target: ProviderTarget) -> HttpRequest:
        return self._any(target).build_validate(target)


def _for_chat(call: ProviderCall) -> ProviderCall:
    """The call without what Responses kept of tool calls (`legacy` in the middle of a conversation): Chat Completions
    would take it for its own."""
    messages = call.request.messages
    if not any(_is_kept(part) for message in messages for part in message.parts):
        return call
    plain = tuple(
        msgspec.structs.replace(
            message,
            parts=tuple(msgspec.structs.replace(p, opaque=None) if _is_kept(p) else p for p in message.parts),
        )
        for message in messages
    )
    return msgspec.structs.replace(call, request=msgspec.structs.replace(call.request, messages=plain))


def _is_kept(part: Part) -> bool:
    return isinstance(part, ToolCall) and part.opaque is not None and part.opaque.provider != NATIVE
