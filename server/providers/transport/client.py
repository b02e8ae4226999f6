"""The real transport: HTTP/1.1 over connections of our own, and nothing that an HTTP client may do by itself.

No redirects, no proxy and no credential from the environment or netrc, no cookies, no decompression but ours, no DNS
cache. Why no client library: docs/decisions/provider-transport.md.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Iterator, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Final, Self

from server.core.errors import DragomanError, NotConfigured, ProviderProtocolError, ProviderTimeout
from server.core.ports import CallTimeouts
from server.providers.http import HttpRequest
from server.providers.transport.connection import Connection
from server.providers.transport.failures import shutting_down
from server.providers.transport.inflate import BodyDecoder, is_plain
from server.providers.transport.pool import Pool
from server.providers.transport.request import Target, head
from server.providers.transport.resolver import Resolver, system_resolver
from server.providers.transport.watchdog import Watchdog

_DISCARD_BYTES: Final = 64 * 1024
_TARGETS: Final = 1024
"""URLs whose parts are kept."""


class HttpTransport:
    """A `Transport` over one pool, which is opened by the first `send` on the loop that runs it.

    resolver: asked at every new connection (see Resolver).
    ssl_context: for private CAs (`ssl.create_default_context(cafile=...)`); None: the system's CAs. It must verify.
    keepalive: seconds that an idle connection is kept at most.
    """

    def __init__(
        self,
        resolver: Resolver = system_resolver,
        *,
        ssl_context: ssl.SSLContext | None = None,
        keepalive: float = 30.0,
        user_agent: str = "dragoman",
    ) -> None:
        if ssl_context is not None and not (
            ssl_context.check_hostname and ssl_context.verify_mode is ssl.CERT_REQUIRED
        ):
            raise ValueError("the TLS context must verify certificates and host names")
        self._resolver = resolver
        self._ssl = ssl_context
        self._keepalive = keepalive
        self._user_agent = user_agent
        self._pool: Pool | None = None
        self._target = lru_cache(maxsize=_TARGETS)(Target)
        self._closed = False
        self.live: set[_Call] = set()
        """The calls that are entered; they put themselves in and out."""

    def send(self, request: HttpRequest, timeouts: CallTimeouts) -> _Call:
        return _Call(self, request, timeouts)

    async def aclose(self) -> None:
        self._closed = True
        for call in tuple(self.live):
            call.fail(shutting_down())
        if self._pool is not None:
            await self._pool.close()

    def begin(self, request: HttpRequest) -> tuple[Pool, Target, bytes]:
        """For a call that begins: where its connection comes from, where the request goes, and its head.

        Raises NotConfigured where it cannot be sent, and Unavailable when the transport is closed.
        """
        if self._closed:
            raise shutting_down()
        if self._pool is None:
            self._pool = Pool(self._resolver, self._ssl, self._keepalive)
        try:
            target = self._target(request.url)
        except ValueError:
            raise NotConfigured("The provider's endpoint is no usable http(s) URL.") from None
        try:
            return self._pool, target, head(request, target, self._user_agent)
        except ValueError:
            raise NotConfigured(
                "The request holds a header that HTTP cannot carry (a line break in a credential?)."
            ) from None


class _Call:
    """One request and its response: what `send` gives, and what is entered.

    One object and no generator for both, and one timer from the request to the end of the body: a whole answer costs
    few objects more than its own.
    """

    __slots__ = (
        "_connecting",
        "_connection",
        "_decoder",
        "_failure",
        "_pieces",
        "_plain",
        "_pool",
        "_request",
        "_target",
        "_timeouts",
        "_transport",
        "_watchdog",
        "headers",
        "status",
    )

    def __init__(self, transport: HttpTransport, request: HttpRequest, timeouts: CallTimeouts) -> None:
        self._transport = transport
        self._request = request
        self._timeouts = timeouts
        self._connection: Connection | None = None
        self._connecting: asyncio.Timeout | None = None
        self._failure: DragomanError | None = None
        self._plain = False
        self._decoder: BodyDecoder | None = None
        self._pieces: Iterator[bytes] = iter(())
        self.headers: Mapping[str, str] = {}
        self.status = 0

    async def __aenter__(self) -> Self:
        request = self._request
        pool, target, start = self._transport.begin(request)
        self._pool, self._target = pool, target
        self._watchdog = watchdog = Watchdog(pool.loop, self._timeouts, pool.loop.time(), self.fail)
        self._transport.live.add(self)
        try:
            connection = self._connection = pool.take(target) or await self._connect()
            connection.send(start, request.body, watchdog)
            if not await connection.answer():
                # docs/decisions/provider-transport.md says why that is right, for a POST too.
                connection.abort()
                connection = self._connection = await self._connect()
                connection.send(start, request.body, watchdog)
                await connection.answer()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        self.status = connection.status
        self.headers = connection.headers
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the connection back if the body has ended, else close its socket now."""
        self._watchdog.stop()
        self._transport.live.discard(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give_back(self._target, connection)

    async def _connect(self) -> Connection:
        """A new connection, within what is left of the timeouts."""
        now = self._pool.loop.time()
        due, phase, seconds = self._watchdog.due(now)
        if now + self._timeouts.connect <= due:
            due, phase, seconds = now + self._timeouts.connect, "connect", self._timeouts.connect
        self._connecting = asyncio.timeout_at(due)
        try:
            async with self._connecting:
                connection = await self._pool.connect(self._target)
        except TimeoutError:
            raise self._failure or ProviderTimeout(phase, seconds) from None
        finally:
            self._connecting = None
        if self._failure is not None:
            connection.abort()
            raise self._failure
        return connection

    async def read(self, limit: int) -> bytes:
        connection = self._connection
        if connection is None:
            raise RuntimeError("not entered")
        pieces: list[bytes] = []
        size = 0
        waiting = True
        while piece := await (connection.receive() if self._plain else self._decoded(connection)):
            # Blank lines before the answer are a keep-alive (DeepSeek, unary), so they do not end the wait for it.
            if waiting and not connection.ended and not piece.isspace():
                waiting = False
                self._watchdog.mark_first_token()
            size += len(piece)
            if size > limit:
                raise ProviderProtocolError(
                    f"The provider's answer is larger than {limit} bytes.", http_status=self.status, retryable=False
                )
            pieces.append(piece)
        return b"".join(pieces)

    def receive(self) -> Awaitable[bytes]:
        connection = self._connection
        if connection is None:
            raise RuntimeError("not entered")
        return connection.receive() if self._plain else self._decoded(connection)

    async def _decoded(self, connection: Connection) -> bytes:
        """The next piece, inflated. The first one says whether that is needed at all."""
        decoder = self._decoder
        if decoder is None:
            encoding = connection.headers.get("content-encoding", "")
            chunk = b"" if encoding else await connection.receive()
            if is_plain(chunk):
                self._plain = True
                return chunk
            self._decoder = decoder = BodyDecoder(encoding)
            self._pieces = decoder.feed(chunk)
        while True:
            for piece in self._pieces:
                return piece
            chunk = await connection.receive()
            if not chunk:
                return decoder.end()
            self._pieces = decoder.feed(chunk)

    def mark_first_token(self) -> None:
        self._watchdog.mark_first_token()

    async def discard_rest(self, seconds: float) -> None:
        connection = self._connection
        if connection is None or connection.ended:
            return
        left = _DISCARD_BYTES
        try:
            async with asyncio.timeout(seconds):
                while left > 0 and (chunk := await connection.receive()):
                    left -= len(chunk)
        except (DragomanError, TimeoutError):
            return

    def fail(self, error: DragomanError) -> None:
        """End the wait for the connection, for the head or for the body, and every later one, with this error."""
        self._failure = error
        if self._connecting is not None:
            self._connecting.reschedule(self._pool.loop.time())
        if self._connection is not None:
            self._connection.fail(error)
