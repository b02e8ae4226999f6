"""One call, from request to events: the I/O of every adapter, written once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import msgspec

from server.core.errors import DragomanError, ProviderError, ProviderProtocolError
from server.core.events import Completed, Failed, Started, StreamEvent
from server.core.ports import CallTimeouts, EmbedBatch, EmbedCall, ListedModel, ProviderCall, ProviderTarget, TokenCount
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

    Iterate `chat` to its end, past the terminal event: that is what lets the connection be used again. Closing the
    iterator earlier closes the connection at once.
    """

    def __init__(self, transport: Transport, wire: Wire) -> None:
        self._transport = transport
        self._wire = wire

    async def chat(self, call: ProviderCall) -> AsyncGenerator[Sequence[StreamEvent]]:
        """As the port says. One batch for each read of the connection, adjacent deltas of a block joined."""
        refuse_foreign_parts(call.request, self._wire.dialect_of(call))
        built = self._wire.build_request(call)
        timeouts = call.timeouts if call.stream else _patient(call.timeouts)
        started = False
        call_id = ""
        try:
            async with self._transport.send(built.http, timeouts) as response:
                call_id = request_id(response.headers)
                if not _ok(response.status):
                    raise await self._refusal(call.target, response)
                dialect = self._wire.dialect_of(call)
                warnings = built.warnings + foreign_members(call.request, dialect)
                exchange = Exchange(call, response.status, response.headers, warnings, dialect)
                if not call.stream:
                    yield _scrubbed(self._wire.parse_response(exchange, await response.read(MAX_BODY_BYTES)), exchange)
                    return
                head = await _first(response)
                if _is_document(head):
                    yield _scrubbed(self._wire.parse_response(exchange, await _rest(head, response)), exchange)
                    return
                stream = _Stream(self._wire.stream_parser(exchange), response, head)
                while batch := await stream.next():
                    if not started and type(batch[0]) is Failed:
                        raise batch[0].error
                    started = True
                    yield _scrubbed(batch, exchange)
        except DragomanError as error:
            if isinstance(error, ProviderError):
                scrub(error, call.target, request_id=call_id)
            if not started:
                raise
            yield [Failed(error)]

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
                    raise await self._refusal(call.target, response)
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
                    raise await self._refusal(call.target, response)
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
                        raise await self._refusal(target, response)
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

    async def _refusal(self, target: ProviderTarget, response: HttpResponse) -> ProviderError:
        body = await _bounded(response)
        return self._wire.map_error(target, response.status, response.headers, body)


class _Stream:
    """The body of a streamed answer as batches of events: one for each read that completes any.

    Not a generator, and no generator below it: each event of a stream passes every layer that there is.
    """

    __slots__ = ("_chunk", "_has_content", "_over", "_parser", "_response")

    def __init__(self, parser: StreamParser, response: HttpResponse, head: bytes) -> None:
        self._parser = parser
        self._response = response
        self._chunk = head
        self._has_content = False
        self._over = False

    async def next(self) -> Sequence[StreamEvent]:
        """The next batch; none after the last, and the connection has then been read to its end."""
        parser, response = self._parser, self._response
        while not self._over:
            if parser.finished:
                self._over = True
                await response.discard_rest(_REST_SECONDS)
                break
            try:
                chunk = self._chunk or await response.receive()
                self._chunk = b""
                if not chunk:
                    return self._end(None)
                events = parser.feed(chunk)
            except ProviderError as error:
                return self._end(error)
            if events:
                if not self._has_content and any(type(event) is not Started for event in events):
                    self._has_content = True
                    response.mark_first_token()
                return merge_deltas(events)
        return ()

    def _end(self, cut: ProviderError | None) -> list[StreamEvent]:
        self._over = True
        return _last_words(self._parser, cut)


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


def _scrubbed(events: Sequence[StreamEvent], exchange: Exchange) -> Sequence[StreamEvent]:
    """The same events; the error of a Failed is made fit to leave."""
    if events:
        last = events[-1]
        if type(last) is Failed and isinstance(last.error, ProviderError):
            scrub(last.error, exchange.call.target, request_id=request_id(exchange.headers))
    return events
