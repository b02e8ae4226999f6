"""The framing of ConverseStream, application/vnd.amazon.eventstream: length-prefixed messages with two checksums.

    total length u32, headers length u32, CRC of these two; headers; payload; CRC of all (big-endian; AWS Transcribe
    developer guide, "Event stream encoding")

botocore reads each message. It is handed one at a time: fed at will, its buffer copies all that it holds for every
message, and believes a length that no message can have.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec
from botocore.eventstream import EventStreamBuffer, ParserError

from server.core.errors import ProviderProtocolError

_PRELUDE: Final = struct.Struct(">II")
PRELUDE_BYTES: Final = 12
LEAST_BYTES: Final = PRELUDE_BYTES + 4
"""Of a message without headers and payload. The most is botocore's: 24 MiB of payload, 128 KiB of headers."""


class EventFrame(msgspec.Struct, frozen=True, gc=False):
    """One message.

    kind: "event", or "exception" and "error" for the two ways in which a stream fails. name: the event's type, the
    exception's type or the error's code. message: of an error, which has no payload.
    """

    kind: str
    name: str
    payload: bytes
    message: str = ""


class EventFrames:
    """A framing (see `parsing.Framing`): the body in order, in pieces of any size. Holds at most one message.

    Raises ProviderProtocolError for what is none, after the messages before it; it is then of no more use.
    """

    __slots__ = ("_buffer", "_held", "_in_message", "_missing")

    def __init__(self) -> None:
        self._buffer = EventStreamBuffer()
        self._held = bytearray()
        self._missing = PRELUDE_BYTES
        self._in_message = False

    def feed(self, data: bytes) -> Iterator[EventFrame]:
        """The messages that these bytes complete."""
        at = 0
        while at < len(data):
            piece = data[at : at + self._missing]
            at += len(piece)
            self._held += piece
            self._missing -= len(piece)
            if not self._missing:
                frame = self._complete()
                if frame is not None:
                    yield frame

    def end(self) -> Iterator[EventFrame]:
        """Nothing: half a message says nothing, and the stream is then cut short."""
        return iter(())

    def _complete(self) -> EventFrame | None:
        """What was waited for is here: a prelude, or the rest of a message."""
        held = bytes(self._held)
        self._held.clear()
        try:
            self._buffer.add_data(held)
            # None after a prelude, whose checksum and limits are checked here, before its message is waited for.
            message = next(self._buffer, None)
        except (ParserError, struct.error, ValueError, LookupError) as error:
            raise _malformed(type(error).__name__) from error
        if self._in_message:
            self._in_message = False
            self._missing = PRELUDE_BYTES
            return _frame(message.headers, message.payload) if message is not None else None
        total, headers = _PRELUDE.unpack_from(held)
        if total < LEAST_BYTES or headers > total - LEAST_BYTES:
            raise _malformed("impossible length")
        self._in_message = True
        self._missing = total - PRELUDE_BYTES
        return None


def _frame(headers: dict[str, object], payload: bytes) -> EventFrame:
    """A message by its headers. Some servers leave `:message-type` out; the other names tell as much."""

    def text(name: str) -> str:
        value = headers.get(name)
        return value if isinstance(value, str) else ""

    kind = text(":message-type")
    if kind == "exception" or text(":exception-type"):
        return EventFrame("exception", text(":exception-type") or text(":event-type"), payload)
    if kind == "error" or text(":error-code"):
        return EventFrame("error", text(":error-code"), payload, text(":error-message"))
    name = text(":event-type")
    # The service model has the exceptions among the events (botocore bedrock-runtime, ConverseStreamOutput).
    return EventFrame("exception" if name.endswith("Exception") else "event", name, payload)


def _malformed(why: str) -> ProviderProtocolError:
    return ProviderProtocolError(f"The provider sent bytes that are no event-stream message ({why}).")
