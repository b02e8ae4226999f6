"""The core's answers in OpenAI's forms: one completion, or chunks with `[DONE]` behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from server.core import messages as m
from server.core.events import (
    FINISH_REASONS,
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
from server.core.native import kept
from server.core.stream import ChatResponse
from server.rpc.compat.frame import decoded, told_warnings
from server.rpc.compat.opaque import seal
from server.rpc.compat.openai import types as t
from server.rpc.compat.openai.errors import error_object
from server.rpc.compat.openai.logprobs import logprobs_object

DONE: Final = b"data: [DONE]\n\n"

_FORMAT: Final = "dragoman"
"""`format` of a reasoning detail whose signature is ours (`server.rpc.compat.opaque`)."""


def completion(answer: ChatResponse, *, id: str, created: int) -> t.Completion:
    """A whole answer. id: where the provider gives none."""
    parts = answer.message.parts
    texts = [part for part in parts if isinstance(part, m.Text)]
    calls = [_whole_call(part, answer.wire) for part in parts if isinstance(part, m.ToolCall)]
    thoughts = [part for part in parts if isinstance(part, m.Reasoning)]
    details = [one for index, part in enumerate(thoughts) for one in _details(part, index, answer.wire)]
    message = t.AnswerMessage(
        content=answer.text if texts or not calls else None,
        refusal=answer.refusal or None,
        annotations=_annotations(texts) or msgspec.UNSET,
        reasoning_content=answer.reasoning or msgspec.UNSET,
        reasoning_details=details or msgspec.UNSET,
        tool_calls=calls or msgspec.UNSET,
    )
    logprobs = logprobs_object([part.logprobs for part in texts if part.logprobs])
    metadata = decoded(answer.provider_metadata)
    return t.Completion(
        id=answer.id or id,
        created=created,
        model=answer.model,
        choices=[t.AnswerChoice(message=message, finish_reason=_finish(answer.finish_reason), logprobs=logprobs)],
        service_tier=metadata.get("service_tier", msgspec.UNSET),
        system_fingerprint=metadata.get("system_fingerprint", msgspec.UNSET),
        usage=_usage(answer.usage, metadata, answer.wire),
        x_dragoman=_beside(answer.provider, answer.raw_finish_reason, answer.warnings, answer.message),
    )


class ChunkRenderer:
    """Renders the events of one stream, batch by batch. id: where the provider gives none; request_id: told with a
    failure."""

    def __init__(self, *, id: str, created: int, include_usage: bool, request_id: str) -> None:
        self._chunk = t.Chunk(
            id=id, created=created, model="", choices=[], usage=None if include_usage else msgspec.UNSET
        )
        self._include_usage = include_usage
        self._request_id = request_id
        self._started = Started("", "")
        self._open: BlockStart | None = None
        self._calls = -1
        self._thoughts = -1
        self._written = 0
        self._block_at = 0
        self._any_arguments = False
        self._out: list[bytes] = []

    def render(self, batch: Sequence[StreamEvent]) -> bytes:
        """The frames for these events; b"" where they say nothing in this dialect."""
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
                    self._started = event
                    self._chunk.id, self._chunk.model = event.id or self._chunk.id, event.model
                    self._say(t.Delta(role="assistant", content=""))
                case Native():
                    self._native(event)
                case Completed():
                    self._complete(event)
                case Failed():
                    self._frame({"error": error_object(event.error, self._request_id)})
        return b"".join(self._out)

    def _frame(self, value: object) -> None:
        self._out += (b"data: ", msgspec.json.encode(value), b"\n\n")

    def _say(self, delta: t.Delta, **choice: Any) -> None:
        self._chunk.choices = [t.ChunkChoice(delta=delta, **choice)]
        self._out += (b"data: ", msgspec.json.encode(self._chunk), b"\n\n")

    def _block(self, start: BlockStart) -> None:
        self._open = start
        self._block_at = self._written
        if start.kind == "tool_call":
            self._calls += 1
            self._any_arguments = False
            function = {"name": start.name, "arguments": ""}
            self._call({"id": start.id, "type": "function", "function": function})
        elif start.kind == "reasoning":
            self._thoughts += 1

    def _call(self, piece: dict[str, Any]) -> None:
        self._say(t.Delta(tool_calls=[{"index": self._calls, **piece}]))

    def _delta(self, text: str) -> None:
        kind = self._open.kind if self._open else "text"
        if kind == "text":
            self._written += len(text)
            self._say(t.Delta(content=text))
        elif kind == "reasoning":
            self._say(t.Delta(reasoning_content=text))
        elif kind == "tool_call" and text:
            self._any_arguments = True
            self._call({"function": {"arguments": text}})

    def _end(self, end: BlockEnd) -> None:
        kind, self._open = self._open.kind if self._open else "text", None
        if kind == "tool_call":
            if not self._any_arguments:
                self._call({"function": {"arguments": "{}"}})
            if extra := _extra_content(end.opaque, self._started.wire):
                # The SDK wants a function in every piece.
                self._call({"function": {"arguments": ""}, "extra_content": extra})
        elif kind == "reasoning":
            # The text has been said already: the detail adds what comes back with it.
            if details := _details(m.Reasoning("", end.opaque), self._thoughts, self._started.wire):
                self._say(t.Delta(reasoning_details=details))
        elif kind == "text":
            span = self._block_at, self._written
            if notes := [_annotation(one, *span) for one in end.citations if one.url]:
                self._say(t.Delta(annotations=notes))
            if end.logprobs and (logprobs := logprobs_object([end.logprobs])) is not None:
                self._say(t.Delta(), logprobs=logprobs)

    def _native(self, event: Native) -> None:
        """In a frame of its own: members add up by their names, wherever they come."""
        self._chunk.choices = [t.ChunkChoice(delta=t.Delta())]
        self._frame(with_natives(self._chunk, [event.members], "delta"))

    def _complete(self, end: Completed) -> None:
        started, chunk = self._started, self._chunk
        metadata = decoded(end.provider_metadata)
        if end.refusal:
            self._say(t.Delta(refusal=end.refusal))
        chunk.model = end.model or chunk.model
        chunk.service_tier = metadata.get("service_tier", msgspec.UNSET)
        chunk.system_fingerprint = metadata.get("system_fingerprint", msgspec.UNSET)
        chunk.x_dragoman = _beside(started.provider, end.raw_finish_reason, (*started.warnings, *end.warnings))
        self._say(t.Delta(), finish_reason=_finish(end.finish_reason))
        if self._include_usage:
            chunk.x_dragoman = msgspec.UNSET
            chunk.choices, chunk.usage = [], _usage(end.usage, metadata, started.wire)
            self._frame(chunk)
        self._out.append(DONE)


def with_natives(answer: t.Chunk | t.Completion, natives: Sequence[str], message: str) -> dict[str, Any]:
    """An answer or a chunk, with what a server of this wire said beyond it in its place. message: the member that the
    message is called by there."""
    whole: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(answer))
    choice = whole["choices"][0]
    for members in natives:
        found = kept(members)
        for place, target in (("top", whole), ("choice", choice), ("message", choice[message])):
            for name, value in found.get(place, {}).items():
                target.setdefault(name, value)
    return whole


def _finish(word: str) -> str:
    """Words that OpenAI does not have (pause_turn) are `stop`, as its SDKs check the word; the provider's own stands in
    x_dragoman."""
    return word if word in FINISH_REASONS else "stop"


def _beside(
    provider: str, raw_finish_reason: str, warnings: Sequence[Warning], message: m.Message | None = None
) -> dict[str, Any]:
    """What OpenAI's form has no place for."""
    beside: dict[str, Any] = {"provider": provider, "raw_finish_reason": raw_finish_reason}
    if warnings:
        beside["warnings"] = told_warnings(warnings)
    steps = [part for part in message.parts if isinstance(part, m.ServerTool)] if message is not None else []
    if steps:
        beside["server_tools"] = [{"type": one.type, "name": one.name} for one in steps]
    return beside


