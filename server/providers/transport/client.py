"""The real transport: aiohttp's pool, TLS and HTTP/1.1, and nothing else that an HTTP client may do by itself.

No redirects, no proxy and no credential from the environment or netrc, no cookies, no decompression but ours, no DNS
cache. Why aiohttp, and why below its session: docs/decisions/provider-transport.md.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Iterator, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp.http import HttpProcessingError

from server.core.errors import DragomanError, NotConfigured, ProviderProtocolError, Unavailable
from server.core.ports import CallTimeouts
from server.providers.http import HttpRequest
from server.providers.transport.failures import before_head, cause, connect_limit, within_body
from server.providers.transport.inflate import BodyDecoder, is_plain
from server.providers.transport.pool import Line, Pool, Target, head
from server.providers.transport.resolver import Resolver, system_resolver
from server.providers.transport.watchdog import Watchdog

_DISCARD_BYTES: Final = 64 * 1024
_TARGETS: Final = 1024
"""URLs whose parts are kept."""


class AiohttpTransport:
    """A `Transport` over one pool, which is opened by the first `send` on the loop that runs it.

    resolver: asked at every new connection (see Resolver).
    ssl_context: for private CAs (`ssl.create_default_context(cafile=...)`); None: the system's CAs. It must verify.
    limit, limit_per_host: connections at once, 0: no limit. keepalive: seconds that an idle connection is kept.
    """

    def __init__(
        self,
        resolver: Resolver = system_resolver,
        *,
        ssl_context: ssl.SSLContext | None = None,
        limit: int = 0,
        limit_per_host: int = 0,
        keepalive: float = 30.0,
        user_agent: str = "dragoman",
    ) -> None:
        if ssl_context is not None and not (
            ssl_context.check_hostname and ssl_context.verify_mode is ssl.CERT_REQUIRED
        ):
            raise ValueError("the TLS context must verify certificates and host names")
        self._resolver = resolver
        self._ssl: ssl.SSLContext | bool = True if ssl_context is None else ssl_context
        self._limit = limit
        self._limit_per_host = limit_per_host
        self._keepalive = keepalive
        self._user_agent = user_agent
        self._pool: Pool | None = None
        self._target = lru_cache(maxsize=_TARGETS)(Target)
        self._live: set[_Call] = set()
        self._closed = False

    def send(self, request: HttpRequest, timeouts: CallTimeouts) -> _Call:
        return _Call(self, request, timeouts)

    async def aclose(self) -> None:
        self._closed = True
        # aiohttp closes the sockets and leaves their readers waiting.
        for call in self._live:
            call.fail(shutting_down())
        if self._pool is not None:
            await self._pool.close()

    # --- for a call ---------------------------------------------------------------------------------------------------

    def enter(self, call: _Call) -> Pool:
        """The pool, for a call that begins. Raises Unavailable when the transport is closed."""
        if self._closed:
            raise shutting_down()
        if self._pool is None:
            self._pool = Pool(
                self._resolver,
                ssl=self._ssl,
                limit=self._limit,
                limit_per_host=self._limit_per_host,
                keepalive_timeout=self._keepalive,
            )
        self._live.add(call)
        return self._pool

    def leave(self, call: _Call) -> None:
        """The call is over."""
        self._live.discard(call)

    def prepared(self, request: HttpRequest) -> tuple[Target, bytes]:
        """Where the request goes, and its head. Raises NotConfigured."""
        try:
            target = self._target(request.url)
        except ValueError:
            raise NotConfigured("The provider's endpoint is no usable http(s) URL.") from None
        return target, head(request, target, self._user_agent)

    @property
    def closed(self) -> bool:
        return self._closed


class _Call:
    """One request and its response: what `send` gives, and what is entered. The only place that reads a body.

    One object and no generator for both, and one timer from the request to the end of the body: a whole answer costs
    few objects more than its own.
    """

    __slots__ = (
        "_body",
        "_decoder",
        "_failure",
        "_headers",
        "_line",
        "_pieces",
        "_plain",
        "_raw_headers",
        "_request",
        "_timeouts",
        "_transport",
        "_watchdog",
        "status",
    )

    def __init__(self, transport: AiohttpTransport, request: HttpRequest, timeouts: CallTimeouts) -> None:
        self._transport = transport
        self._request = request
        self._timeouts = timeouts
        self._line: Line | None = None
        self._body: aiohttp.StreamReader | None = None
        self._failure: DragomanError | None = None
        self._headers: dict[str, str] | None = None
        self._plain = False
        self._decoder: BodyDecoder | None = None
        self._pieces: Iterator[bytes] = iter(())
        self.status = 0

    async def __aenter__(self) -> Self:
        pool = self._transport.enter(self)
        self._watchdog = Watchdog(pool.loop, self._timeouts, pool.loop.time(), self.fail)
        try:
            await self._open(pool)
        except BaseException as exc:
            self.close()
            if isinstance(exc, DragomanError) or not isinstance(exc, Exception):
                raise
            if self._failure is not None:
                raise self._failure from None
            if self._transport.closed:
                raise shutting_down() from None
            raise before_head(exc, self._timeouts) from cause(exc)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _open(self, pool: Pool) -> None:
        """Send, and wait for the response's head."""
        request = self._request
        target, start = self._transport.prepared(request)
        _, seconds = connect_limit(self._timeouts)
        # A kept connection may turn out to be closed. The request is then sent once more, on a new one, whatever it
        # asks for: docs/decisions/provider-transport.md says why that is right for a POST.
        again = False
        while True:
            self._line = line = await pool.take(target, seconds, new=again)
            self._watchdog.reading()
            try:
                line.send(request.method, start, request.body)
                message, self._body = await line.answer()
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if again or self._failure is not None or not line.crossed():
                    raise
                again = True
                line.abort()
            else:
                self.status = message.code
                self._raw_headers = message.headers
                return
            finally:
                self._watchdog.received()

    @property
    def headers(self) -> Mapping[str, str]:
        if self._headers is None:
            raw = self._raw_headers
            merged = {name.lower(): value for name, value in raw.items()}
            if len(merged) < len(raw):
                merged = {name: ", ".join(raw.getall(name)) for name in merged}
            self._headers = merged
        return self._headers

    async def read(self, limit: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        waiting = True
        while piece := await self.receive():
            # Blank lines before the answer are a keep-alive (DeepSeek, unary), so they do not end the wait for it.
            if waiting and not piece.isspace():
                waiting = False
                self.mark_first_token()
            size += len(piece)
            if size > limit:
                raise ProviderProtocolError(
                    f"The provider's answer is larger than {limit} bytes.", http_status=self.status, retryable=False
                )
            pieces.append(piece)
            if self._plain and self._body is not None and self._body.at_eof():
                break
        return b"".join(pieces)

    def receive(self) -> Awaitable[bytes]:
        return self._next() if self._plain else self._decoded()

    async def _decoded(self) -> bytes:
        if self._decoder is None:
            encoding = self._raw_headers.get("content-encoding", "")
            if not encoding:
                chunk = await self._next()
                if is_plain(chunk):
                    self._plain = True
                    return chunk
                self._decoder = BodyDecoder("")
                self._pieces = self._decoder.feed(chunk)
            else:
                self._decoder = BodyDecoder(encoding)
        return await self._inflated(self._decoder)

    async def _inflated(self, decoder: BodyDecoder) -> bytes:
        while True:
            for piece in self._pieces:
                return piece
            chunk = await self._next()
            if not chunk:
                return decoder.end()
            self._pieces = decoder.feed(chunk)

    def mark_first_token(self) -> None:
        self._watchdog.mark_first_token()

    async def discard_rest(self, seconds: float) -> None:
        if self._body is not None and self._body.is_eof():
            return
        left = _DISCARD_BYTES
        try:
            async with asyncio.timeout(seconds):
                while left > 0 and (chunk := await self._next()):
                    left -= len(chunk)
        except (DragomanError, TimeoutError):
            return

    def close(self) -> None:
        """Give the connection back if the body has ended, else close its socket now."""
        self._watchdog.stop()
        self._transport.leave(self)
        line, self._line = self._line, None
        if line is None:
            return
        if self._body is not None and self._body.is_eof():
            line.give_back(self._raw_headers.get("keep-alive", ""))
        else:
            line.abort()

    def fail(self, error: DragomanError) -> None:
        """End the wait for the head or the read that waits, and every later one, with this error; close the socket."""
        self._failure = error
        if self._body is not None:
            self._body.set_exception(aiohttp.SocketTimeoutError())
        if self._line is not None:
            self._line.fail(aiohttp.SocketTimeoutError())
            self._line.abort()

    async def _next(self) -> bytes:
        """The next bytes as they came, b"" at the end of the body."""
        body = self._body
        if body is None or self._failure is not None:
            raise self._failure or RuntimeError("not entered")
        try:
            if body.is_eof():
                # All of it is here: there is nothing to wait for, and nothing to be timed.
                return body.read_nowait()
            self._watchdog.reading()
            return await body.readany()
        except (aiohttp.ClientError, OSError, RuntimeError, HttpProcessingError) as exc:
            if self._failure is not None:
                raise self._failure from None
            raise within_body(exc) from cause(exc)
        finally:
            self._watchdog.received()


def shutting_down() -> Unavailable:
    """What a call is told whose transport is closed."""
    return Unavailable("The gateway is shutting down: its connections to providers are closed.")
