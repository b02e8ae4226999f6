"""One block after the other: from deltas as providers send them to core's grammar.

`BlockWriter` numbers, opens and closes blocks, for every wire. `ToolCallAssembler` is for wires whose tool calls come
in pieces by index (OpenAI Chat and all that speak it): it decides which call a piece belongs to, and holds back what
may not be shown yet because another block is still open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from server.core.errors import ProviderProtocolError
from server.core.events import BlockDelta, BlockEnd, BlockKind, BlockStart, StreamEvent, Warning
from server.core.messages import Citation, Opaque
from server.providers.wire import IdSource

Emit = Callable[[StreamEvent], None]

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def is_object(text: str) -> bool:
    """Whether `text` is a whole JSON object."""
    try:
        _OBJECT.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


class BlockWriter:
    """Keeps at most one block open. What belongs to a block's end (citations, opaque data, logprobs) is gathered by
    `attach` while it is open, or given to `close`."""

    __slots__ = ("_citations", "_emit", "_empty", "_index", "_logprobs", "_opaque", "_output", "kind")

    def __init__(self, emit: Emit) -> None:
        self.kind: BlockKind | None = None
        """The open block's kind, None when no block is open."""
        self._emit = emit
        self._index = -1
        self._empty = True
        self._citations: list[Citation] = []
        self._opaque: Opaque | None = None
        self._logprobs = ""
        self._output = ""

    def open(self, kind: BlockKind, *, id: str = "", name: str = "", type: str = "") -> None:
        """Close the open block, if any, and start a new one."""
        if self.kind is not None:
            self.close()
        self._index += 1
        self.kind = kind
        self._empty = True
        self._citations.clear()
        self._opaque = None
        self._logprobs = self._output = ""
        self._emit(BlockStart(self._index, kind, id, name, type))

    def delta(self, text: str) -> None:
        """More of the open block; "" is nothing."""
        if text:
            self._empty = False
            self._emit(BlockDelta(self._index, text))

    def append(self, kind: BlockKind, text: str) -> None:
        """More text or reasoning: into the open block if it is of that kind, else into a new one. "" is nothing."""
        if not text:
            return
        if self.kind != kind:
            self.open(kind)
        self._empty = False
        self._emit(BlockDelta(self._index, text))

    def attach(
        self,
        *,
        citations: Sequence[Citation] = (),
        opaque: Opaque | None = None,
        logprobs: str = "",
        output: str = "",
    ) -> None:
        """Keep for the open block's end. Citations add up, the others replace."""
        self._citations.extend(citations)
        self._opaque = opaque or self._opaque
        self._logprobs = logprobs or self._logprobs
        self._output = output or self._output

    def close(self) -> None:
        """End the open block; nothing if none is open. A tool call without arguments gets "{}", as clients need it."""
        if self.kind is None:
            return
        if self.kind == "tool_call" and self._empty:
            self.delta("{}")
        self.kind = None
        self._emit(BlockEnd(self._index, tuple(self._citations), self._output, self._opaque, self._logprobs))


class _Call:
    """One tool call as its pieces come: waiting (not shown yet), live (its block is open) or done."""

    __slots__ = ("arguments", "done", "given_id", "id", "live", "name", "opaque")

    def __init__(self, id: str, given_id: str) -> None:
        self.id = id
        self.given_id = given_id
        self.name = ""
        self.arguments = ""
        self.opaque: Opaque | None = None
        self.live = False
        self.done = False

    @property
    def complete(self) -> bool:
        return is_object(self.arguments)


class _Held:
    """Text or reasoning that came while a tool call was unfinished."""

    __slots__ = ("kind", "text")

    def __init__(self, kind: BlockKind, text: str) -> None:
        self.kind: BlockKind = kind
        self.text = text


class _Step:
    """One step of a tool that the provider ran, whole."""

    __slots__ = ("input", "name", "output", "type")

    def __init__(self, type: str, name: str, input: str, output: str) -> None:
        self.type = type
        self.name = name
        self.input = input
        self.output = output


