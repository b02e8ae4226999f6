"""One call, from request to events: the I/O of every adapter, written once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, NoReturn, Self

import msgspec

from server.core.errors import DragomanError, ProviderError, ProviderProtocolError
from server.core.events import Completed, Failed, Started, StreamEvent
from server.core.ports import (
    CallTimeouts,
    EmbedBatch,
    EmbedCall,
    EventStream,
    ListedModel,
    ProviderCall,
    ProviderTarget,
    TokenCount,
)
from server.providers.errors import request_id, scrub
from server.providers.http import HttpResponse, Transport
from server.providers.params import approximated
from server.providers.parsing import merge_deltas
from server.providers.passthrough import foreign_members, refuse_foreign_parts
from server.providers.wire import EmbedAnswer, EmbedExchange, EmbedPiece, Exchange, StreamParser, Wire

WHOLE_ANSWER_PATIENCE: Final = 5.0
"""A whole answer takes longer than the first token of a streamed one: its first byte may take this many times the
first_token timeout (ten minutes by default, as in the official SDKs)."""

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""Largest answer that is read whole: room for images in base64."""

MAX_ERROR_BYTES: Final = 256 * 1024

MAX_PAGES: Final = 50
"""Pages of a list of models, against a provider whose pages never end."""

EMBED_CONCURRENCY: Final = 8
"""Requests of one embedding call that are under way at once."""

_REST_SECONDS: Final = 0.25


class HttpChatProvider:
    """core's Provider, over a transport and a wire.

    Read `chat` to its end, past the terminal event: that is what lets the connection be used again. Closing the stream
    earlier closes the connection at once.
    """

    def __init__(self, transport: Transport, wire: Wire) -> None:
        self._transport = transport
        self._wire = wire

    def chat(self, call: ProviderCall) -> EventStream:
        """As the port says. One batch for each read of the connection, adjacent deltas of a block joined."""
        return _Answer(self._transport, self._wire, call)

    async def embed(self, call: EmbedCall) -> AsyncGenerator[EmbedBatch]:
        """As the port says. Requests go out some at a time; of those beside a failed one, what was answered counts."""
        plan = self._wire.build_embed(call)
        warnings = plan.warnings + foreign_members(call.request, plan.wire)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for at in range(0, len(plan.pieces), EMBED_CONCURRENCY):
            timeouts = _remaining(_patient(call.timeouts), loop.time() - began)
            group = plan.pieces[at : at + EMBED_CONCURRENCY]
            found = await asyncio.gather(*(self._piece(call, p, timeouts) for p in group), return_exceptions=True)
            for batch in found:
                if not isinstance(batch, BaseException):
                    yield msgspec.structs.replace(batch, warnings=(*warnings, *batch.warnings))
                    warnings = ()
            for failure in found:
                if isinstance(failure, BaseException):
                    raise failure

    async def _piece(self, call: EmbedCall, piece: EmbedPiece, timeouts: CallTimeouts) -> EmbedBatch:
        call_id = ""
        try:
            async with self._transport.send(piece.http, timeouts) as response:
                call_id = request_id(response.headers)
                if not _ok(response.status):
                    raise await _refusal(self._wire, call.target, response)
                exchange = EmbedExchange(call, piece, response.headers)
                answer = self._wire.parse_embed(exchange, await response.read(MAX_BODY_BYTES))
                return _batch(exchange, answer, call_id)
        except ProviderError as error:
            scrub(error, call.target, request_id=call_id)
            raise

    async def count_tokens(self, call: ProviderCall) -> TokenCount:
        """As the port says."""
        refuse_foreign_parts(call.request, self._wire.dialect_of(call))
        built = self._wire.build_count(call)
        warnings = built.warnings + foreign_members(call.request, self._wire.dialect_of(call))
        call_id = ""
        try:
            async with self._transport.send(built.http, call.timeouts) as response:
                call_id = request_id(response.headers)
                if not _ok(response.status):
                    raise await _refusal(self._wire, call.target, response)
                found = self._wire.parse_count(await response.read(MAX_BODY_BYTES))
        except ProviderError as error:
            scrub(error, call.target, request_id=call_id)
            raise
        return TokenCount(input_tokens=found, provider=call.target.provider, model=call.model, warnings=warnings)

    async def list_models(self, target: ProviderTarget, timeouts: CallTimeouts) -> Sequence[ListedModel]:
        """As the port says; follows pages to their end."""
        models: list[ListedModel] = []
        page: str | None = None
        try:
            for _ in range(MAX_PAGES):
                request = self._wire.build_list_models(target, page)
                async with self._transport.send(request, timeouts) as response:
                    if not _ok(response.status):
                        raise await _refusal(self._wire, target, response)
                    found = self._wire.parse_models(await response.read(MAX_BODY_BYTES), page)
                models.extend(found.models)
                page = found.next_page
                if page is None:
                    return models
        except ProviderError as error:
            scrub(error, target)
            raise
        raise ProviderProtocolError("The provider's list of models does not end.", provider=target.provider)

    async def validate(self, target: ProviderTarget, timeouts: CallTimeouts) -> None:
        """As the port says."""
        try:
            async with self._transport.send(self._wire.build_validate(target), timeouts) as response:
                if not _ok(response.status):
                    body = await _bounded(response)
                    raise self._wire.map_validation_error(target, response.status, response.headers, body)
                # Any website says 200. One byte is enough: the credential was taken, whatever becomes of the rest.
                if (await _first(response)).lstrip()[:1] not in (b"{", b"["):
                    raise ProviderProtocolError(
                        "The endpoint accepts the request, but what it answers is no JSON: it is no provider's API.",
                        http_status=response.status,
                        retryable=False,
                        action="Check the endpoint of the configuration; most end in /v1.",
                    )
        except ProviderError as error:
            scrub(error, target)
            raise


