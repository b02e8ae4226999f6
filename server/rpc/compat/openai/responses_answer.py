"""The core's answers as OpenAI's response object, and as the events of its stream.

    response.created response.in_progress item* (response.completed | response.incomplete)

with each item's own events between its `output_item.added` and `output_item.done`, all of it numbered. An answer that
fails on the way ends with `error` instead. An answer that comes at once is what its events would add up to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from server.core import messages as m
from server.core.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Completed,
    Failed,
    Native,
    Started,
    StreamEvent,
    Usage,
    Warning,
)
from server.core.stream import ChatResponse
from server.rpc.compat.frame import decoded, told_warnings
from server.rpc.compat.openai.errors import error_object
from server.rpc.compat.openai.responses_output import CallItem, Item, MessageItem, ReasoningItem, StepItem, Writer
from server.rpc.compat.openai.responses_request import ResponseRequest
from server.rpc.compat.openai.responses_types import WIRE

_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}

_DEFAULTS: Final[Mapping[str, Any]] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""What an answer says of members that the request had not."""


class ResponseRenderer:
    """Renders the events of one answer, batch by batch. id: of the response where the provider speaks another wire;
    request_id: told with a failure."""

    def __init__(self, wanted: ResponseRequest, *, id: str, created: int, request_id: str, stream: bool = True) -> None:
        self.response: dict[str, Any] = {
            "id": id,
            "object": "response",
            "created_at": created,
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "model": wanted.request.model,
            "output": [],
            "previous_response_id": None,
            "store": False,
            "usage": None,
            **_DEFAULTS,
            **wanted.echo,
        }
        """The response object; whole once the answer has ended."""
        self._custom_tools = wanted.custom_tools
        self._request_id = request_id
        self._suffix = id.partition("_")[2]
        self._stream = stream
        self._sequence = 0
        self._started = Started("", "")
        self._item: Item | None = None
        self._writing = False
        self._skipped: list[dict[str, str]] = []
        self._out: list[bytes] = []

    def render(self, batch: Sequence[StreamEvent]) -> bytes:  # noqa: C901  one case for each event
        """The frames for these events; b"" where they say nothing in this dialect."""
        self._out = []
        for event in batch:
            match event:
                case BlockDelta():
                    if self._writing and self._item is not None:
                        self._item.delta(event.text)
                case BlockStart():
                    self._begin(event)
                case BlockEnd():
                    if self._writing and self._item is not None:
                        self._item.end(event)
                case Started():
                    self._start(event)
                case Completed():
                    self._complete(event)
                case Failed():
                    self._fail(event)
                case Native():  # for a dialect that asks for them; this one does not
                    pass
        return b"".join(self._out)

    def emit(self, type: str, /, **members: Any) -> None:
        """One event, numbered."""
        if self._stream:
            data = msgspec.json.encode({"type": type, "sequence_number": self._sequence, **members})
            self._out += (b"event: ", type.encode(), b"\ndata: ", data, b"\n\n")
            self._sequence += 1

    # --- items --------------------------------------------------------------------------------------------------------

    def _begin(self, start: BlockStart) -> None:
        """The block's item: the open one, if it goes on, else a new one."""
        self._writing = True
        if self._item is not None and self._item.goes_on(start):
            self._item.begin()
            return
        self._close("completed")
        if start.kind == "server_tool" and not StepItem.shows(start, self._started.wire):
            self._writing = False
            self._skipped.append({"type": start.type, "name": start.name})
            return
        self._open(start)

    def _open(self, start: BlockStart) -> Item:
        index = len(self.response["output"])
        writer = Writer(self.emit, index, f"{self._suffix}_{index}", self._started.wire, stream=self._stream)
        item: Item
        match start.kind:
            case "text":
                item = MessageItem(writer, start)
            case "reasoning":
                item = ReasoningItem(writer, start)
            case "tool_call":
                item = CallItem(writer, start, custom=start.name in self._custom_tools)
            case "server_tool":
                item = StepItem(writer, start)
        self._item = item
        self.emit("response.output_item.added", output_index=index, item=item.item)
        item.begin()
        return item

    def _close(self, status: str) -> None:
        item, self._item = self._item, None
        if item is None:
            return
        done = item.close(status)
        self.response["output"].append(done)
        self.emit("response.output_item.done", output_index=len(self.response["output"]) - 1, item=done)
        if item.kept:
            # What must come back with words or a call has no place in them: it stands in an item of thoughts behind.
            self._open(BlockStart(0, "reasoning")).item["encrypted_content"] = item.kept
            self._close("completed")

    # --- beginning and end --------------------------------------------------------------------------------------------

    def _start(self, event: Started) -> None:
        self._started = event
        self.response["model"] = event.model
        if event.wire == WIRE and event.id:
            self.response["id"] = event.id
        self.emit("response.created", response=self.response)
        self.emit("response.in_progress", response=self.response)

    def _complete(self, end: Completed) -> None:
        reason = _INCOMPLETE.get(end.finish_reason)
        if end.refusal:
            self._close("completed")
            words = self._open(BlockStart(0, "text"))
            if isinstance(words, MessageItem):
                words.refuse(end.refusal)
        status = "incomplete" if reason else "completed"
        self._close(status)
        metadata = decoded(end.provider_metadata)
        self.response["status"] = status
        self.response["incomplete_details"] = {"reason": reason} if reason else None
        self.response["model"] = end.model or self.response["model"]
        self.response["usage"] = _usage(end.usage, metadata.get("usage") if self._started.wire == WIRE else None)
        if "service_tier" in metadata:
            self.response["service_tier"] = metadata["service_tier"]
        self.response["x_dragoman"] = self._beside(end, metadata)
        self.emit(f"response.{status}", response=self.response)

    def _beside(self, end: Completed, metadata: Any) -> dict[str, Any]:
        """What OpenAI's form has no place for."""
        started = self._started
        beside: dict[str, Any] = {"provider": started.provider, "raw_finish_reason": end.raw_finish_reason}
        if started.id and started.id != self.response["id"]:
            beside["provider_response_id"] = started.id
        warnings: tuple[Warning, ...] = (*started.warnings, *end.warnings)
        if warnings:
            beside["warnings"] = told_warnings(warnings)
        if self._skipped:
            beside["server_tools"] = self._skipped
        if started.wire == WIRE and metadata.get("annotations"):
            beside["annotations"] = metadata["annotations"]
        return beside

    def _fail(self, event: Failed) -> None:
        """As the reference has it, flat, and as OpenAI sends it and its SDKs look for it, under `error`."""
        error = error_object(event.error, self._request_id)
        self.response["status"] = "failed"
        self.emit("error", code=error["code"], message=error["message"], param=error["param"], error=error)


