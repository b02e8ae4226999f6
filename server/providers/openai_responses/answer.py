"""From events to events: the state of one answer, streamed or whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from server.core.errors import ProviderProtocolError, ProviderUnavailable
from server.core.events import BlockStart, Completed, StreamEvent, Usage, Warning
from server.providers.blocks import BlockWriter
from server.providers.errors import provider_error
from server.providers.openai_chat.chunks import given
from server.providers.openai_chat.errors import error_of
from server.providers.openai_responses.items import ITEM_EVENTS, ItemWriter, Shared
from server.providers.openai_responses.order import ItemOrder
from server.providers.openai_responses.servers import Server
from server.providers.openai_responses.types import (
    EVENT,
    EVENT_HEAD,
    OBJECT,
    RESPONSE,
    USAGE,
    Response,
    map_finish_reason,
    map_usage,
    raw_finish_reason,
)
from server.providers.parsing import decode, try_decode
from server.providers.wire import Clock, Exchange, IdSource

BEGINNINGS: Final = frozenset({"response.created", "response.in_progress", "response.queued"})

ENDS: Final = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}
"""The last event of a stream -> the status that it stands for."""


class Answer:
    """Turns the wire's events into core's, in order. Both ways in raise ProviderError for an answer that failed."""

    def __init__(
        self, exchange: Exchange, server: Server, emit: Callable[[StreamEvent], None], *, new_id: IdSource, clock: Clock
    ) -> None:
        self.usage = Usage()
        self._exchange = exchange
        self._server = server
        self._emit = emit
        self._clock = clock
        self._started = False
        self._id = ""
        self._model = ""
        self._warnings: dict[str, Warning] = {}
        self._shared = Shared(
            exchange,
            BlockWriter(self._write),
            client_customs=_custom_tools(exchange) if server.runs_custom_tools else None,
            new_id=new_id,
            warn=self._warn,
        )
        self._items = ItemOrder(lambda: ItemWriter(self._shared))

    def frame(self, data: bytes, name: str) -> None:
        """One event of a stream. name: of the SSE event, for servers that leave the type out of the data."""
        head = decode(EVENT_HEAD, data, "a stream event")
        kind = head.type or name
        if kind in ITEM_EVENTS:
            self._items.take(kind, decode(EVENT, data, "a stream event"))
        elif kind in BEGINNINGS:
            self._note(_response(data))
        elif kind in ENDS:
            self.end(_response(data), ENDS[kind])
        elif kind == "error" or (not head.type and given(head.error)):
            self._raise(data)

    def whole(self, body: bytes) -> None:
        """A whole answer."""
        response = decode(RESPONSE, body, "an answer")
        if response.status is None and response.output is None:
            if given(response.error):
                self._raise(body)
            raise ProviderProtocolError("The provider's answer holds no output.")
        self.end(response, response.status or "completed")

    def end(self, response: Response, status: str) -> None:
        """The provider has said all. status: where the response itself gives none."""
        self._note(response)
        status = response.status or status
        if status == "failed":
            self._raise_failed(response)
        self._items.finish([bytes(raw) for raw in response.output or ()])
        self._start()
        details = response.incomplete_details
        reason = details.reason if details is not None else None
        self._emit(
            Completed(
                finish_reason=map_finish_reason(status, reason, has_tool_calls=self._shared.calls > 0),
                raw_finish_reason=raw_finish_reason(status, reason),
                usage=self.usage,
                model=self._model,
                warnings=tuple(self._warnings.values()),
                provider_metadata=self._metadata(response),
                refusal="".join(self._shared.refusal),
            )
        )

    def _note(self, response: Response) -> None:
        self._id = response.id or self._id
        self._model = response.model or self._model
        if given(response.usage):
            counted = try_decode(USAGE, bytes(response.usage))
            if counted is None:
                self._warn("usage_unreadable", "What the server sent as usage could not be read")
            else:
                self.usage = map_usage(counted)

    def _metadata(self, response: Response) -> str:
        found: dict[str, object] = {
            "service_tier": response.service_tier,
            "system_fingerprint": response.system_fingerprint,
            "usage": response.usage if given(response.usage) else None,
            "annotations": self._shared.annotations or None,
        }
        return self._exchange.provider_metadata(found)

    def _write(self, event: StreamEvent) -> None:
        if type(event) is BlockStart:
            self._start()
        self._emit(event)

    def _start(self) -> None:
        """Started is held back until there is something to show, so that an error before that is an error instead of
        an answer: OpenAI says `response.created` before it looks whether the account has credit."""
        if not self._started:
            self._started = True
            self._emit(self._exchange.started(id=self._id, model=self._model))

    def _raise_failed(self, response: Response) -> None:
        if given(response.error):
            self._raise(b'{"error":' + bytes(response.error) + b"}")
        raise ProviderUnavailable("The provider says that the answer failed, and not why.")

    def _raise(self, data: bytes) -> None:
        """Raise the error of `error` events and failed answers: nested under `error`, as production sends it, or flat,
        as the reference has it (openai/openai-dotnet issue 881)."""
        body = try_decode(OBJECT, data) or {}
        if not body.get("error"):
            body.pop("type", None)
        # Retry hints in the head of a 200 are not about an error that came later.
        raise provider_error(error_of(body, None), {}, table=self._server.preset.errors, now=self._clock())

    def _warn(self, code: str, message: str) -> None:
        self._warnings.setdefault(message, Warning(code=code, message=f"{message}."))


def _response(data: bytes) -> Response:
    event = decode(EVENT, data, "a stream event")
    return decode(RESPONSE, bytes(event.response), "a response") if given(event.response) else Response()


def _custom_tools(exchange: Exchange) -> frozenset[str]:
    """The names of the custom tools that the request brings along."""
    tools = exchange.call.request.hosted_tools
    found = (try_decode(OBJECT, tool.options) or {} for tool in tools if tool.type == "custom" and tool.options)
    return frozenset(str(options.get("name")) for options in found)