class _Answer:
    """An EventStream: one call, sent when its first events are asked for, and what comes back as events.

    An object and no generator, and none below it: each event of a stream passes every layer that there is.
    """

    __slots__ = ("_begun", "_call", "_head", "_headers", "_parser", "_response", "_sending", "_spoken", "_started",
                 "_transport", "_wire")  # fmt: skip

    def __init__(self, transport: Transport, wire: Wire, call: ProviderCall) -> None:
        self._transport = transport
        self._wire = wire
        self._call = call
        self._begun = False
        self._sending: AbstractAsyncContextManager[HttpResponse] | None = None
        self._response: HttpResponse | None = None
        """None before the head has come, and again once the response is left."""
        self._headers: Mapping[str, str] = {}
        self._parser: StreamParser | None = None
        """None for an answer that came whole."""
        self._head = b""
        self._spoken = False
        self._started = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[StreamEvent]:
        try:
            events = [] if self._begun else await self._begin()
            parser, response = self._parser, self._response
            while not events:
                if parser is None or response is None or parser.finished:
                    await self._finish()
                try:
                    chunk = self._head or await response.receive()
                    self._head = b""
                    events = parser.feed(chunk) if chunk else await self._broken_off(parser, None)
                except ProviderError as error:
                    events = await self._broken_off(parser, error)
            if response is not None and not self._spoken:
                self._note_content(response, events)
            if type(events[-1]) is Failed:
                self._check_failure(events[0], events[-1])
            self._started = True
            return events if parser is None or len(events) == 1 else merge_deltas(events)
        except DragomanError as error:
            await self.aclose()
            self._scrub(error)
            if not self._started:
                raise
            return [Failed(error)]
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Leave the response, if there is one: its connection is closed unless it was read to its end."""
        self._begun = True
        self._response = None
        sending, self._sending = self._sending, None
        if sending is not None:
            await sending.__aexit__(None, None, None)

    async def _begin(self) -> list[StreamEvent]:
        """Send the call, and give the events of an answer that comes whole; none yet of a stream."""
        self._begun = True
        call, wire = self._call, self._wire
        dialect = wire.dialect_of(call)
        refuse_foreign_parts(call.request, dialect)
        built = wire.build_request(call)
        sending = self._transport.send(built.http, call.timeouts if call.stream else _patient(call.timeouts))
        self._response = response = await sending.__aenter__()
        self._sending, self._headers = sending, response.headers
        if not _ok(response.status):
            raise await _refusal(wire, call.target, response)
        warnings = built.warnings + foreign_members(call.request, dialect)
        exchange = Exchange(call, response.status, self._headers, warnings, dialect)
        if call.stream:
            self._head = await _first(response)
            if not _is_document(self._head):
                self._parser = wire.stream_parser(exchange)
                return []
            body = await _rest(self._head, response)
        else:
            body = await response.read(MAX_BODY_BYTES)
        await self.aclose()
        return wire.parse_response(exchange, body)

    async def _finish(self) -> NoReturn:
        """End the iteration. What is left of the body is read, so that the connection can be used again."""
        if self._response is not None:
            await self._response.discard_rest(_REST_SECONDS)
        raise StopAsyncIteration

    async def _broken_off(self, parser: StreamParser, cut: ProviderError | None) -> list[StreamEvent]:
        """The last events of a body that has ended, or was cut, without the terminal one."""
        await self.aclose()
        return _last_words(parser, cut)

    def _note_content(self, response: HttpResponse, events: Sequence[StreamEvent]) -> None:
        if any(type(event) is not Started for event in events):
            self._spoken = True
            response.mark_first_token()

    def _check_failure(self, first: StreamEvent, last: Failed) -> None:
        """Make the error of a failed answer fit to leave; raise it where it came instead of an answer."""
        if first is last and not self._started:
            raise last.error
        self._scrub(last.error)

    def _scrub(self, error: DragomanError) -> None:
        if isinstance(error, ProviderError):
            scrub(error, self._call.target, request_id=request_id(self._headers))


async def _refusal(wire: Wire, target: ProviderTarget, response: HttpResponse) -> ProviderError:
    return wire.map_error(target, response.status, response.headers, await _bounded(response))


def _ok(status: int) -> bool:
    return 200 <= status < 300


def _patient(timeouts: CallTimeouts) -> CallTimeouts:
    return msgspec.structs.replace(timeouts, first_token=timeouts.first_token * WHOLE_ANSWER_PATIENCE)


def _remaining(timeouts: CallTimeouts, spent: float) -> CallTimeouts:
    """What is left of the caller's deadline for requests that begin `spent` seconds into the call."""
    if timeouts.total is None:
        return timeouts
    return msgspec.structs.replace(timeouts, total=max(timeouts.total - spent, 0.001))