def _usage(usage: Usage, metadata: Mapping[str, Any], wire: str) -> dict[str, Any] | None:
    """Counts in OpenAI's names, what a server of this wire said beside them included; None where the provider did not
    count, as there is no way to leave one out."""
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    own = metadata.get("usage") if wire == t.WIRE else None
    found: dict[str, Any] = dict(own) if isinstance(own, dict) else {}
    total = usage.total_tokens if usage.total_tokens is not None else usage.prompt_tokens + usage.completion_tokens
    found |= {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": total,
    }
    inputs = {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens}
    outputs = {"reasoning_tokens": usage.reasoning_tokens}
    for name, counts in (("prompt_tokens_details", inputs), ("completion_tokens_details", outputs)):
        known = {key: count for key, count in counts.items() if count is not None}
        if known:
            before = found.get(name)
            found[name] = {**before, **known} if isinstance(before, dict) else known
    return found


def _whole_call(call: m.ToolCall, wire: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    whole: dict[str, Any] = {"id": call.id, "type": "function", "function": function}
    if extra := _extra_content(call.opaque, wire):
        whole["extra_content"] = extra
    return whole


def _extra_content(opaque: m.Opaque | None, wire: str) -> object | None:
    """What must come back with a call: as the server gave it where it speaks this wire, else in our container."""
    if opaque is None:
        return None
    return msgspec.Raw(opaque.data) if wire == t.WIRE else {"dragoman": {"opaque": seal(opaque)}}


def _details(part: m.Reasoning, index: int, wire: str) -> list[Any]:
    """What must come back with a thought, likewise."""
    if part.opaque is None:
        return []
    if wire == t.WIRE:
        found: list[Any] = msgspec.json.decode(part.opaque.data)
        return found
    text = {"text": part.text} if part.text else {}
    return [{"type": "reasoning.text", **text, "signature": seal(part.opaque), "format": _FORMAT, "index": index}]


def _annotations(texts: Sequence[m.Text]) -> list[dict[str, Any]]:
    notes, at = [], 0
    for part in texts:
        notes += [_annotation(one, at, at + len(part.text)) for one in part.citations if one.url]
        at += len(part.text)
    return notes


def _annotation(cited: m.Citation, begin: int, end: int) -> dict[str, Any]:
    """A source. begin, end: of its block in the whole text, which a source without offsets stands for."""
    return {
        "type": "url_citation",
        "url_citation": {
            "url": cited.url,
            "title": cited.title or "",
            "start_index": begin + cited.start if cited.start is not None else begin,
            "end_index": begin + cited.end if cited.end is not None else end,
        },
    }
