"""One connection to a provider: HTTP/1.1 as llhttp reads it (httptools), one request after another.

Each event of a stream passes here, so what lies between the socket and the reader is counted in calls of Python: one
for a read of the socket (`data_received`), two for the reader who waits for it (`receive`), none for a piece of the
body, which the parser appends to a list by itself. Why it is ours: docs/decisions/provider-transport.md.
"""

from __future__ import annotations

import asyncio
import re
import select
from collections.abc import Callable
from functools import partial
from typing import Final, cast

import httptools

from server.core.errors import DragomanError, ProviderError
from server.providers.transport.failures import cut, no_answer, not_http
from server.providers.transport.watchdog import Watchdog

STREAMED_BODY_BYTES: Final = 512 * 1024
"""A larger body is written in pieces, as fast as the provider takes it, and never copied as a whole."""

MOST_UNREAD_BYTES: Final = 256 * 1024
"""While more than this waits for its reader, the socket is not read."""

MOST_HEAD_BYTES: Final = 64 * 1024
"""Of a head, and of whatever else comes in a row without a byte of body: interim answers, trailers, extensions."""

MOST_FIELD_BYTES: Final = 32 * 1024
MOST_FIELDS: Final = 128

CROSSING_SECONDS: Final = 1.0
"""An idle connection's end that crosses a request is here within a round trip. What a model has worked on takes longer
to fail."""

_PIECE_BYTES: Final = 64 * 1024
_KEEP_ALIVE: Final = re.compile(r"timeout\s*=\s*(\d{1,9})", re.ASCII | re.IGNORECASE)


