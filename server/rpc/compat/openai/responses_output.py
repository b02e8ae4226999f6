"""Output items of a response, one class for each kind: the events of its blocks, and the item that they add up to.

Where the provider speaks this wire, an item that it wants back is shown as it came; where it speaks another, what it
wants back stands in our container (`server.rpc.compat.opaque`).
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from server.core.events import BlockEnd, BlockStart
from server.core.messages import Citation, Opaque
from server.rpc.compat.frame import decoded
from server.rpc.compat.opaque import PREVIOUS, seal
from server.rpc.compat.openai.logprobs import logprobs_object
from server.rpc.compat.openai.responses_items import CUSTOM_CALL
from server.rpc.compat.openai.responses_types import WIRE

_PROGRESS: Final = {
    "web_search_call": ("in_progress", "searching"),
    "file_search_call": ("in_progress", "searching"),
    "code_interpreter_call": ("in_progress", "interpreting"),
    "image_generation_call": ("in_progress", "generating"),
    "mcp_call": ("in_progress",),
    "mcp_list_tools": ("in_progress",),
}
"""Events that tell of a step before it is completed, by the item's type."""

_SEARCH: Final = "web_search"


class Emit(Protocol):
    """Takes one event of the stream."""

    def __call__(self, type: str, /, **members: Any) -> None: ...


class Writer:
    """Where an item stands: its place in the output, how ids end, which wire the provider speaks, whether events are
    told."""

    def __init__(self, emit: Emit, index: int, suffix: str, wire: str, *, stream: bool) -> None:
        self._emit = emit
        self.index = index
        self.suffix = suffix
        self.native = wire == WIRE
        self.stream = stream

    def id(self, prefix: str, given: str) -> str:
        """The item's id: the provider's own where it speaks this wire."""
        return given if self.native and given else f"{prefix}_{self.suffix}"

    def tell(self, type: str, item: dict[str, Any], /, **members: Any) -> None:
        """An event about the item."""
        self._emit(f"response.{type}", item_id=item["id"], output_index=self.index, **members)


class Item:
    """One item while it comes. item: as it is known so far."""

    kind = ""

    def __init__(self, writer: Writer, start: BlockStart, item: dict[str, Any]) -> None:
        self.writer = writer
        self.item = item
        self._source = start.id
        self._text: list[str] = []
        self._extras: dict[str, Any] = {}
        self.kept = ""
        """What must come back with it and has no place in it; "" for nothing."""

    def goes_on(self, start: BlockStart) -> bool:  # noqa: ARG002
        """Whether the block is more of this item."""
        return False

    def begin(self) -> None:
        """A block opens."""
        self._text = []

    def delta(self, text: str) -> None:
        """More of the open block."""
        self._text.append(text)

    def end(self, end: BlockEnd) -> None:
        """The block is complete."""
        raise NotImplementedError

    def close(self, status: str) -> dict[str, Any]:
        """The whole item."""
        self.item = {**self._extras, **self.item, "status": status}
        return self.item

    def _is_same(self, start: BlockStart) -> bool:
        return start.kind == self.kind and start.id == self._source


class MessageItem(Item):
    """Words. Text blocks that follow each other are its parts."""

    kind = "text"

    def __init__(self, writer: Writer, start: BlockStart) -> None:
        item = {"id": writer.id("msg", start.id), "type": "message", "status": "in_progress", "role": "assistant"}
        super().__init__(writer, start, {**item, "content": []})
        self._opened = False

    def goes_on(self, start: BlockStart) -> bool:
        return self._is_same(start) and (bool(start.id) if self.writer.native else not self.kept)

    def delta(self, text: str) -> None:
        self._open()
        self._text.append(text)
        self._tell("output_text.delta", delta=text, logprobs=[])

    def end(self, end: BlockEnd) -> None:
        self._open()
        text = "".join(self._text)
        notes = [_annotation(one, len(text)) for one in end.citations if one.url]
        for index, note in enumerate(notes):
            self._tell("output_text.annotation.added", annotation_index=index, annotation=note)
        found = logprobs_object([end.logprobs]) if end.logprobs else None
        logprobs = found["content"] if found is not None else []
        self._tell("output_text.done", text=text, logprobs=logprobs)
        self._done({"type": "output_text", "annotations": notes, "logprobs": logprobs, "text": text})
        if self.writer.native:
            self._extras |= _own(end.opaque)
        elif end.opaque is not None:
            self.kept = seal(end.opaque, PREVIOUS)

    def refuse(self, text: str) -> None:
        """A refusal, as a part of its own."""
        self._tell("content_part.added", part={"type": "refusal", "refusal": ""})
        self._tell("refusal.delta", delta=text)
        self._tell("refusal.done", refusal=text)
        self._done({"type": "refusal", "refusal": text})

    def _open(self) -> None:
        if not self._opened:
            self._opened = True
            part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
            self._tell("content_part.added", part=part)

    def _done(self, part: dict[str, Any]) -> None:
        self._tell("content_part.done", part=part)
        self.item["content"].append(part)
        self._opened = False

    def _tell(self, type: str, /, **members: Any) -> None:
        self.writer.tell(type, self.item, content_index=len(self.item["content"]), **members)