def _batch(exchange: EmbedExchange, answer: EmbedAnswer, call_id: str) -> EmbedBatch:
    """The answer, held against what was asked. Raises ProviderProtocolError where a vector is missing or empty."""
    call, piece = exchange.call, exchange.piece
    if len(answer.vectors) != piece.count or not all(answer.vectors):
        raise ProviderProtocolError(f"The provider sent {len(answer.vectors)} embeddings for {piece.count} inputs.")
    wanted, length = call.request.dimensions, len(answer.vectors[0])
    odd = wanted is not None and length != wanted
    return EmbedBatch(
        start=piece.start,
        vectors=answer.vectors,
        usage=answer.usage,
        model=answer.model or call.model,
        request_id=call_id,
        warnings=(approximated("dimensions", f"the provider gave {length} for {wanted}"),) if odd else (),
    )


async def _bounded(response: HttpResponse) -> bytes:
    """An error's body as far as it can be had: the status alone says enough if it cannot."""
    body = b""
    try:
        while len(body) < MAX_ERROR_BYTES and (chunk := await response.receive()):
            body += chunk
    except ProviderError:
        pass
    return body[:MAX_ERROR_BYTES]


async def _first(response: HttpResponse) -> bytes:
    """Everything up to the first byte that says something: blank lines keep a connection alive."""
    held = b""
    while chunk := await response.receive():
        held += chunk
        if not held.isspace() or len(held) > MAX_ERROR_BYTES:
            break
    return held


def _is_document(head: bytes) -> bool:
    """Whether a body is no stream of any kind: JSON (an error, or an answer from a server that does not stream), or a
    proxy's page. No SSE field begins like that, and no binary frame can."""
    return head.lstrip(b" \t\r\n\xef\xbb\xbf")[:1] in (b"{", b"[", b"<")


async def _rest(held: bytes, response: HttpResponse) -> bytes:
    """A whole body of which the beginning was read as a stream. Raises ProviderProtocolError beyond the limit."""
    pieces, size = [held], len(held)
    while chunk := await response.receive():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise ProviderProtocolError(f"The provider sent an answer of more than {MAX_BODY_BYTES} bytes.")
        pieces.append(chunk)
    return b"".join(pieces)


def _last_words(parser: StreamParser, cut: ProviderError | None) -> list[StreamEvent]:
    """The end of a stream whose body has ended. cut: how the connection broke, None where it ended in order.

    An answer that the provider had already called whole stays whole, however the connection ended after that.
    """
    events = parser.end()
    if cut is None or not events or type(events[-1]) is Completed:
        return merge_deltas(events)
    usage = events[-1].usage if type(events[-1]) is Failed else None
    kept = events[:-1] if usage is not None else events
    return [*merge_deltas(kept), Failed(cut) if usage is None else Failed(cut, usage)]