class Connection(asyncio.Protocol):
    """`send`, `answer`, then `receive` until it is empty; `finish` when the call is over, and the next may begin.

    opened: holds the connection from its beginning to its end. status: 0 until the head is here. headers: by lower-case
    name, the values of a repeated one joined by `, `. ended: whether the answer has come to its end (not: been read).
    kept_until: loop time until which it may wait for its next request; None while it has its first. closed: done when
    its socket is closed.
    """

    __slots__ = (
        "_broken",
        "_dull_bytes",
        "_failure",
        "_fields",
        "_head_bytes",
        "_heard",
        "_keep",
        "_loop",
        "_opened",
        "_parser",
        "_pieces",
        "_readable",
        "_reading_paused",
        "_sent_at",
        "_transport",
        "_unread",
        "_upload",
        "_waiter",
        "_watchdog",
        "_writable",
        "closed",
        "ended",
        "headers",
        "kept_until",
        "on_body",
        "status",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, opened: set[Connection]) -> None:
        self._loop = loop
        self._opened = opened
        self._pieces: list[bytes] = []
        self._watchdog: Watchdog | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._failure: DragomanError | None = None
        self._broken: ProviderError | None = None
        self._reading_paused = False
        self._upload: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._sent_at = 0.0
        self.kept_until: float | None = None
        self.closed: asyncio.Future[None] = loop.create_future()
        self._begin()
        # What the parser calls for a piece of the body: no function of ours in between.
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)
        # What browsers and curl take as well: bare line feeds, spaces after a chunk's size, odd bytes in a value.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    def _begin(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ended = False
        self._keep = False
        self._heard = False
        self._unread = self._dull_bytes = self._head_bytes = self._fields = 0

    # --- for a call ---------------------------------------------------------------------------------------------------

    def send(self, head: bytes, body: bytes, watchdog: Watchdog) -> None:
        """Write a request. Does not wait: a large body goes on while the answer is read."""
        self._watchdog = watchdog
        self._sent_at = self._loop.time()
        if self._transport.is_closing():
            return
        if len(body) <= STREAMED_BODY_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._upload = self._loop.create_task(self._write_in_pieces(body))

    async def answer(self) -> bool:
        """Wait for the head of the answer, past interim ones (1xx). False: the connection was a kept one, and its end
        has crossed the request, which may be sent once more.

        Raises ProviderUnavailable, ProviderProtocolError, and what `fail` was given.
        """
        watchdog = self._watchdog
        if watchdog is None:
            raise RuntimeError("nothing was sent")
        while self._failure is None:
            if self.status:
                return True
            if self._broken is not None:
                if self._crossed():
                    return False
                raise self._broken
            watchdog.reading()
            self._waiter = waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                watchdog.since = None
        raise self._failure

    async def receive(self) -> bytes:
        """The next bytes of the body as they came, b"" at its end.

        Raises StreamTruncated, ProviderProtocolError, and what `fail` was given.
        """
        pieces, watchdog = self._pieces, self._watchdog
        if watchdog is None:
            raise RuntimeError("nothing was sent")
        while self._failure is None:
            if pieces:
                chunk = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                pieces.clear()
                self._unread = 0
                if self._reading_paused:
                    self._resume_reading()
                return chunk
            if self.ended:
                return b""
            if self._broken is not None:
                raise self._broken
            # As in `answer`: a function for it would be entered twice for each event of a stream.
            watchdog.reading()
            self._waiter = waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                watchdog.since = None
        raise self._failure

    def fail(self, error: DragomanError) -> None:
        """End the wait for the head or the read that waits, and every later one, with this error; close the socket."""
        self._failure = error
        self._wake()
        self.abort()

    def finish(self, keepalive: float) -> bool:
        """The call is over. Whether the connection can have another: then it may be kept for so many seconds, or for
        one less than the provider says, whose clock started earlier."""
        uploading = self._writable is not None or (self._upload is not None and not self._upload.done())
        # What the provider has not taken of the request would stand before the next one.
        if not self.ended or not self._keep or uploading or self._failure is not None or self._transport.is_closing():
            self._watchdog = None
            return False
        if (promise := self.headers.get("keep-alive")) is not None and (named := _KEEP_ALIVE.search(promise)):
            keepalive = min(keepalive, int(named[1]) - 1)
        self.kept_until = self._loop.time() + keepalive
        self._watchdog = self._upload = None
        self._pieces.clear()
        if self._reading_paused:
            self._resume_reading()
        self._begin()
        return keepalive > 0

    def usable(self, now: float) -> bool:
        """Whether the provider has neither said nor ended anything since it was kept, nor is about to by its own word.

        What it says into the silence (408, a close_notify) answers no request of ours. The event loop may not have
        read it yet, so the socket is asked. A TLS session ticket that comes this late costs the connection too, which
        is a handshake and no harm.
        """
        if self._transport.is_closing() or self.kept_until is None or now > self.kept_until:
            return False
        return not self._readable()

    def abort(self) -> None:
        """Close the socket now. `close` would be graceful: TLS waits for the peer's close_notify, plain TCP for unsent
        bytes."""
        if self._upload is not None:
            self._upload.cancel()
        self._transport.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _crossed(self) -> bool:
        kept = self.kept_until is not None
        return kept and not self._heard and self._loop.time() - self._sent_at <= CROSSING_SECONDS

    def _resume_reading(self) -> None:
        self._reading_paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    async def _write_in_pieces(self, body: bytes) -> None:
        view = memoryview(body)
        for at in range(0, len(view), _PIECE_BYTES):
            if self._transport.is_closing():
                # Whoever reads the answer is told that the connection has ended.
                return
            self._transport.write(view[at : at + _PIECE_BYTES])
            if self._writable is not None:
                await self._writable

    # --- for the event loop -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._readable = _look(transport.get_extra_info("socket").fileno())
        self._opened.add(self)

    def data_received(self, data: bytes) -> None:
        if self._watchdog is None:
            self.abort()
            return
        self._heard = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._spoiled()
        if self._pieces:
            self._dull_bytes = 0
            self._unread += len(data)
            if self._unread > MOST_UNREAD_BYTES and not self._reading_paused and not self._transport.is_closing():
                self._reading_paused = True
                self._transport.pause_reading()
        else:
            self._dull_bytes += len(data)
            if self._dull_bytes > MOST_HEAD_BYTES:
                self._spoiled()
        # As `_wake`, without its frame.
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._opened.discard(self)
        if exc is None and self.status and not self.ended and self._broken is None and _until_close(self.headers):
            self.ended = True
        elif self._broken is None:
            self._broken = cut() if self.status else no_answer()
        self._wake()
        self.resume_writing()
        # The parser holds our methods: without it nothing is left for the garbage collector.
        del self._parser
        self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # --- for the parser -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.ended:
            raise ValueError("an answer that nobody asked for")
        self.headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status:
            return  # a trailer
        size = len(name) + len(value)
        self._head_bytes += size
        self._fields += 1
        if size > MOST_FIELD_BYTES or self._head_bytes > MOST_HEAD_BYTES or self._fields > MOST_FIELDS:
            raise ValueError("too much of a head")
        if b"\0" in value:
            raise ValueError("a null in a header")
        key = name.lower().decode("utf-8", "surrogateescape")
        text = value.rstrip(b" \t").decode("utf-8", "surrogateescape")
        before = self.headers.get(key)
        self.headers[key] = text if before is None else f"{before}, {text}"

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 or status == 101:
            self.status = status

    def on_message_complete(self) -> None:
        if self.status:
            self.ended = True
            self._keep = self._parser.should_keep_alive()

    def _spoiled(self) -> None:
        """What has come is no HTTP, or too much of it: no more is read. An answer that was whole before stays so."""
        if not self.ended and self._broken is None:
            self._broken = not_http()
        self.abort()


def _until_close(headers: dict[str, str]) -> bool:
    """Whether an answer with such a head ends with its connection (RFC 9112, 6.3)."""
    codings = headers.get("transfer-encoding")
    if codings is not None:
        return not codings.lower().endswith("chunked")
    return "content-length" not in headers


def _look(fd: int) -> Callable[[], object]:
    """What says whether a read of it would return at once: with bytes, with the end, or with an error."""
    if not hasattr(select, "poll"):
        return lambda: select.select([fd], [], [], 0)[0]
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return partial(poll.poll, 0)