class ReasoningItem(Item):
    """Thoughts. Blocks that follow each other are one item until what must come back with them has come."""

    kind = "reasoning"

    def __init__(self, writer: Writer, start: BlockStart) -> None:
        super().__init__(writer, start, {"id": writer.id("rs", start.id), "type": "reasoning", "summary": []})
        self._opaque: Opaque | None = None

    def goes_on(self, start: BlockStart) -> bool:
        return self._is_same(start) and self._opaque is None

    def delta(self, text: str) -> None:
        if not text:
            return
        if not self._text:
            self._tell("reasoning_summary_part.added", part={"type": "summary_text", "text": ""})
        self._text.append(text)
        self._tell("reasoning_summary_text.delta", delta=text)

    def end(self, end: BlockEnd) -> None:
        self._opaque = end.opaque
        if not self._text:
            return
        text = "".join(self._text)
        part = {"type": "summary_text", "text": text}
        self._tell("reasoning_summary_text.done", text=text)
        self._tell("reasoning_summary_part.done", part=part)
        self.item["summary"].append(part)

    def close(self, status: str) -> dict[str, Any]:  # noqa: ARG002  thoughts have none
        if self._opaque is None:
            return self.item
        if self.writer.native:
            raw = _own(self._opaque)
            # In a stream the id has been told already.
            self.item = {**self.item, **raw, "id": self.item["id"] if self.writer.stream else raw.get("id")}
        else:
            self.item = {**self.item, "encrypted_content": seal(self._opaque)}
        return self.item

    def _tell(self, type: str, /, **members: Any) -> None:
        self.writer.tell(type, self.item, summary_index=len(self.item["summary"]), **members)


class CallItem(Item):
    """A call of the caller's tool. custom: of one that takes text, which stands in its arguments as `input`."""

    kind = "tool_call"

    def __init__(self, writer: Writer, start: BlockStart, *, custom: bool) -> None:
        type, said = (CUSTOM_CALL, "input") if custom else ("function_call", "arguments")
        prefix = "ctc" if custom else "fc"
        item = {"id": writer.id(prefix, ""), "type": type, "status": "in_progress"}
        super().__init__(writer, start, {**item, "call_id": start.id, "name": start.name, said: ""})
        self._custom = custom

    def delta(self, text: str) -> None:
        self._text.append(text)
        if not self._custom and text:
            self.writer.tell("function_call_arguments.delta", self.item, delta=text)

    def end(self, end: BlockEnd) -> None:
        text = "".join(self._text)
        if self._custom:
            said = str(decoded(text).get("input", text))
            self.item["input"] = said
            self.writer.tell("custom_tool_call_input.delta", self.item, delta=said)
            self.writer.tell("custom_tool_call_input.done", self.item, input=said)
        else:
            if not text:
                text = "{}"
                self.writer.tell("function_call_arguments.delta", self.item, delta=text)
            self.item["arguments"] = text
            self.writer.tell("function_call_arguments.done", self.item, arguments=text, name=self.item["name"])
        if self.writer.native:
            self._extras = _own(end.opaque)
        elif end.opaque is not None:
            self.kept = seal(end.opaque, self.item["call_id"])


class StepItem(Item):
    """A step of a tool that the provider ran."""

    kind = "server_tool"

    def __init__(self, writer: Writer, start: BlockStart) -> None:
        type = start.type if writer.native else f"{_SEARCH}_call"
        prefix = {"web_search_call": "ws", "code_interpreter_call": "ci"}.get(type, "st")
        item: dict[str, Any] = {"id": writer.id(prefix, start.id), "type": type, "status": "in_progress"}
        super().__init__(writer, start, item if writer.native else {**item, "action": _search("")})

    @staticmethod
    def shows(start: BlockStart, wire: str) -> bool:
        """Whether this API has an item for the step: all of its own, and of others the call of a web search."""
        return wire == WIRE or (start.name == _SEARCH and "result" not in start.type)

    def begin(self) -> None:
        super().begin()
        for word in _PROGRESS.get(self.item["type"], ()):
            self.writer.tell(f"{self.item['type']}.{word}", self.item)

    def end(self, end: BlockEnd) -> None:
        if self.item["type"] in _PROGRESS:
            self.writer.tell(f"{self.item['type']}.completed", self.item)
        if self.writer.native:
            self._extras = _own(end.opaque)
        else:
            query = decoded("".join(self._text)).get("query")
            self.item["action"] = _search(query if isinstance(query, str) else "")

    def close(self, status: str) -> dict[str, Any]:
        if self._extras:
            self.item = {**self._extras, "id": self.item["id"]}
            return self.item
        return super().close(status)


def _search(query: str) -> dict[str, str]:
    return {"type": "search", "query": query}


def _own(opaque: Opaque | None) -> dict[str, Any]:
    """What a server of this wire wants back, as the members that it is."""
    return dict(decoded(opaque.data.decode("utf-8", "replace"))) if opaque is not None else {}


def _annotation(cited: Citation, length: int) -> dict[str, Any]:
    """A source. One without offsets stands for the whole part."""
    return {
        "type": "url_citation",
        "url": cited.url,
        "title": cited.title or "",
        "start_index": cited.start if cited.start is not None else 0,
        "end_index": cited.end if cited.end is not None else length,
    }
