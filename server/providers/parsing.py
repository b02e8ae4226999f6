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

UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""What a decoder raises for data that are not its type."""

T = TypeVar("T")
Frame = TypeVar("Frame")
Frame_co = TypeVar("Frame_co", covariant=True)


def decode(decoder: msgspec.json.Decoder[T], data: bytes | str, what: str) -> T:
    """`data` as the decoder's type. what: for the message, e.g. "a stream event". Raises ProviderProtocolError."""
    try:
        return decoder.decode(data)
    except UNREADABLE:
        found = _mended(decoder, data)
    if found is None:
        raise ProviderProtocolError(f"The provider sent {what} that is not its protocol.")
    return found


def try_decode(decoder: msgspec.json.Decoder[T], data: bytes | str) -> T | None:
    """`data` as the decoder's type, or None: for error bodies, which may be anything."""
    try:
        return decoder.decode(data)
    except UNREADABLE:
        return _mended(decoder, data)


def _mended(decoder: msgspec.json.Decoder[T], data: bytes | str) -> T | None:
    """What is read once half surrogate pairs are mended; None where that was not all that was wrong."""
    whole = data.encode() if isinstance(data, str) else data
    mended = _SURROGATE.sub(_mend, whole)
    if mended == whole:
        return None
    try:
        return decoder.decode(mended)
    except UNREADABLE:
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


def all_tokens(*counts: float | None) -> list[int | None]:
    """`tokens` of each: one call for a usage, which has six."""
    found: list[int | None] = [None] * len(counts)
    for place, count in enumerate(counts):
        if count is not None and 0 <= count <= MAX_COUNT:
            found[place] = int(count)
    return found


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
    """A StreamParser over a framing. A wire's parser implements `on_frame` and `on_end`, and hands its events on with
    `self.events.append`; the terminal one is the last that a frame gives.

    Both may raise ProviderError: the stream then ends with it as Failed, after the events that were already handed on.
    """

    def __init__(self, exchange: Exchange, framing: Framing[Frame]) -> None:
        self.exchange = exchange
        self.usage = Usage()
        """What the provider has counted so far: it goes into Failed as well."""
        self.events: list[StreamEvent] = []
        """What the bytes in hand have completed so far: the same list throughout, so that its `append` can be kept."""
        self.finished = False
        """Whether the terminal event is out."""
        self._framing = framing

    @abstractmethod
    def on_frame(self, frame: Frame) -> None:
        """One frame, in order. Not called after the terminal event."""

    @abstractmethod
    def on_end(self) -> None:
        """The body has ended without a terminal event: hand on Completed if the answer is known to be whole, else
        nothing (the stream is then failed as truncated)."""

    def feed(self, data: bytes) -> list[StreamEvent]:
        if self.finished:
            return []
        events = self.events
        try:
            for frame in self._framing.feed(data):
                self.on_frame(frame)
                if events and type(events[-1]) in _TERMINAL:
                    self.finished = True
                    break
        except ProviderError as error:
            self._fail(error)
        completed = events[:]
        events.clear()
        return completed

    def end(self) -> list[StreamEvent]:
        if self.finished:
            return []
        events = self.events
        try:
            for frame in self._framing.end():
                self.on_frame(frame)
                if events and type(events[-1]) in _TERMINAL:
                    break
            else:
                self.on_end()
                self._fail(StreamTruncated("The connection ended before the provider had completed the answer."))
        except ProviderError as error:
            self._fail(error)
        self.finished = True
        completed = events[:]
        events.clear()
        return completed

    def _fail(self, error: ProviderError) -> None:
        """End the stream with `error`, unless it has ended."""
        self.finished = True
        if not self.events or type(self.events[-1]) not in _TERMINAL:
            self.events.append(Failed(error, self.usage))


_TERMINAL: Final = (Completed, Failed)
