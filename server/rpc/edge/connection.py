"""One connection of the proxy's: requests by HTTP/1.1 as they come in, and the bytes of their answers out.

httptools parses; what is here is order and bounds: one call at a time, in the order of the requests, none of them
larger than it may be, and a call whose caller has gone is cancelled. Why not a whole HTTP server:
docs/decisions/edge-hop.md.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

import httptools
import msgspec

HEAD_BYTES: Final = 128 * 1024
"""Of a request's line and headers: twice what the proxy lets pass."""


class Request(msgspec.Struct):
    """headers: names in lower case, in their order. body: None where it was too large, and is not kept. keep: whether
    the connection serves another request afterwards."""

    method: bytes
    path: bytes
    headers: list[tuple[str, str]]
    body: bytes | None
    keep: bool


Serve = Callable[["Connection", Request], Coroutine[Any, Any, None]]


class Connection(asyncio.Protocol):
    """serve: writes a request's whole answer to `transport`. most: bytes of a request's body. connections: where it is
    while it is open.

    lost: nothing can be sent any more. full: done once the proxy has read what was sent; None while it reads. task: the
    call that runs. retiring: no further request will be served. peer: as gRPC writes it.
    """

    __slots__ = (
        "_body", "_connections", "_head_done", "_headers", "_last", "_limit", "_loop", "_most", "_parser", "_path",
        "_received", "_serve", "_too_large", "_waiting", "full", "lost", "on_body", "on_url", "peer", "retiring",
        "task", "transport",
    )  # fmt: skip

    def __init__(self, serve: Serve, most: int, connections: set[Connection]) -> None:
        self._serve = serve
        self._most = most
        self._connections = connections
        self._path: list[bytes] = []
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._received = 0
        self._limit = HEAD_BYTES
        self._head_done = self._too_large = self._last = False
        self._waiting: deque[Request] = deque()
        self._loop = asyncio.get_running_loop()
        # The parser's callbacks; two of them need no function of Python's own.
        self.on_url = self._path.append
        self.on_body = self._body.append
        self._parser = httptools.HttpRequestParser(self)
        self.lost = self.retiring = False
        self.full: asyncio.Future[None] | None = None
        self.peer = "unix:"
        self.task: asyncio.Task[None] | None = None

    # --- what a call asks ---------------------------------------------------------------------------------------------

    def alternative_names(self) -> list[bytes]:
        """Those of the peer's certificate."""
        certificate = self.transport.get_extra_info("peercert") or {}
        return [name.encode() for _, name in certificate.get("subjectAltName", ())]

    async def flushed(self) -> None:
        """Return once the proxy reads again. Raises CancelledError when it has gone."""
        if self.full is not None:
            await self.full
        if self.lost:
            raise asyncio.CancelledError

    def cut(self) -> None:
        """Close it now, without an end of the answer that runs; its call is cancelled."""
        self.transport.abort()

    def retire(self) -> None:
        """Serve no further request: close it now, or after the call that runs."""
        self.retiring = True
        if self.task is None and not self._waiting:
            self.transport.close()

    # --- asyncio's side -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        place = transport.get_extra_info("peername")
        if isinstance(place, tuple):
            host, port = place[:2]
            self.peer = f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"

    def data_received(self, data: bytes) -> None:
        if self._last:
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Nothing else is spoken here, as a server may decide (RFC 9110, 7.8); but the parser stops at that request.
            self._last = True
        except httptools.HttpParserError:
            if not self._last:
                self._refuse(b"400 Bad Request")
            return
        if self._received > self._limit:
            self._grown()

    def eof_received(self) -> None:
        """A proxy that sends no more has gone."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        self.lost = True
        self._connections.discard(self)
        self._waiting.clear()
        self.resume_writing()
        if self.task is not None and not self.task.cancelling():
            self.task.cancel()

    def pause_writing(self) -> None:
        self.full = self._loop.create_future()

    def resume_writing(self) -> None:
        full, self.full = self.full, None
        if full is not None and not full.done():
            full.set_result(None)

    # --- the parser's side --------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of the request's."""
        self._headers.append((name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape")))

    def on_headers_complete(self) -> None:
        """The body follows."""
        self._head_done = True
        self._received = 0
        self._limit = self._most

    def on_message_complete(self) -> None:
        """The request is whole: begin its call, or have it wait for the one before it."""
        parser = self._parser
        request = Request(
            parser.get_method(),
            b"".join(self._path),
            self._headers,
            None if self._too_large else b"".join(self._body),
            parser.should_keep_alive(),
        )
        self._headers = []
        self._path.clear()
        self._body.clear()
        self._received = 0
        self._limit = HEAD_BYTES
        self._head_done = self._too_large = False
        self._last = not request.keep
        if self.task is None:
            self._begin(request)
            return
        # The proxy sends none ahead, so one that waits is rare, and enough.
        self._waiting.append(request)
        self.transport.pause_reading()

    # --- calls --------------------------------------------------------------------------------------------------------

    def _begin(self, request: Request) -> None:
        self.task = self._loop.create_task(self._serve(self, request))

    def ended(self, keep: bool) -> None:
        """The call has ended, and its answer is written or cut."""
        self.task = None
        if not keep or (not self._waiting and (self._last or self.retiring)):
            self.transport.close()
        elif self._waiting:
            self._begin(self._waiting.popleft())
            if not self._waiting:
                self.transport.resume_reading()

    def _grown(self) -> None:
        """More has come than may: a head ends the connection, a body is read to its end and not kept."""
        if not self._head_done:
            self._refuse(b"431 Request Header Fields Too Large")
        elif self._too_large or sum(map(len, self._body)) > self._most:  # without what frames it as chunks
            self._too_large = True
            self._body.clear()

    def _refuse(self, status: bytes) -> None:
        """What comes is no request: nothing on this connection can be understood any more."""
        if self.task is None:
            self.transport.write(b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % status)
            self.transport.close()
        else:
            self.cut()
