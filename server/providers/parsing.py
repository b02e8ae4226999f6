"""Decoding what providers send, and the base of every stream parser: framing, order of events, and failing in band."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from server.core.errors import ProviderError, ProviderProtocolError, StreamTruncated
from server.core.events import BlockDelta, Completed, Failed, StreamEvent, Usage
from server.providers.wire import Exchange

MAX_COUNT: Final = 2**31 - 1
"""Largest count that the contract carries."""

T = TypeVar("T")
Frame = TypeVar("Frame")
Frame_co = TypeVar("Frame_co", covariant=True)


def decode(decoder: msgspec.json.Decoder[T], data: bytes | str, what: str) -> T:
    """`data` as the decoder's type. what: for the message, e.g. "a stream event". Raises ProviderProtocolError."""
    found = try_decode(decoder, data)
    if found is None:
        raise ProviderProtocolError(f"The provider sent {what} that is not its protocol.")
    return found


def try_decode(decoder: msgspec.json.Decoder[T], data: bytes | str) -> T | None:
    """`data` as the decoder's type, or None: for error bodies, which may be anything."""
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        whole = data.encode() if isinstance(data, str) else data
        mended = _SURROGATE.sub(_mend, whole)
        if mended == whole:
            return None
    try:
        return decoder.decode(mended)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


_SURROGATE: Final = re.compile(
    rb"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|(\\.)", re.DOTALL
)


def _mend(match: re.Match[bytes]) -> bytes:
    """Half a surrogate pair is no character, and servers that cut text anywhere send one: it becomes U+FFFD."""
    return rb"\ufffd" if match[2] else match[0]


def tokens(count: float | None) -> int | None:
    """A count as an integer, whatever number the wire wrote it as; None for what is none or cannot be a count."""
    return int(count) if count is not None and 0 <= count <= MAX_COUNT else None


def counted(count: float | None) -> int:
    """The number of an answer that is a count and nothing else. Raises ProviderProtocolError where it is none."""
    found = tokens(count)
    if found is None:
        raise ProviderProtocolError("The provider's count of tokens holds none.")
    return found


def merge_deltas(events: list[StreamEvent]) -> list[StreamEvent]:
    """The same events, with adjacent deltas of one block joined: fewer messages for the same text."""
    if len(events) < 2:
        return events
    merged: list[StreamEvent] = []
    run: list[str] = []
    index = -1
    for event in events:
        if type(event) is BlockDelta:
            if run and event.index != index:
                merged.append(BlockDelta(index, "".join(run)))
                run = []
            index = event.index
            run.append(event.text)
            continue
        if run:
            merged.append(BlockDelta(index, "".join(run)))
            run = []
        merged.append(event)
    if run:
        merged.append(BlockDelta(index, "".join(run)))
    return merged


class Framing(Protocol[Frame_co]):
    """Cuts a body into frames: `sse.py` for text/event-stream, Bedrock's own for its binary one."""

    def feed(self, data: bytes) -> Iterable[Frame_co]: ...

    def end(self) -> Iterable[Frame_co]:
        """What the body's end completes. Raises ProviderError if it ended inside a frame that cannot be used."""
        ...


class FramedParser(ABC, Generic[Frame]):
    """A StreamParser over a framing. A wire's parser implements `on_frame` and `on_end`, and calls `emit` and `fail`.

    Both may raise ProviderError: the stream then ends with it as Failed, after the events that were already emitted.
    """

    def __init__(self, exchange: Exchange, framing: Framing[Frame]) -> None:
        self.exchange = exchange
        self.usage = Usage()
        """What the provider has counted so far: it goes into Failed as well."""
        self._framing = framing
        self._out: list[StreamEvent] = []
        self._finished = False

    @abstractmethod
    def on_frame(self, frame: Frame) -> None:
        """One frame, in order. Not called after the terminal event."""

    @abstractmethod
    def on_end(self) -> None:
        """The body has ended without a terminal event: emit Completed if the answer is known to be whole, else nothing
        (the stream is then failed as truncated)."""

    @property
    def finished(self) -> bool:
        return self._finished

    def emit(self, event: StreamEvent) -> None:
        """Hand an event on."""
        self._out.append(event)
        if type(event) is Completed or type(event) is Failed:
            self._finished = True

    def fail(self, error: ProviderError) -> None:
        """End the stream with `error`, once."""
        if not self._finished:
            self.emit(Failed(error, self.usage))

    def feed(self, data: bytes) -> list[StreamEvent]:
        if self._finished:
            return []
        try:
            for frame in self._framing.feed(data):
                self.on_frame(frame)
                if self._over():
                    break
        except ProviderError as error:
            self.fail(error)
        return self._take()

    def end(self) -> list[StreamEvent]:
        if self._finished:
            return []
        try:
            for frame in self._framing.end():
                self.on_frame(frame)
                if self._over():
                    return self._take()
            self.on_end()
        except ProviderError as error:
            self.fail(error)
        self.fail(StreamTruncated("The connection ended before the provider had completed the answer."))
        return self._take()

    def _over(self) -> bool:
        return self._finished

    def _take(self) -> list[StreamEvent]:
        out, self._out = self._out, []
        return out
