"""The stream (service model, ConverseStreamOutput):

    messageStart (contentBlockStart? contentBlockDelta* contentBlockStop?)* messageStop metadata

in binary frames, exceptions among them at any time. messageStop says that the answer is whole, and metadata, always the
last, what it cost: a stream is complete with both.
"""

from __future__ import annotations

from typing import Final

from server.core.errors import ProviderProtocolError
from server.core.events import StreamEvent
from server.providers.bedrock.answer import Answer
from server.providers.bedrock.errors import map_error, map_frame
from server.providers.bedrock.frames import EventFrame, EventFrames
from server.providers.bedrock.types import DELTA_EVENT, RESPONSE, START_EVENT, STOP_EVENT
from server.providers.parsing import FramedParser, decode
from server.providers.wire import Clock, Exchange, IdSource

_WHAT: Final = "a stream event"


class ConverseStreamParser(FramedParser[EventFrame]):
    """Events in order. Those of unknown types are passed over."""

    def __init__(self, exchange: Exchange, *, new_id: IdSource, clock: Clock) -> None:
        super().__init__(exchange, EventFrames())
        self._clock = clock
        self._answer = Answer(exchange, self.events.append, new_id=new_id)
        self._counted = False

    def on_frame(self, frame: EventFrame) -> None:
        if frame.kind != "event":
            raise map_frame(self.exchange.call.target, frame, self.exchange.headers, now=self._clock())
        if self._answer.stopped and frame.name.startswith("contentBlock"):
            raise ProviderProtocolError("The provider went on after it had said that the answer is whole.")
        self._take_event(frame.name, frame.payload)
        if self._answer.stopped and self._counted:
            self._answer.complete()

    def on_end(self) -> None:
        """Without both ends there is nothing to add: the stream is cut short, whatever came before."""

    def _take_event(self, name: str, payload: bytes) -> None:
        answer = self._answer
        match name:
            case "contentBlockDelta":
                event = decode(DELTA_EVENT, payload, _WHAT)
                if event.delta is not None:
                    answer.delta(event.content_block_index, event.delta)
            case "contentBlockStart":
                start = decode(START_EVENT, payload, _WHAT)
                if start.start:
                    answer.open(start.content_block_index, start.start)
            case "contentBlockStop":
                answer.stop(decode(STOP_EVENT, payload, _WHAT).content_block_index)
            case "messageStart":
                answer.start()
            case "messageStop":
                stop = decode(STOP_EVENT, payload, _WHAT)
                answer.finish(stop.stop_reason, stop.additional_model_response_fields)
            case "metadata":
                end = decode(RESPONSE, payload, _WHAT)
                answer.count(end.usage)
                answer.note(end)
                self.usage, self._counted = answer.usage, True
            case _:
                pass


def parse_response(exchange: Exchange, body: bytes, *, new_id: IdSource, clock: Clock) -> list[StreamEvent]:
    """The events of a whole answer. Raises ProviderError for an error that came with a 2xx."""
    found = decode(RESPONSE, body.strip(), "an answer")
    message = found.output.message if found.output is not None else None
    if message is None and found.stop_reason is None:
        error = map_error(exchange.call.target, None, exchange.headers, body, now=clock())
        if error.type or error.provider_message:
            raise error
        raise ProviderProtocolError("The provider's answer holds no message.")
    events: list[StreamEvent] = []
    answer = Answer(exchange, events.append, new_id=new_id)
    for index, block in enumerate((message.content if message is not None else None) or ()):
        answer.whole(index, block)
    answer.finish(found.stop_reason, found.additional_model_response_fields)
    answer.count(found.usage)
    answer.note(found)
    answer.complete()
    return events
