"""One output item after the other, whatever the order in which a server sends their events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from server.providers.openai_chat.chunks import given
from server.providers.openai_responses.types import ITEM_HEAD, Event
from server.providers.parsing import tokens, try_decode

ADDED = "response.output_item.added"
DONE = "response.output_item.done"


class ItemSink(Protocol):
    """Writes one item's blocks."""

    def take(self, kind: str, event: Event) -> None:
        """One event about the item, in order."""
        ...

    def finish(self, raw: bytes | None) -> None:
        """The item is complete; raw: it as a whole, None where the server never gave it so."""
        ...


class _Slot:
    """One item: its writer, and what came for it while another was being written."""

    __slots__ = ("backlog", "done", "id", "raw", "sink", "type")

    def __init__(self, sink: ItemSink) -> None:
        self.sink = sink
        self.id = ""
        self.type = ""
        self.done = False
        self.raw: bytes | None = None
        self.backlog: list[tuple[str, Event]] = []


class ItemOrder:
    """Gives each item's events to its own sink, and lets only the oldest unfinished item write.

    An event belongs to the item of its output_index; without one to the item of its id, else to the latest. A second
    `added` for an index is a new item (servers that number every item 0).
    """

    def __init__(self, new_sink: Callable[[], ItemSink]) -> None:
        self._new_sink = new_sink
        self._slots: list[_Slot] = []
        self._by_index: dict[int, _Slot] = {}
        self._head = 0

    def take(self, kind: str, event: Event) -> None:
        """One event about an item. What comes for an item that is complete is passed over."""
        slot = self._slot(kind, event)
        if slot.done:
            return
        if kind == DONE:
            slot.done = True
            slot.raw = bytes(event.item) if given(event.item) else None
        else:
            slot.backlog.append((kind, event))
        self._advance()

    def finish(self, output: list[bytes]) -> None:
        """The answer is complete; output: its items as a whole, [] where the server does not repeat them."""
        heads = [try_decode(ITEM_HEAD, raw) for raw in output]
        used: set[int] = set()
        for position, slot in enumerate(self._slots):
            found = next((i for i, head in enumerate(heads) if head is not None and head.id and head.id == slot.id), -1)
            if found < 0 and position < len(heads):
                head = heads[position]
                found = position if head is not None and slot.type in ("", head.type) else -1
            if found >= 0:
                used.add(found)
            if not slot.done:
                slot.done = True
                slot.raw = output[found] if found >= 0 else None
        for position, raw in enumerate(output):
            if position not in used:
                slot = self._new()
                slot.done, slot.raw = True, raw
        self._advance()

    def _advance(self) -> None:
        while self._head < len(self._slots):
            slot = self._slots[self._head]
            backlog, slot.backlog = slot.backlog, []
            for kind, event in backlog:
                slot.sink.take(kind, event)
            if not slot.done:
                return
            slot.sink.finish(slot.raw)
            slot.raw = None
            self._head += 1

    def _slot(self, kind: str, event: Event) -> _Slot:
        head = try_decode(ITEM_HEAD, bytes(event.item)) if given(event.item) else None
        index = tokens(event.output_index)
        id = event.item_id or (head.id if head is not None and head.id else "")
        slot = self._find(index, id)
        if slot is None or (kind == ADDED and slot.type):
            slot = self._new()
        if index is not None:
            self._by_index[index] = slot
        slot.id = slot.id or id
        if head is not None:
            slot.type = head.type or slot.type
        return slot

    def _find(self, index: int | None, id: str) -> _Slot | None:
        if index is not None:
            return self._by_index.get(index)
        if id and (found := next((slot for slot in reversed(self._slots) if slot.id == id), None)):
            return found
        return self._slots[-1] if self._slots and not self._slots[-1].done else None

    def _new(self) -> _Slot:
        slot = _Slot(self._new_sink())
        self._slots.append(slot)
        return slot
