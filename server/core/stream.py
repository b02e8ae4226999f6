"""The stream's grammar as a table, and the two things built on it: Guard, which enforces it, and fold, which sums it
up.

    started (block_start block_delta* block_end)* (completed | failed)

with `native` anywhere between started and the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, auto
from typing import Final

import msgspec

from server.core.errors import InternalError, StreamTruncated
from server.core.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Completed,
    Failed,
    Native,
    Started,
    StreamEvent,
    Terminal,
    Usage,
    Warning,
)
from server.core.messages import Message, Part, Reasoning, ServerTool, Text, ToolCall


class State(IntEnum):
    """Where a stream stands. Integers: an Enum's hash is a Python function, and the table is asked for each event."""

    IDLE = auto()
    BETWEEN = auto()
    """Started, and no block is open."""
    IN_BLOCK = auto()
    ENDED = auto()


TRANSITIONS: dict[tuple[State, type], State] = {
    (State.IDLE, Started): State.BETWEEN,
    (State.IDLE, Failed): State.ENDED,
    (State.BETWEEN, BlockStart): State.IN_BLOCK,
    (State.BETWEEN, Native): State.BETWEEN,
    (State.BETWEEN, Completed): State.ENDED,
    (State.BETWEEN, Failed): State.ENDED,
    (State.IN_BLOCK, BlockDelta): State.IN_BLOCK,
    (State.IN_BLOCK, BlockEnd): State.BETWEEN,
    (State.IN_BLOCK, Native): State.IN_BLOCK,
    (State.IN_BLOCK, Failed): State.ENDED,
}
"""All that is legal. Failed ends a stream from anywhere: a block that it cuts stays without its end, and before Started
it is an error that came instead of an answer. Completed does so only between blocks: an answer is whole or it
failed."""


_NUMBERED: Final = frozenset({BlockStart, BlockDelta, BlockEnd})


class Guard:
    """Lets a legal stream through, and ends an illegal one with exactly one Failed.

    Feed it what an adapter yields. After the terminal event it swallows whatever still comes. A stream that breaks the
    grammar is the adapter's defect, so it fails as InternalError; one that ends early is StreamTruncated.
    """

    __slots__ = ("_index", "_state", "ended", "started")

    def __init__(self) -> None:
        self._state = State.IDLE
        self._index = -1
        self.started = False
        """Whether Started has passed: before it, all that can pass is one Failed."""
        self.ended = False
        """Whether the terminal event has passed."""

    def feed(self, events: Iterable[StreamEvent]) -> list[StreamEvent]:
        """What of `events` may pass, in order."""
        passed: list[StreamEvent] = []
        state, index = self._state, self._index
        for event in events:
            if state is State.ENDED:
                break
            kind = type(event)
            following = TRANSITIONS.get((state, kind))
            if kind is BlockStart:
                index += 1
            # A start has the next number, a delta and an end that of the open block.
            if following is None or (kind in _NUMBERED and event.index != index):  # type: ignore[union-attr]  # all of these have one
                state = State.ENDED
                passed.append(Failed(InternalError("The provider adapter broke the order of stream events.")))
                break
            if kind is Started:
                self.started = True
            state = following
            passed.append(event)
        self._state, self._index = state, index
        self.ended = state is State.ENDED
        return passed

    def end(self) -> list[StreamEvent]:
        """Call once when the source is exhausted: the Failed that is missing if no terminal event came, else
        nothing."""
        if self.ended:
            return []
        self._state, self.ended = State.ENDED, True
        return [Failed(StreamTruncated("The stream ended before the provider had completed the answer."))]


class ChatResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer: what the events of a completed stream add up to.

    text and reasoning: all visible blocks joined with no separator. message: the same answer as a turn of a history,
    parts in order with their opaque data, ready to be sent back. wire: as in Started.
    native: the members of each Native.
    """

    provider: str
    model: str
    id: str
    request_id: str
    message: Message
    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str
    raw_finish_reason: str
    usage: Usage
    warnings: tuple[Warning, ...] = ()
    provider_metadata: str = ""
    refusal: str = ""
    wire: str = ""
    native: tuple[str, ...] = ()


class Folder:
    """Adds events up. Feed it guarded events; `result` raises the stream's error, or gives the answer."""

    __slots__ = (
        "_native", "_open", "_parts", "_pieces", "_reasoning", "_started", "_terminal", "_texts", "_tool_calls", "ended"
    )  # fmt: skip

    def __init__(self) -> None:
        self.ended = False
        """Whether the terminal event has come."""
        self._started: Started | None = None
        self._open: BlockStart | None = None
        self._pieces: list[str] = []
        self._parts: list[Part] = []
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._tool_calls: list[ToolCall] = []
        self._native: list[str] = []
        self._terminal: Terminal | None = None

    def feed(self, events: Iterable[StreamEvent]) -> None:
        for event in events:
            match event:
                case BlockDelta():
                    self._pieces.append(event.text)
                case BlockStart():
                    self._open, self._pieces = event, []
                case BlockEnd():
                    self._close(event)
                case Started():
                    self._started = event
                case Native():
                    self._native.append(event.members)
                case Completed() | Failed():
                    self._terminal, self.ended = event, True

    def _close(self, end: BlockEnd) -> None:
        start, text = self._open, "".join(self._pieces)
        self._open = None
        if start is None:
            return
        part: Part
        match start.kind:
            case "text":
                part = Text(text, end.citations, end.opaque, end.logprobs)
                self._texts.append(text)
            case "reasoning":
                part = Reasoning(text, opaque=end.opaque)
                self._reasoning.append(text)
            case "tool_call":
                part = ToolCall(start.id, start.name, text or "{}", opaque=end.opaque)
                self._tool_calls.append(part)
            case "server_tool":
                part = ServerTool(start.type, start.id, start.name, text, end.output, opaque=end.opaque)
        self._parts.append(part)

    def result(self) -> ChatResponse:
        """The answer. Raises the error of a failed stream, StreamTruncated for one without a terminal event."""
        end, started = self._terminal, self._started
        if isinstance(end, Failed):
            raise end.error
        if end is None or started is None:
            raise StreamTruncated("The stream ended before the provider had completed the answer.")
        return ChatResponse(
            provider=started.provider,
            model=end.model or started.model,
            id=started.id,
            request_id=started.request_id,
            message=Message("assistant", tuple(self._parts)),
            text="".join(self._texts),
            reasoning="".join(self._reasoning),
            tool_calls=tuple(self._tool_calls),
            finish_reason=end.finish_reason,
            raw_finish_reason=end.raw_finish_reason,
            usage=end.usage,
            warnings=started.warnings + end.warnings,
            provider_metadata=end.provider_metadata,
            refusal=end.refusal,
            wire=started.wire,
            native=tuple(self._native),
        )


def fold(events: Iterable[StreamEvent]) -> ChatResponse:
    """A whole answer from all its events. Raises as `Folder.result` does."""
    folder = Folder()
    folder.feed(events)
    return folder.result()
