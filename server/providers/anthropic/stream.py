"""The stream: named events whose data repeat the name as `type` (platform.claude.com/docs, streaming).

    message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop

with `ping` and, at any time, `error`. Only message_stop makes an answer whole.
"""

from __future__ import annotations

from typing import Final

import msgspec

from server.core.errors import ProviderProtocolError, StreamTruncated
from server.core.events import StreamEvent
from server.core.native import others
from server.providers.anthropic.answer import Answer
from server.providers.anthropic.errors import map_error, read_error
from server.providers.anthropic.types import DELTA, DIALECT, EVENT, MESSAGE, Event, WireMessage, given
from server.providers.parsing import FramedParser, decode
from server.providers.sse import SseEvent, SseParser
from server.providers.wire import Clock, Exchange, IdSource

KNOWN: Final = frozenset(WireMessage.__struct_fields__) | {"role"}
"""Members of a message that something is made of."""

_TAKEN: Final = frozenset({"ping", "content_block_start", "content_block_delta", "content_block_stop"})
"""Events that are told in another way, or say nothing."""

_DONE: Final = b"[DONE]"
"""How proxies that come from another wire end a stream; it says nothing here."""


class MessagesStreamParser(FramedParser[SseEvent]):
    """Events in order. Unknown ones are passed over, as the documentation asks for."""

    def __init__(self, exchange: Exchange, *, new_id: IdSource, clock: Clock) -> None:
        super().__init__(exchange, SseParser())
        self._clock = clock
        self._answer = Answer(exchange, self.events.append, new_id=new_id)
        self._wants_natives = exchange.call.request.dialect == DIALECT

    def on_frame(self, frame: SseEvent) -> None:
        data = frame.data
        if not data or data.isspace() or data.strip() == _DONE:
            return
        try:
            event = decode(EVENT, data, "a stream event")
        except ProviderProtocolError:
            if frame.unterminated:
                raise StreamTruncated("The connection ended in the middle of a stream event.") from None
            raise
        try:
            self._take_event(event, event.type or frame.event, data)
        finally:
            self.usage = self._answer.usage

    def on_end(self) -> None:
        """Without message_stop there is nothing to add: the stream is cut short, whatever came before."""

    def _take_event(self, event: Event, type: str, data: bytes) -> None:
        answer = self._answer
        match type:
            case "content_block_delta" if given(event.delta):
                answer.delta(event.index, event.delta)
            case "content_block_start" if event.content_block is not None:
                answer.open(event.index, event.content_block)
            case "content_block_stop":
                answer.stop(event.index)
            case "message_start" if event.message is not None:
                answer.start(event.message)
                self._keep(type, data)
            case "message_delta":
                self._end_of_message(event)
            case "message_stop":
                answer.complete()
            case "error":
                raise map_error(read_error(data, None), self.exchange.headers, now=self._clock())
            case _:
                self._keep(type, data)

    def _keep(self, type: str, data: bytes) -> None:
        """What nothing is made of, for a caller who speaks this wire."""
        if not self._wants_natives or type in _TAKEN:
            return
        raw = msgspec.json.decode(data)
        if type == "message_start":
            self._answer.keep({"message": others(raw.get("message"), KNOWN)})
        else:
            self._answer.keep({"events": [raw]})

    def _end_of_message(self, event: Event) -> None:
        answer = self._answer
        answer.count(event.usage)
        if not given(event.delta):
            return
        delta = decode(DELTA, event.delta, "the end of a message")
        answer.note(
            stop_reason=delta.stop_reason,
            stop_sequence=delta.stop_sequence,
            stop_details=delta.stop_details,
            container=delta.container,
            context_management=event.context_management,
        )


def parse_message(exchange: Exchange, body: bytes, *, new_id: IdSource, clock: Clock) -> list[StreamEvent]:
    """The events of a whole answer. Raises ProviderError for an error that came with a 2xx."""
    message = decode(MESSAGE, body.strip(), "an answer")
    if message.type == "error" or (message.content is None and message.stop_reason is None):
        said = read_error(body, None)
        if said.type or said.message:
            raise map_error(said, exchange.headers, now=clock())
        raise ProviderProtocolError("The provider's answer holds no message.")
    events: list[StreamEvent] = []
    answer = Answer(exchange, events.append, new_id=new_id)
    answer.start(message)
    if exchange.call.request.dialect == DIALECT:
        answer.keep({"message": others(msgspec.json.decode(body), KNOWN)})
    for index, block in enumerate(message.content or ()):
        answer.open(index, block)
        answer.close()
    answer.note(
        stop_reason=message.stop_reason,
        stop_sequence=message.stop_sequence,
        stop_details=message.stop_details,
        container=message.container,
        context_management=message.context_management,
    )
    answer.complete()
    return events
