"""The core's events as Anthropic's stream.

    message_start ping (content_block_start content_block_delta* content_block_stop)* message_delta message_stop

with `error` instead of the last two for an answer that failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from server.core import messages as m
from server.core.events import BlockDelta, BlockEnd, BlockStart, Completed, Failed, Native, Started, StreamEvent
from server.core.native import kept
from server.rpc.compat.anthropic import answer as a
from server.rpc.compat.anthropic import types as t
from server.rpc.compat.anthropic.blocks import OURS
from server.rpc.compat.anthropic.errors import error_body
from server.rpc.compat.frame import decoded
from server.rpc.compat.opaque import PREVIOUS


class EventRenderer:
    """Renders the events of one stream, batch by batch. id: where the provider gives none; request_id: told with a
    failure."""

    def __init__(self, *, id: str, request_id: str) -> None:
        self._id = id
        self._request_id = request_id
        self._started = Started("", "")
        self._native = False
        self._index = -1
        self._open: BlockStart | None = None
        self._begun = False
        self._pieces: list[str] = []
        self._beyond: a.Members = {}
        self._out: list[bytes] = []

    def render(self, batch: Sequence[StreamEvent]) -> bytes:
        """The frames for these events."""
        self._out = []
        for event in batch:
            match event:
                case BlockDelta():
                    self._delta(event.text)
                case BlockStart():
                    self._block(event)
                case BlockEnd():
                    self._end(event)
                case Started():
                    self._start(event)
                case Native():
                    self._pass_on(event)
                case Completed():
                    self._complete(event)
                case Failed():
                    self._say(error_body(event.error, self._request_id))
        return b"".join(self._out)

    def _say(self, event: a.Members) -> None:
        name = event["type"].encode()
        self._out.append(b"event: " + name + b"\ndata: " + msgspec.json.encode(event) + b"\n\n")

    def _start(self, event: Started) -> None:
        self._started, self._native = event, event.wire == t.WIRE
        message: a.Members = {
            "id": event.id or self._id,
            "type": "message",
            "role": "assistant",
            "model": event.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            # Counts are cumulative: what they are is said at the end.
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        self._say({"type": "message_start", "message": message})
        self._say({"type": "ping"})

    # --- blocks -------------------------------------------------------------------------------------------------------

    def _block(self, start: BlockStart) -> None:
        self._open, self._begun, self._pieces = start, False, []
        if start.kind == "tool_call":
            self._begin(a.tool_use(start.id, start.name))

    def _begin(self, block: a.Members) -> None:
        self._begun = True
        self._index += 1
        self._say({"type": "content_block_start", "index": self._index, "content_block": block})

    def _add(self, **delta: Any) -> None:
        self._say({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _stop(self) -> None:
        self._say({"type": "content_block_stop", "index": self._index})

    def _whole(self, block: a.Members) -> None:
        self._begin(block)
        self._stop()

    def _delta(self, text: str) -> None:
        kind = self._open.kind if self._open is not None else "text"
        if kind == "server_tool":
            self._pieces.append(text)
        elif kind == "tool_call":
            self._pieces.append(text)
            self._add(type="input_json_delta", partial_json=text)
        elif kind == "text":
            if not self._begun:
                self._begin({"type": "text", "text": ""})
            self._add(type="text_delta", text=text)
        else:
            if not self._begun:
                self._begin({"type": "thinking", "thinking": "", "signature": ""})
            self._add(type="thinking_delta", thinking=text)

    def _end(self, end: BlockEnd) -> None:
        start, self._open = self._open, None
        match start.kind if start is not None else "text":
            case "text":
                self._end_of_text(end)
            case "reasoning":
                self._end_of_thought(end)
            case "tool_call" if start is not None:
                self._stop()
                self._carry(end, start.id)
            case "server_tool" if start is not None:
                text = "".join(self._pieces)
                self._server_tool(m.ServerTool(start.type, start.id, start.name, text, end.output, end.opaque))

    def _end_of_text(self, end: BlockEnd) -> None:
        if not self._begun:
            return
        rest = a.rest_of(m.Text("", opaque=end.opaque), native=self._native)
        own = msgspec.json.decode(rest["citations"]) if "citations" in rest else None
        for cited in own or a.citations(end.citations) or ():
            self._add(type="citations_delta", citation=cited)
        self._stop()
        self._carry(end, PREVIOUS)

    def _end_of_thought(self, end: BlockEnd) -> None:
        part = m.Reasoning("", end.opaque)
        rest = a.rest_of(part, native=self._native)
        if not self._begun:
            for block in a.thinking("", end.opaque, rest, native=self._native):
                if block.get("signature"):
                    self._begin({"type": "thinking", "thinking": "", "signature": ""})
                    self._add(type="signature_delta", signature=block["signature"])
                    self._stop()
                else:
                    self._whole(block)
            return
        # Any text will do: the container does not hold it.
        signed = a.thinking("…", end.opaque, rest, native=self._native)[0].get("signature")
        if signed:
            self._add(type="signature_delta", signature=signed)
        self._stop()

    def _server_tool(self, part: m.ServerTool) -> None:
        block = a.server_tool(part, a.rest_of(part, native=self._native), native=self._native)
        given = block.get("input")
        if given is None:
            self._whole(block)
            return
        self._begin({**block, "input": {}})
        self._add(type="input_json_delta", partial_json=msgspec.json.encode(given).decode())
        self._stop()

    def _carry(self, end: BlockEnd, of: str) -> None:
        for block in a.carrier(end.opaque, of, native=self._native):
            self._whole(block)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _pass_on(self, event: Native) -> None:
        """Events of kinds that are not known here, as they were; members of the message wait for its end."""
        found = kept(event.members)
        for one in found.get("events", []):
            self._say(one)
        self._beyond |= found.get("message", {})

    def _complete(self, event: Completed) -> None:
        metadata = decoded(event.provider_metadata)
        delta = self._beyond | a.end(
            event.finish_reason, event.raw_finish_reason, event.refusal, metadata, native=self._native
        )
        context = delta.pop("context_management", None)
        told = a.beside(self._started.provider, event.raw_finish_reason, (*self._started.warnings, *event.warnings))
        counts = {k: v for k, v in a.usage(event.usage, metadata, native=self._native).items() if v is not None}
        last = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": None, **counts}, OURS: told}
        if context is not None:
            last["context_management"] = context
        self._say(last)
        self._say({"type": "message_stop"})