class ToolCallAssembler:
    """Text, reasoning and tool calls of one answer, in any of the shapes that OpenAI-compatible servers send.

    Which call a piece belongs to, in order: its index, unless it names another id than that index's call has (servers
    that number every call 0); without an index its id; without both the latest call, unless that one is complete and
    the piece starts over with a name. A name counts once, however often it is repeated. A call shows itself when it has
    a name and no other block is unfinished; what comes meanwhile is held back in order, and nothing is lost.
    """

    def __init__(self, writer: BlockWriter, new_id: IdSource) -> None:
        self._writer = writer
        self._new_id = new_id
        self._by_index: dict[int, _Call] = {}
        self._calls: list[_Call] = []
        self._ids: set[str] = set()
        self._live: _Call | None = None
        self._waiting: list[_Call | _Held | _Step] = []

    @property
    def count(self) -> int:
        """How many client tool calls there are so far. One that has neither name nor arguments is none (yet)."""
        return sum(1 for call in self._calls if call.name or call.arguments.strip())

    def append(self, kind: BlockKind, text: str) -> None:
        """More text or reasoning."""
        if not text:
            return
        if self._live is None and not self._waiting:
            self._writer.append(kind, text)
            return
        last = self._waiting[-1] if self._waiting else None
        if isinstance(last, _Held) and last.kind == kind:
            last.text += text
        else:
            self._waiting.append(_Held(kind, text))
        self._advance()

    def piece(
        self,
        *,
        index: int | None = None,
        id: str | None = None,
        name: str | None = None,
        arguments: str | None = None,
        opaque: Opaque | None = None,
    ) -> None:
        """A piece of a tool call; every part of it may be missing. Raises ProviderProtocolError for arguments that come
        after their call was complete and ended."""
        call = self._resolve(index, id or "", name or "", arguments or "")
        call.opaque = opaque or call.opaque
        call.name = call.name or (name or "")
        if not arguments:
            pass
        elif not call.done:
            call.arguments += arguments
            if call.live:
                self._writer.delta(arguments)
        elif arguments.strip():
            raise ProviderProtocolError("The provider sent more arguments for a tool call that was complete.")
        if self._waiting:
            self._advance()

    def server_tool(self, *, type: str, name: str, input: str, output: str) -> None:
        """A whole step of a tool that the provider ran: a block of its own."""
        self._waiting.append(_Step(type, name, input, output))
        self._advance()

    def finish(self) -> list[Warning]:
        """The answer is whole: end every call, show what is held back.

        Gives a warning for each call whose arguments are no JSON object (cut at the token limit, or broken by the
        model). Raises ProviderProtocolError for a nameless call."""
        self._end_live()
        for item in self._waiting:
            if not isinstance(item, _Call) or item.name or item.arguments.strip():
                self._show(item)
                self._end_live()
        self._waiting.clear()
        self._writer.close()
        return [
            Warning(
                code="invalid_tool_arguments",
                message=f"The arguments of tool call {call.id} are not a JSON object; they are passed on as they came.",
            )
            for call in self._calls
            if call.arguments.strip() and not call.complete
        ]

    @property
    def complete(self) -> bool:
        """Whether there are calls, and all of them have a name and whole arguments (or none)."""
        return bool(self._calls) and all(c.name and (not c.arguments.strip() or c.complete) for c in self._calls)

    def _resolve(self, index: int | None, id: str, name: str, arguments: str) -> _Call:
        current = self._by_index.get(index) if index is not None else self._by_id(id)
        if current is None:
            return self._new(index, id)
        if id and current.given_id:
            return current if id == current.given_id else self._new(index, id)
        # No id to tell them apart: a name and arguments after complete arguments can only be the next call.
        if name and arguments.strip() and current.complete:
            return self._new(index, id)
        if not id or current.live or current.done:
            return current
        self._name_id(current, id)
        return current

    def _by_id(self, id: str) -> _Call | None:
        if not self._calls:
            return None
        if id:
            return next((c for c in reversed(self._calls) if c.given_id == id), None)
        return self._calls[-1]

    def _new(self, index: int | None, id: str) -> _Call:
        call = _Call("", "")
        self._name_id(call, id)
        self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        self._waiting.append(call)
        return call

    def _name_id(self, call: _Call, id: str) -> None:
        """The provider's id if it can serve, else one of ours: ids are unique within an answer."""
        call.given_id = id
        call.id = id if id and id not in self._ids else (call.id or self._new_id())
        self._ids.add(call.id)

    def _advance(self) -> None:
        """Show what is waiting, as far as order and unfinished blocks allow."""
        while self._waiting:
            live = self._live
            if live is not None:
                if not live.complete:
                    return
                self._end_live()
            head = self._waiting[0]
            if isinstance(head, _Call) and not head.name:
                return
            self._show(self._waiting.pop(0))

    def _show(self, item: _Call | _Held | _Step) -> None:
        if isinstance(item, _Held):
            self._writer.append(item.kind, item.text)
            return
        if isinstance(item, _Step):
            self._writer.open("server_tool", name=item.name, type=item.type)
            self._writer.delta(item.input)
            self._writer.attach(output=item.output)
            self._writer.close()
            return
        if not item.name:
            raise ProviderProtocolError("The provider sent a tool call without a name.")
        self._writer.open("tool_call", id=item.id, name=item.name)
        self._writer.delta(item.arguments)
        item.live = True
        self._live = item

    def _end_live(self) -> None:
        call, self._live = self._live, None
        if call is not None:
            call.live, call.done = False, True
            self._writer.attach(opaque=call.opaque)
            self._writer.close()
