"""What comes back, as events: the content blocks of a message, of a stream's pieces or of one whole body.

A part carries what it says in neutral fields; the rest of its block (signature, encrypted indices, caller, ids) travels
as opaque JSON beside it, without what the fields say already, and `history.py` puts the two together again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from server.core import events
from server.core.errors import ProviderProtocolError, StreamTruncated
from server.core.events import BlockKind, StreamEvent, Warning
from server.core.messages import Citation
from server.core.native import keep
from server.providers.anthropic.types import (
    ABSENT,
    CITATION,
    CITATIONS,
    DELTA,
    MEMBERS,
    OBJECT,
    STOP_DETAILS,
    TEXT,
    Members,
    Usage,
    WireMessage,
    given,
)
from server.providers.blocks import BlockWriter, is_object
from server.providers.parsing import decode, tokens, try_decode
from server.providers.wire import Exchange, IdSource

_KINDS: Final[dict[str, BlockKind]] = {
    "text": "text",
    "thinking": "reasoning",
    "redacted_thinking": "reasoning",
    "tool_use": "tool_call",
}
"""Every other block is a step of something that Anthropic ran itself (tools, MCP, compaction)."""

_SAID: Final[dict[BlockKind, tuple[str, ...]]] = {
    "text": ("text",),
    "reasoning": ("thinking",),
    "tool_call": ("id", "name", "input"),
    "server_tool": ("input", "content"),
}
"""Members of a block that the part says in fields of its own."""

_FINISH: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}

_DIRECT: Final = {"type": "direct"}
"""The caller of a tool that the model itself called: what a block without a caller means."""


def map_finish_reason(raw: str, *, has_tool_calls: bool) -> str:
    """The neutral word; the raw one where there is no equal (pause_turn, compaction). Between `stop` and `tool_calls`
    decides what is in the answer."""
    neutral = _FINISH.get(raw, raw)
    if neutral in ("stop", "tool_calls"):
        return "tool_calls" if has_tool_calls else "stop"
    return neutral


def map_usage(usage: Usage) -> events.Usage:
    """Neutral counts: the prompt with what was read from the cache and written to it; the total is their sum, as the
    API gives none. `iterations` (compaction) are not in these counts, and stay in provider_metadata."""
    written, read = tokens(usage.cache_creation_input_tokens), tokens(usage.cache_read_input_tokens)
    fresh, completion = tokens(usage.input_tokens), tokens(usage.output_tokens)
    known = [count for count in (fresh, read, written) if count is not None]
    prompt = sum(known) if known else None
    details = usage.output_tokens_details
    return events.Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion if prompt is not None and completion is not None else None,
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=tokens(details.thinking_tokens) if details is not None else None,
    )


class _Block:
    """The open block. rest: members that no field of the part says; pieces: those that arrive in several deltas."""

    __slots__ = ("arguments", "citations", "id", "index", "initial", "kind", "pieces", "rest", "type")

    def __init__(self, index: int | None, kind: BlockKind, type: str, members: Members) -> None:
        self.index = index
        self.kind = kind
        self.type = type
        self.id = ""
        self.rest = members
        self.initial = ""
        self.arguments: list[str] = []
        self.pieces: dict[str, list[str]] = {}
        self.citations: list[msgspec.Raw] = []

    def extend(self, name: str, text: str) -> None:
        """More of a member that is a string."""
        if name not in self.pieces:
            self.pieces[name] = [_text(self.rest.get(name, ABSENT))]
        self.pieces[name].append(text)

    def settle(self) -> None:
        """All deltas are here: the members that came in pieces become whole."""
        for name, pieces in self.pieces.items():
            self.rest[name] = _raw("".join(pieces))
        if self.citations:
            self.rest["citations"] = _raw(self.citations)


class Answer:
    """Turns the pieces of a message into events, in order. Every method may raise ProviderError for what cannot be."""

    def __init__(self, exchange: Exchange, emit: Callable[[StreamEvent], None], *, new_id: IdSource) -> None:
        self.usage = events.Usage()
        self._exchange = exchange
        self._emit = emit
        self._new_id = new_id
        self._writer = BlockWriter(emit)
        self._begun = False
        self._id: str | None = None
        self._model: str | None = None
        self._block: _Block | None = None
        self._last_index = -1
        self._has_tool_calls = False
        self._finish: str | None = None
        self._counted: dict[str, Any] = {}
        self._extra: dict[str, object] = {}
        self._warnings: list[Warning] = []
        self._natives: list[events.Native] = []

    def keep(self, places: dict[str, Any]) -> None:
        """What no event says, for a caller who speaks this wire (`server.core.native`); told once the answer has
        begun."""
        if members := keep(places):
            self._natives.append(events.Native(members))
        if self._begun:
            self._tell_natives()

    def _tell_natives(self) -> None:
        for native in self._natives:
            self._emit(native)
        self._natives.clear()

    def start(self, message: WireMessage) -> None:
        """The head of the message. It counts again as long as no block was opened (a proxy tried once more); after
        that another message would be spliced onto the parts of the first, which cannot be unsaid."""
        if self._begun:
            if message.id is not None and message.id == self._id:
                return
            raise ProviderProtocolError("The provider began another answer in the middle of this one.")
        self._id, self._model = message.id, message.model
        self._counted = {}
        self.count(message.usage)

    def open(self, index: int | None, members: Members) -> None:
        """A content block, as far as it is known; a whole one needs nothing but `close`."""
        self.close()
        self._begin()
        if index is not None:
            if index <= self._last_index:
                raise ProviderProtocolError("The provider began the blocks of its answer again.")
            self._last_index = index
        type = _text(members.get("type", ABSENT))
        if not type:
            raise ProviderProtocolError("The provider sent a content block without a type.")
        kind = _KINDS.get(type, "server_tool")
        block = _Block(index, kind, type, members)
        self._block = block
        if kind in ("tool_call", "server_tool"):
            self._open_tool(block)
            return
        self._writer.open(kind)
        for name in _SAID[kind]:
            self._writer.delta(_text(members.pop(name, ABSENT)))
        for citation in try_decode(CITATIONS, members.pop("citations", ABSENT)) or ():
            self._cite(block, citation)

    def _open_tool(self, block: _Block) -> None:
        members = block.rest
        block.id = _text(members.get("id", ABSENT)) or _text(members.get("tool_use_id", ABSENT))
        name = _text(members.get("name", ABSENT))
        if block.kind == "tool_call":
            if not name:
                raise ProviderProtocolError("The provider sent a tool call without a name.")
            self._has_tool_calls = True
            block.id = block.id or self._new_id()
            self._writer.open("tool_call", id=block.id, name=name)
        else:
            self._writer.open("server_tool", id=block.id, name=name, type=block.type)
        if given(initial := members.pop("input", ABSENT)):
            # A stream announces {} and sends the input in pieces; a whole block has all of it here.
            block.initial = bytes(initial).decode("utf-8", "replace")

    def delta(self, index: int | None, data: msgspec.Raw) -> None:
        """More of the open block."""
        block = self._block
        if block is None or (index is not None and block.index is not None and index != block.index):
            raise ProviderProtocolError("The provider sent a piece of a content block that is not open.")
        delta = decode(DELTA, data, "a content delta")
        match delta.type, block.kind:
            case ("text_delta", "text"):
                self._writer.delta(delta.text or "")
            case ("thinking_delta", "reasoning"):
                self._writer.delta(delta.thinking or "")
            case ("input_json_delta", ("tool_call" | "server_tool")):
                block.arguments.append(delta.partial_json or "")
                self._writer.delta(delta.partial_json or "")
            case ("citations_delta", "text"):
                if given(delta.citation):
                    self._cite(block, delta.citation)
            case (("text_delta" | "thinking_delta" | "input_json_delta" | "citations_delta"), _):
                raise ProviderProtocolError("The provider sent a piece that does not fit its content block.")
            case _:
                self._merge(block, data)

    @staticmethod
    def _merge(block: _Block, data: msgspec.Raw) -> None:
        """A delta of another kind (signature, compaction, what is yet to come): strings add up, the rest replaces."""
        for name, value in decode(MEMBERS, data, "a content delta").items():
            if name == "type" or not given(value):
                continue
            text = try_decode(TEXT, value)
            if text is None:
                block.rest[name] = value
            else:
                block.extend(name, text)

    def _cite(self, block: _Block, data: msgspec.Raw) -> None:
        """A source. Its offsets are places in the source, not in the text, so they stay in the opaque data alone."""
        block.citations.append(data)
        found = try_decode(CITATION, data)
        if found is not None:
            url, title = found.url or found.source, found.title or found.document_title
            self._writer.attach(citations=(Citation(url, title, found.cited_text),))

    def stop(self, index: int | None) -> None:
        """The end of a block; nothing if that one is not open."""
        if self._block is not None and (index is None or self._block.index in (None, index)):
            self.close()

    def close(self) -> None:
        """End the open block, if any."""
        block, self._block = self._block, None
        if block is None:
            return
        block.settle()
        if block.kind in ("tool_call", "server_tool"):
            self._close_tool(block)
        needs_it = block.kind in ("reasoning", "server_tool")
        if needs_it or block.rest.keys() - {"type"}:
            self._writer.attach(opaque=self._exchange.opaque(msgspec.json.encode(block.rest)))
        self._writer.close()

    def _close_tool(self, block: _Block) -> None:
        arguments = "".join(block.arguments)
        if not arguments and block.initial:
            arguments = block.initial
            self._writer.delta(arguments)
        if block.kind == "server_tool":
            if given(block.rest.get("content", ABSENT)):
                self._writer.attach(output=bytes(block.rest.pop("content")).decode("utf-8", "replace"))
            return
        for name in ("id", "name"):
            block.rest.pop(name, None)
        if try_decode(OBJECT, block.rest.get("caller", ABSENT)) == _DIRECT:
            del block.rest["caller"]
        if arguments and not is_object(arguments):
            self._warnings.append(
                Warning(
                    code="invalid_tool_arguments",
                    message=f"The arguments of tool call {block.id} are not a JSON object; they are passed on as they "
                    "came.",
                )
            )

    def count(self, data: msgspec.Raw) -> None:
        """Token counts, cumulative: what is given replaces what was, what is missing or null leaves it."""
        found = try_decode(OBJECT, data) if given(data) else None
        if not found:
            return
        self._counted |= {name: value for name, value in found.items() if value is not None}
        try:
            self.usage = map_usage(msgspec.convert(self._counted, Usage))
        except msgspec.ValidationError:
            self._warnings.append(
                Warning(code="usage_unreadable", message="What the server sent as usage could not be read.")
            )

    def note(self, *, stop_reason: str | None = None, stop_sequence: str | None = None, **extra: msgspec.Raw) -> None:
        """What stands at the end of the message. extra: for provider_metadata."""
        self._finish = stop_reason or self._finish
        self._extra |= {name: value for name, value in extra.items() if given(value)}
        if stop_sequence is not None:
            self._extra["stop_sequence"] = stop_sequence

    def complete(self) -> None:
        """The provider has said that nothing more comes. Raises StreamTruncated if it never said why it stopped."""
        if self._finish is None:
            raise StreamTruncated("The answer ended without the provider having said why it stopped.")
        self.close()
        self._begin()
        if self._counted:
            self._extra["usage"] = self._counted
        self._emit(
            events.Completed(
                finish_reason=map_finish_reason(self._finish, has_tool_calls=self._has_tool_calls),
                raw_finish_reason=self._finish,
                usage=self.usage,
                model=self._model or "",
                warnings=tuple(self._warnings),
                provider_metadata=self._exchange.provider_metadata(self._extra),
                refusal=self._refusal(),
            )
        )

    def _refusal(self) -> str:
        details = self._extra.get("stop_details")
        if self._finish != "refusal" or not isinstance(details, msgspec.Raw):
            return ""
        found = try_decode(STOP_DETAILS, details)
        return (found.explanation or found.category or "") if found is not None else ""

    def _begin(self) -> None:
        """Started goes out with the first block, so that nothing is said of a message that is begun again."""
        if not self._begun:
            self._begun = True
            self._emit(self._exchange.started(id=self._id, model=self._model))
            self._tell_natives()


def _text(data: msgspec.Raw) -> str:
    """A member that should be a string; "" for any other, and for none."""
    return try_decode(TEXT, data) or ""


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
