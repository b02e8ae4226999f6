"""From chunks to events: the state of one answer, streamed or whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from server.core.errors import ProviderProtocolError, ProviderUnavailable, StreamTruncated
from server.core.events import Completed, StreamEvent, Usage, Warning
from server.providers.blocks import BlockWriter, is_object
from server.providers.gemini.chunks import (
    ABSENT,
    BROKEN,
    FEEDBACK,
    KEYS,
    PART,
    STEP,
    USAGE,
    Candidate,
    Chunk,
    FunctionCall,
    LogprobsResult,
    Part,
    PromptFeedback,
    ServerStep,
    given,
    map_finish_reason,
    map_usage,
)
from server.providers.gemini.errors import map_error
from server.providers.gemini.grounding import Sources
from server.providers.gemini.kept import Kept, Piece
from server.providers.gemini.partial_args import PartialArgs
from server.providers.parsing import decode, try_decode
from server.providers.wire import Clock, Exchange, IdSource

_STEPS: Final = (
    ("executableCode", "executable_code"),
    ("codeExecutionResult", "code_execution_result"),
    ("toolCall", "tool_call"),
    ("toolResponse", "tool_response"),
)
"""Kinds of parts that are steps of a tool at the provider: name on the wire, field of Part."""


class _Pending(msgspec.Struct):
    """A function call that comes in pieces, its block already open."""

    name: str
    given_id: str | None
    id: str
    signature: str | None
    arguments: PartialArgs


class Answer:
    """Turns chunks into events, in order. `complete` once nothing more comes: Gemini has no terminal event, and more
    parts may follow a finish reason.

    Both raise ProviderError for an answer that failed on the way.
    """

    def __init__(
        self, exchange: Exchange, emit: Callable[[StreamEvent], None], *, new_id: IdSource, clock: Clock
    ) -> None:
        self.usage = Usage()
        self._exchange = exchange
        self._emit = emit
        self._new_id = new_id
        self._clock = clock
        self._writer = BlockWriter(emit)
        self._started = False
        self._model = ""
        self._finish = ""
        self._finish_message = ""
        self._feedback = PromptFeedback()
        self._text: list[str] = []
        self._text_bytes = 0
        """Bytes of the text blocks that are closed."""
        self._pieces: list[Piece] = []
        self._logprobs = LogprobsResult([], [])
        self._sources = Sources()
        self._pending: _Pending | None = None
        self._calls = 0
        self._ids: set[str] = set()
        self._parts = 0
        self._extra: dict[str, object] = {}
        self._warnings: dict[str, Warning] = {}

    @property
    def finished(self) -> bool:
        """Whether the provider has said why it stopped, or that it will not begin."""
        return bool(self._finish or self._feedback.block_reason)

    def chunk(self, chunk: Chunk) -> None:
        """One event of a stream, or all of a whole answer."""
        if given(chunk.error):
            error = {"error": msgspec.json.decode(chunk.error)}
            raise map_error(error, None, self._exchange.headers, now=self._clock())
        self._note(chunk)
        if not self._started:
            self._started = True
            self._emit(self._exchange.started(id=chunk.response_id, model=chunk.model_version))
        for candidate in chunk.candidates or ():
            if not candidate.index:
                self._candidate(candidate)

    def complete(self) -> None:
        """The body has ended. Raises StreamTruncated unless the provider had said why it stopped."""
        raw = self._finish or self._feedback.block_reason or ""
        if not raw:
            raise StreamTruncated("The answer ended without the provider having said that it is complete.")
        if raw in BROKEN:
            raise ProviderUnavailable(f"The model failed at its answer ({raw}).", code=raw, type=raw)
        self._end_call()
        self._seal(last=True)
        self._writer.close()
        if logprobs := self._take_logprobs():
            self._extra["logprobsResult"] = msgspec.Raw(logprobs.encode())
        if self._sources:
            self._warn("citations_unplaced", "Sources came after their text; they are in the provider's metadata only")
        finish = "content_filter" if not self._finish else map_finish_reason(raw, has_tool_calls=self._calls > 0)
        if finish == "stop" and not self._parts:
            self._warn("empty_answer", "The model stopped without having said anything")
        self._emit(
            Completed(
                finish_reason=finish,
                raw_finish_reason=raw,
                usage=self._counted(),
                model=self._model,
                warnings=tuple(self._warnings.values()),
                provider_metadata=self._exchange.provider_metadata(self._extra),
                refusal=self._refusal(raw) if finish == "content_filter" else "",
            )
        )

    def _refusal(self, raw: str) -> str:
        """The provider's explanation where it gives one, else its word for it."""
        return self._finish_message or self._feedback.block_reason_message or raw

    def _counted(self) -> Usage:
        """Google leaves zeros out: counts that name nothing, beside a finished answer, are zero."""
        if self.usage == Usage() and "usageMetadata" in self._extra:
            return Usage(0, 0, 0)
        return self.usage

    # --- beside the parts ---------------------------------------------------------------------------------------------

    def _note(self, chunk: Chunk) -> None:
        """What stands beside the candidates. Usage is cumulative: the last one that counts holds."""
        self._model = chunk.model_version or self._model
        if chunk.usage_metadata is not ABSENT:
            counted = try_decode(USAGE, bytes(chunk.usage_metadata))
            if counted is None:
                self._warn("usage_unreadable", "What the provider sent as usage could not be read")
            else:
                self.usage = map_usage(counted) or self.usage
                self._extra["usageMetadata"] = chunk.usage_metadata
        if given(chunk.prompt_feedback):
            self._feedback = try_decode(FEEDBACK, bytes(chunk.prompt_feedback)) or self._feedback
            self._extra["promptFeedback"] = chunk.prompt_feedback

    def _candidate(self, candidate: Candidate) -> None:
        if given(candidate.grounding_metadata):
            self._sources.grounding(candidate.grounding_metadata)
        if given(candidate.citation_metadata):
            self._sources.recitation(candidate.citation_metadata)
        if candidate.logprobs_result is not None:
            self._note_logprobs(candidate.logprobs_result)
        for raw in (candidate.content.parts if candidate.content is not None else None) or ():
            self._part(decode(PART, bytes(raw), "a part of an answer"), raw)
        if candidate.finish_reason:
            self._finish = candidate.finish_reason
        if candidate.finish_message:
            self._finish_message = candidate.finish_message
            self._extra["finishMessage"] = candidate.finish_message
        for name, value in (
            ("safetyRatings", candidate.safety_ratings),
            ("groundingMetadata", candidate.grounding_metadata),
            ("citationMetadata", candidate.citation_metadata),
            ("urlContextMetadata", candidate.url_context_metadata),
            ("avgLogprobs", candidate.avg_logprobs),
        ):
            if given(value):
                self._extra[name] = value

    def _note_logprobs(self, found: LogprobsResult) -> None:
        for gathered, more in (
            (self._logprobs.chosen_candidates, found.chosen_candidates),
            (self._logprobs.top_candidates, found.top_candidates),
        ):
            if gathered is not None:
                gathered.extend(more or ())

    # --- parts --------------------------------------------------------------------------------------------------------

    def _part(self, part: Part, raw: msgspec.Raw) -> None:
        if part.function_call is not None:
            self._function(part.function_call, part.thought_signature)
            return
        for type, name in _STEPS:
            if (step := getattr(part, name)) is not ABSENT:
                self._step(type, decode(STEP, bytes(step), "a tool's step"), raw)
                return
        if part.text or part.thought_signature:
            self._written(part)
        elif part.text is None:
            for kind in KEYS.decode(raw).keys() - {"text", "thought", "thoughtSignature"}:
                self._warn("content_dropped", f"A part of kind {kind[:40]} has no place in the neutral answer")

    def _written(self, part: Part) -> None:
        """Text, thoughts, or a signature by itself: into the open block if that is of the kind, else into a new one. A
        signature without text that no open block can hold makes an empty reasoning block, so that it goes back."""
        self._end_call()
        kind: Literal["text", "reasoning"] = "reasoning" if part.thought else "text"
        text = part.text or ""
        if not text and self._writer.kind != kind:
            kind = "reasoning"
        if self._writer.kind != kind:
            self._open(kind)
        self._writer.delta(text)
        if kind == "text":
            self._text.append(text)
        thought = bool(part.thought)
        last = self._pieces[-1] if self._pieces else None
        if last is not None and not last.signature and not part.thought_signature and last.thought == thought:
            self._pieces[-1] = Piece(last.chars + len(text), None, thought)
        else:
            self._pieces.append(Piece(len(text), part.thought_signature or None, thought))

    def _step(self, type: str, step: ServerStep, raw: msgspec.Raw) -> None:
        """One step of a tool at the provider, whole; the part goes back as it came."""
        self._end_call()
        code = type in ("executableCode", "codeExecutionResult")
        self._open("server_tool", id=step.id or "", name="code_execution" if code else step.tool_type or "", type=type)
        if type == "executableCode":
            self._writer.delta(_json(language=step.language, code=step.code))
        elif type == "toolCall" and given(step.args):
            self._writer.delta(_compact(step.args))
        output = ""
        if type == "codeExecutionResult":
            output = _json(outcome=step.outcome, output=step.output)
        elif type == "toolResponse" and given(step.response):
            output = _compact(step.response)
        self._writer.attach(output=output, opaque=self._exchange.opaque(bytes(raw)))
        self._writer.close()

    # --- function calls -----------------------------------------------------------------------------------------------

    def _function(self, call: FunctionCall, signature: str | None) -> None:
        pending = self._pending
        if pending is not None and _continues(pending, call):
            pending.signature = signature or pending.signature
        else:
            self._end_call()
            if not call.name:
                raise ProviderProtocolError("The provider sent a tool call without a name.")
            pending = self._begin_call(call, call.name, signature)
        for piece in call.partial_args or ():
            pending.arguments.add(piece)
        if given(call.args):
            self._writer.delta(_compact(call.args))
            if not is_object(bytes(call.args).decode("utf-8", "replace")):
                self._invalid(pending.id)
        if not call.will_continue:
            self._end_call(whole=True)

    def _begin_call(self, call: FunctionCall, name: str, signature: str | None) -> _Pending:
        """Open its block: the provider's id if it can serve, else one of ours."""
        given_id = call.id or None
        id = given_id if given_id is not None and given_id not in self._ids else self._new_id()
        self._ids.add(id)
        self._calls += 1
        self._open("tool_call", id=id, name=name)
        self._pending = _Pending(name, given_id, id, signature, PartialArgs())
        return self._pending

    def _end_call(self, *, whole: bool = False) -> None:
        """Close the open call. whole: the provider said that it is."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        text = pending.arguments.text()
        if text != "{}":
            self._writer.delta(text)
        if not pending.arguments.complete or (not whole and self._finish != "STOP"):
            self._invalid(pending.id)
        if pending.signature or pending.given_id:
            kept = Kept(signature=pending.signature, id=pending.given_id)
            self._writer.attach(opaque=self._exchange.opaque(kept.encoded()))
        self._writer.close()

    def _invalid(self, id: str) -> None:
        self._warn("invalid_tool_arguments", f"The arguments of tool call {id} are not whole; they stand as they came")

    # --- blocks -------------------------------------------------------------------------------------------------------

    def _open(self, kind: Literal["text", "reasoning", "tool_call", "server_tool"], **names: str) -> None:
        self._seal()
        self._parts += 1
        self._writer.open(kind, **names)

    def _seal(self, *, last: bool = False) -> None:
        """Give the open block what belongs to its end, before another one takes its place."""
        if self._writer.kind == "text":
            text, before = "".join(self._text), self._text_bytes
            self._text, self._text_bytes = [], before + len(text.encode())
            self._writer.attach(citations=self._sources.take(text, before, last=last), logprobs=self._take_logprobs())
            keep = any(piece.signature for piece in self._pieces)
        else:
            keep = self._writer.kind == "reasoning"
        if keep:
            kept = Kept(pieces=tuple(self._pieces))
            self._writer.attach(opaque=self._exchange.opaque(kept.encoded()))
        self._pieces = []

    def _take_logprobs(self) -> str:
        found, self._logprobs = self._logprobs, LogprobsResult([], [])
        named = {"chosenCandidates": found.chosen_candidates, "topCandidates": found.top_candidates}
        filled = {name: rows for name, rows in named.items() if rows}
        return msgspec.json.encode(filled).decode() if filled else ""

    def _warn(self, code: str, message: str) -> None:
        self._warnings.setdefault(message, Warning(code=code, message=f"{message}."))


def _continues(pending: _Pending, call: FunctionCall) -> bool:
    """Whether a piece belongs to the call that is open: it is unnamed, or repeats the name and starts nothing new."""
    if not call.name:
        return True
    same = call.name == pending.name and call.id in (None, "", pending.given_id)
    return same and not given(call.args)


def _json(**fields: str | None) -> str:
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None}).decode()


def _compact(raw: msgspec.Raw) -> str:
    """The same JSON without the line breaks that Google puts into whole answers."""
    return msgspec.json.format(bytes(raw), indent=-1).decode()
