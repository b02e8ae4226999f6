"""Streamed answers: from the core's events to the contract's ChatEvent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dragoman.v1 import chat_pb2 as pb
from server.core import events as ev
from server.rpc.errors import status_code, to_status
from server.rpc.translate.parts import citation_to_proto, opaque_to_proto
from server.rpc.translate.response import usage, warning
from server.rpc.translate.structs import fill_struct

_DELTA_FIELD: Mapping[ev.BlockKind, str] = {
    "text": "text",
    "reasoning": "reasoning",
    "tool_call": "arguments",
    "server_tool": "input",
}
"""The field of BlockDelta that adds to a block of each kind."""


class EventRenderer:
    """Renders the events of one stream, in order: counts them, and knows the kind of the open block.

    request_id: told to the caller with a failure.
    """

    __slots__ = ("_delta", "_request_id", "_sequence")

    def __init__(self, request_id: str = "") -> None:
        self._request_id = request_id
        self._sequence = 0
        self._delta = "text"

    def render(self, event: ev.StreamEvent) -> pb.ChatEvent:
        """The next event of the stream. Half a microsecond for a delta, which is what nearly all of them are."""
        self._sequence += 1
        rendered = pb.ChatEvent(sequence=self._sequence)
        if type(event) is ev.BlockDelta:
            delta = rendered.block_delta
            delta.index = event.index
            setattr(delta, self._delta, event.text)
            return rendered
        if isinstance(event, ev.BlockStart):
            self._delta = _DELTA_FIELD[event.kind]
        if isinstance(event, ev.Failed):
            rendered.failed.CopyFrom(_failed(event, self._request_id))
        else:
            field, render = _RENDER[type(event)]
            getattr(rendered, field).CopyFrom(render(event))
        return rendered


def _started(event: ev.Started) -> pb.Started:
    return pb.Started(
        id=event.id,
        model=event.model,
        provider=event.provider,
        warnings=map(warning, event.warnings),
        provider_request_id=event.request_id,
    )


def _block_start(event: ev.BlockStart) -> pb.BlockStart:
    match event.kind:
        case "text":
            return pb.BlockStart(index=event.index, text=pb.TextBlock())
        case "reasoning":
            return pb.BlockStart(index=event.index, reasoning=pb.ReasoningBlock())
        case "tool_call":
            return pb.BlockStart(index=event.index, tool_call=pb.ToolCallBlock(id=event.id, name=event.name))
        case "server_tool":
            block = pb.ServerToolBlock(type=event.type, id=event.id, name=event.name)
            return pb.BlockStart(index=event.index, server_tool=block)


def _block_end(event: ev.BlockEnd) -> pb.BlockEnd:
    return pb.BlockEnd(
        index=event.index,
        citations=map(citation_to_proto, event.citations),
        output_json=event.output,
        opaque=opaque_to_proto(event.opaque),
        logprobs_json=event.logprobs,
    )


def _completed(event: ev.Completed) -> pb.Completed:
    completed = pb.Completed(
        finish_reason=event.finish_reason,
        raw_finish_reason=event.raw_finish_reason,
        usage=usage(event.usage),
        model=event.model,
        warnings=map(warning, event.warnings),
        refusal=event.refusal,
    )
    fill_struct(completed, pb.Completed.PROVIDER_METADATA_FIELD_NUMBER, event.provider_metadata)
    return completed


def _failed(event: ev.Failed, request_id: str) -> pb.Failed:
    status = to_status(event.error, request_id)
    name = status_code(event.error).name
    failed = pb.Failed(code=status.code, status=name, message=status.message, details=status.details)
    if event.usage != ev.Usage():
        failed.usage.CopyFrom(usage(event.usage))
    return failed


_RENDER: Mapping[type, tuple[str, Callable[[Any], Any]]] = {
    ev.Started: ("started", _started),
    ev.BlockStart: ("block_start", _block_start),
    ev.BlockEnd: ("block_end", _block_end),
    ev.Completed: ("completed", _completed),
}
