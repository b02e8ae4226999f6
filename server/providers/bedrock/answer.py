"""What comes back, as events: the content blocks of a message, of a stream's pieces or of one whole body.

A part carries what it says in neutral fields; the rest of its block (signature, encrypted thought, citations, the ids
of a system tool) travels as opaque JSON beside it, and `history.py` puts the two together again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from server.core import events
from server.core.errors import ProviderProtocolError, StreamTruncated
from server.core.events import StreamEvent, Warning
from server.core.messages import Citation
from server.providers.bedrock.types import (
    ABSENT,
    CITATION,
    CITATIONS_CONTENT,
    MEMBERS,
    RAW_LIST,
    REASONING,
    TEXT,
    TRACE,
    USAGE,
    ConverseResponse,
    Delta,
    Members,
    ReasoningDelta,
    Usage,
    given,
)
from server.providers.blocks import BlockWriter, is_object
from server.providers.parsing import decode, tokens, try_decode
from server.providers.wire import Exchange, IdSource

_FINISH: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}

_SERVER_TOOL: Final = "server_tool_use"
"""The type of a toolUse that Bedrock runs itself; client calls have none, or tool_use."""

_Kind = Literal["text", "reasoning", "tool_call", "server_call", "server_result", "skipped"]


def map_finish_reason(raw: str, *, has_tool_calls: bool) -> str:
    """The neutral word; the raw one where there is no equal (malformed_tool_use). Between `stop` and `tool_calls`
    decides what is in the answer."""
    neutral = _FINISH.get(raw, raw)
    if neutral in ("stop", "tool_calls"):
        return "tool_calls" if has_tool_calls else "stop"
    return neutral


def map_usage(usage: Usage) -> events.Usage:
    """Neutral counts: the prompt with what was read from the cache and written to it, as the total has it already.
    Converse does not say how many tokens were thought."""
    read = _first(tokens(usage.cache_read_input_tokens), tokens(usage.cache_read_input_token_count))
    written = _first(tokens(usage.cache_write_input_tokens), tokens(usage.cache_write_input_token_count))
    fresh, completion, total = (
        tokens(usage.input_tokens),
        tokens(usage.output_tokens),
        tokens(usage.total_tokens),
    )
    known = [count for count in (fresh, read, written) if count is not None]
    prompt = sum(known) if known else None
    if total is None and prompt is not None and completion is not None:
        total = prompt + completion
    return events.Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=total,
        cached_tokens=read,
        cache_write_tokens=written,
    )


def _first(one: int | None, other: int | None) -> int | None:
    return one if one is not None else other


class _Block:
    """The open block. index: its number on the wire. rest: what no field of its part says, for the opaque data."""

    __slots__ = ("arguments", "id", "index", "kind", "pieces", "rest", "results", "sources")

    def __init__(self, index: int | None, kind: _Kind, rest: Members | None = None, id: str = "") -> None:
        self.index = index
        self.kind: _Kind = kind
        self.rest: Members = rest if rest is not None else {}
        self.id = id
        self.arguments: list[str] = []
        self.pieces: dict[str, list[str]] = {}
        self.results: list[msgspec.Raw] = []
        self.sources: list[msgspec.Raw] = []


class Answer:
    """Turns the pieces of a message into events, in order. Every method may raise ProviderError for what cannot be."""

    def __init__(self, exchange: Exchange, emit: Callable[[StreamEvent], None], *, new_id: IdSource) -> None:
        self.usage = events.Usage()
        self._exchange = exchange
        self._emit = emit
        self._new_id = new_id
        self._writer = BlockWriter(emit)
        self._begun = False
        self._block: _Block | None = None
        self._has_tool_calls = False
        self._finish: str | None = None
        self._model = ""
        self._extra: dict[str, object] = {}
        self._warnings: list[Warning] = []

    # --- a stream's pieces --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The head of the message. A second one after content would splice two answers, and that cannot be unsaid."""
        if self._begun:
            raise ProviderProtocolError("The provider began another answer in the middle of this one.")

    def open(self, index: int | None, start: Members) -> None:
        """contentBlockStart: a tool's call or result. Text and thoughts begin with their first delta, even where a
        server announces them, which the service model does not know."""
        self.close()
        if (call := start.get("toolUse")) is not None:
            self._open_call(index, decode(MEMBERS, call, "a tool call"))
        elif (result := start.get("toolResult")) is not None:
            self._open_result(index, decode(MEMBERS, result, "a tool result"))
        elif not start.keys() & {"text", "reasoningContent"}:
            self._skip(index, start)

    def delta(self, index: int | None, delta: Delta) -> None:
        """More of the block with this index, which begins here if it is text or thought."""
        block = self._block
        if block is not None and index is not None and block.index != index:
            self.close()
            block = None
        if delta.text is not None:
            self._text(index, delta.text)
        elif delta.reasoning_content is not None:
            self._reasoning(index, delta.reasoning_content)
        elif given(delta.citation):
            self._cite(index, delta.citation)
        elif delta.tool_use is not None:
            if block is None or block.kind not in ("tool_call", "server_call"):
                raise ProviderProtocolError("The provider sent a piece of a tool call that is not open.")
            block.arguments.append(delta.tool_use.input or "")
            self._writer.delta(delta.tool_use.input or "")
        elif delta.tool_result is not None:
            if block is None or block.kind != "server_result":
                raise ProviderProtocolError("The provider sent a piece of a tool result that is not open.")
            block.results += delta.tool_result

    def stop(self, index: int | None) -> None:
        """contentBlockStop; nothing for a block that is not open, such as an empty text."""
        if self._block is not None and (index is None or self._block.index == index):
            self.close()

    # --- a whole block ------------------------------------------------------------------------------------------------

    def whole(self, index: int, members: Members) -> None:
        """A content block of a whole answer."""
        self.close()
        if "text" in members:
            self._text(index, try_decode(TEXT, members["text"]) or "")
        elif "reasoningContent" in members:
            found = decode(REASONING, members["reasoningContent"], "a thought")
            self._reasoning(index, found.reasoning_text or ReasoningDelta(redacted_content=found.redacted_content))
        elif "toolUse" in members:
            call = decode(MEMBERS, members["toolUse"], "a tool call")
            input = call.pop("input", ABSENT)
            self._open_call(index, call)
            self._arguments(bytes(input).decode("utf-8", "replace") if given(input) else "")
        elif "toolResult" in members:
            result = decode(MEMBERS, members["toolResult"], "a tool result")
            content = try_decode(RAW_LIST, result.pop("content", ABSENT)) or []
            self._open_result(index, result).results += content
        elif "citationsContent" in members:
            cited = decode(CITATIONS_CONTENT, members["citationsContent"], "a text with citations")
            self._text(index, "".join(piece.text or "" for piece in cited.content or ()))
            for citation in cited.citations or ():
                self._cite(index, citation)
        else:
            self._skip(index, members)
        self.close()

    def _arguments(self, text: str) -> None:
        if self._block is not None:
            self._block.arguments.append(text)
            self._writer.delta(text)

    # --- blocks -------------------------------------------------------------------------------------------------------

    def _open_call(self, index: int | None, members: Members) -> None:
        id, name = _pop(members, "toolUseId"), _pop(members, "name")
        if not name:
            raise ProviderProtocolError("The provider sent a tool call without a name.")
        if _text_of(members.get("type")) == _SERVER_TOOL:
            rest = {**members, "toolUseId": _raw(id), "name": _raw(name)}
            self._block = _Block(index, "server_call", rest, id)
            self._begin()
            self._writer.open("server_tool", id=id, name=name, type="toolUse")
            return
        members.pop("type", None)
        self._has_tool_calls = True
        self._block = _Block(index, "tool_call", members, id or self._new_id())
        self._begin()
        self._writer.open("tool_call", id=self._block.id, name=name)

    def _open_result(self, index: int | None, members: Members) -> _Block:
        self._block = block = _Block(index, "server_result", members, _text_of(members.get("toolUseId")))
        self._begin()
        self._writer.open("server_tool", id=block.id, type="toolResult")
        return block

    def _text(self, index: int | None, text: str) -> None:
        """An empty text alone is no block: some models send one ahead of the thoughts (gpt-oss)."""
        if text:
            self._enter(index, "text")
            self._writer.delta(text)

    def _reasoning(self, index: int | None, delta: ReasoningDelta) -> None:
        if not (delta.text or delta.signature or delta.redacted_content):
            return
        block = self._enter(index, "reasoning")
        self._writer.delta(delta.text or "")
        for name, piece in (("signature", delta.signature), ("redactedContent", delta.redacted_content)):
            if piece:
                block.pieces.setdefault(name, []).append(piece)

    def _cite(self, index: int | None, data: msgspec.Raw) -> None:
        """A source of the text. Where in the source it stands is kept in the opaque data alone: the neutral offsets are
        of the text."""
        found = try_decode(CITATION, data)
        if found is None:
            return
        self._enter(index, "text").sources.append(data)
        web = found.location.web if found.location is not None else None
        cited = "".join(piece.text or "" for piece in found.source_content or ())
        title = found.title or (web.domain if web is not None else None)
        url = (web.url if web is not None else None) or found.source
        self._writer.attach(citations=(Citation(url, title, cited or None),))

    def _enter(self, index: int | None, kind: Literal["text", "reasoning"]) -> _Block:
        """The open block if it is that one, else a new one: no frame announces it, and not every server ends it."""
        block = self._block
        if block is None or block.kind != kind:
            self.close()
            self._block = block = _Block(index, kind)
            self._begin()
            self._writer.open(kind)
        return block

    def _skip(self, index: int | None, members: Members) -> None:
        """A block that has no neutral place (an image). It is said, and its pieces are passed over."""
        self._block = _Block(index, "skipped")
        name = next(iter(members), "of no kind")[:40]
        message = f"The answer held a block ({name}) that has no place here; it was left out."
        self._warnings.append(Warning(code="part_dropped", message=message))

    def close(self) -> None:
        """End the open block, if any."""
        block, self._block = self._block, None
        if block is None or block.kind == "skipped":
            return
        rest = block.rest
        for name, pieces in block.pieces.items():
            rest[name] = _raw("".join(pieces))
        if block.sources:
            rest["citations"] = _raw(block.sources)
        if block.kind == "server_result":
            self._writer.attach(output=msgspec.json.encode(block.results).decode())
        if block.kind == "tool_call":
            self._check_arguments(block)
        if rest or block.kind == "reasoning":
            self._writer.attach(opaque=self._exchange.opaque(msgspec.json.encode(rest)))
        self._writer.close()

    def _check_arguments(self, block: _Block) -> None:
        arguments = "".join(block.arguments)
        if arguments and not is_object(arguments):
            message = f"The arguments of tool call {block.id} are not a JSON object; they are passed on as they came."
            self._warnings.append(Warning(code="invalid_tool_arguments", message=message))

    # --- the end ------------------------------------------------------------------------------------------------------

    def finish(self, reason: str | None, extra: msgspec.Raw) -> None:
        """messageStop: no more blocks, and why."""
        self.close()
        self._finish = reason or self._finish
        self._note("additionalModelResponseFields", extra)

    @property
    def stopped(self) -> bool:
        """Whether the provider has said why it stopped."""
        return self._finish is not None

    def count(self, data: msgspec.Raw) -> None:
        """Token counts, as they come at the end."""
        if not given(data):
            return
        found = try_decode(USAGE, data)
        if found is None:
            message = "What the server sent as usage could not be read."
            self._warnings.append(Warning(code="usage_unreadable", message=message))
            return
        self.usage = map_usage(found)
        self._note("usage", data)

    def note(self, end: ConverseResponse) -> None:
        """What stands beside the message: how long it took, what a guardrail or a prompt router did."""
        self._note("metrics", end.metrics)
        self._note("trace", end.trace)
        self._note("performanceConfig", end.performance_config)
        self._note("serviceTier", end.service_tier)
        trace = try_decode(TRACE, end.trace) if given(end.trace) else None
        if trace is not None and trace.prompt_router is not None:
            self._model = trace.prompt_router.invoked_model_id or ""

    def _note(self, name: str, data: msgspec.Raw) -> None:
        if given(data):
            self._extra[name] = data

    def complete(self) -> None:
        """All is here. Raises StreamTruncated if the provider never said why it stopped."""
        if self._finish is None:
            raise StreamTruncated("The answer ended without the provider having said why it stopped.")
        self.close()
        self._begin()
        self._emit(
            events.Completed(
                finish_reason=map_finish_reason(self._finish, has_tool_calls=self._has_tool_calls),
                raw_finish_reason=self._finish,
                usage=self.usage,
                model=self._model,
                warnings=tuple(self._warnings),
                provider_metadata=self._exchange.provider_metadata(self._extra),
            )
        )

    def _begin(self) -> None:
        """Started goes out with the first block: an error before it is then one of the call, not of the stream."""
        if not self._begun:
            self._begun = True
            self._emit(self._exchange.started(id=None, model=None))


def _text_of(data: msgspec.Raw | None) -> str:
    """A member that should be a string; "" for any other, and for none."""
    return (try_decode(TEXT, data) or "") if data is not None else ""


def _pop(members: Members, name: str) -> str:
    return _text_of(members.pop(name, None))


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