def response_object(
    answer: ChatResponse, wanted: ResponseRequest, *, id: str, created: int, request_id: str
) -> dict[str, Any]:
    """A whole answer."""
    renderer = ResponseRenderer(wanted, id=id, created=created, request_id=request_id, stream=False)
    renderer.render(list(_events(answer)))
    return renderer.response


def _events(answer: ChatResponse) -> Iterator[StreamEvent]:
    """The events that the answer is the sum of."""
    yield Started(answer.provider, answer.model, answer.id, answer.request_id, answer.warnings, answer.wire)
    for index, part in enumerate(answer.message.parts):
        match part:
            case m.Text():
                yield BlockStart(index, "text")
                yield BlockDelta(index, part.text)
                yield BlockEnd(index, part.citations, opaque=part.opaque, logprobs=part.logprobs)
            case m.Reasoning():
                yield BlockStart(index, "reasoning")
                yield BlockDelta(index, part.text)
                yield BlockEnd(index, opaque=part.opaque)
            case m.ToolCall():
                yield BlockStart(index, "tool_call", part.id, part.name)
                yield BlockDelta(index, part.arguments)
                yield BlockEnd(index, opaque=part.opaque)
            case m.ServerTool():
                yield BlockStart(index, "server_tool", part.id, part.name, part.type)
                yield BlockDelta(index, part.input)
                yield BlockEnd(index, output=part.output, opaque=part.opaque)
            case _:
                pass
    yield Completed(
        finish_reason=answer.finish_reason,
        raw_finish_reason=answer.raw_finish_reason,
        usage=answer.usage,
        model=answer.model,
        provider_metadata=answer.provider_metadata,
        refusal=answer.refusal,
    )


def _usage(usage: Usage, own: object) -> dict[str, Any] | None:
    """Counts in OpenAI's names, what a server of this wire said beside them included; None where the provider did not
    count. The form demands the details as numbers: what nobody counted is 0 there."""
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    found: dict[str, Any] = dict(own) if isinstance(own, dict) else {}
    total = usage.total_tokens if usage.total_tokens is not None else usage.prompt_tokens + usage.completion_tokens
    found |= {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens, "total_tokens": total}
    inputs = {"cached_tokens": usage.cached_tokens or 0, "cache_write_tokens": usage.cache_write_tokens or 0}
    outputs = {"reasoning_tokens": usage.reasoning_tokens or 0}
    for name, counts in (("input_tokens_details", inputs), ("output_tokens_details", outputs)):
        before = found.get(name)
        found[name] = {**before, **counts} if isinstance(before, dict) else counts
    return found
