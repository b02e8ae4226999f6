"""The real transport: aiohttp, with everything off that it would do by itself.

No redirects, no proxy and no credential from the environment or netrc, no cookies, no decompression of its own, no DNS
cache; the pool, HTTP/1.1 and TLS are what it is here for. Why aiohttp: docs/decisions/provider-transport.md.
"""

from __future__ import annotations

import asyncio
import io
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final

import aiohttp
import yarl
from aiohttp.abc import ResolveResult

from server.core.errors import (
    DragomanError,
    NotConfigured,
    ProviderError,
    ProviderProtocolError,
    ProviderTimeout,
    ProviderUnavailable,
    StreamTruncated,
    TimeoutPhase,
    Unavailable,
)
from server.core.ports import CallTimeouts
from server.providers.http import HttpRequest, HttpResponse
from server.providers.transport.inflate import BodyDecoder
from server.providers.transport.resolver import Resolver, system_resolver
from server.providers.transport.watchdog import Watchdog

_URL: Final = re.compile(r"https?://[^\s/?#@\\]+(?:[/?][!-~]*)?", re.ASCII | re.IGNORECASE)
# aiohttp copies a bytes body in one go and warns above 1 MiB; as a stream it is written in pieces.
_STREAMED_BODY_BYTES: Final = 512 * 1024
_HEAD_LINE_BYTES: Final = 32 * 1024
_DISCARD_BYTES: Final = 64 * 1024


class AiohttpTransport:
    """A `Transport` over one aiohttp session, which is opened by the first `send` on the loop that runs it.

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
        self._session: aiohttp.ClientSession | None = None
        self._connector: _Connector | None = None
        self._live: set[_Response] = set()
        self._closed = False

    @asynccontextmanager
    async def send(self, request: HttpRequest, timeouts: CallTimeouts) -> AsyncIterator[HttpResponse]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        raw = await self._open(request, timeouts, started)
        response = _Response(raw, timeouts, started)
        self._live.add(response)
        try:
            yield response
        finally:
            self._live.discard(response)
            response.close()

    async def aclose(self) -> None:
        self._closed = True
        # aiohttp closes the sockets and leaves their readers waiting.
        for response in self._live:
            response.fail(_shutting_down())
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> tuple[aiohttp.ClientSession, _Connector]:
        if self._closed:
            raise _shutting_down()
        if self._session is None or self._connector is None:
            self._connector = _Connector(
                self._resolver,
                ssl=self._ssl,
                limit=self._limit,
                limit_per_host=self._limit_per_host,
                keepalive_timeout=self._keepalive,
                use_dns_cache=False,
            )
            self._session = aiohttp.ClientSession(
                connector=self._connector,
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                raise_for_status=False,
                max_line_size=_HEAD_LINE_BYTES,
                max_field_size=_HEAD_LINE_BYTES,
                skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
            )
        return self._session, self._connector

    async def _open(self, request: HttpRequest, timeouts: CallTimeouts, started: float) -> aiohttp.ClientResponse:
        """Send, and wait for the response's head."""
        session, connector = self._opened()
        if _URL.fullmatch(request.url) is None:
            raise NotConfigured("The provider's endpoint is no usable http(s) URL.")
        phase, seconds = _head_limit(timeouts)
        taken = _Taken()
        reset = connector.taken.set(taken)
        scope = asyncio.timeout_at(started + seconds)
        try:
            async with scope:
                return await session.request(
                    request.method,
                    yarl.URL(request.url, encoded=True),
                    headers=self._headers(request),
                    data=io.BytesIO(request.body) if len(request.body) > _STREAMED_BODY_BYTES else request.body or None,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, connect=timeouts.connect),
                )
        except DragomanError:
            taken.abort()
            raise
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            taken.abort()
            if self._closed:
                raise _shutting_down() from None
            if isinstance(exc, TimeoutError) and scope.expired():
                raise ProviderTimeout(phase, seconds) from None
            raise _before_head(exc, timeouts) from _cause(exc)
        except BaseException:
            # Cancelled: aiohttp closes the connection gracefully, which waits for unsent bytes of the request to drain.
            taken.abort()
            raise
        finally:
            connector.taken.reset(reset)

    def _headers(self, request: HttpRequest) -> list[tuple[str, str]]:
        names = {name.lower() for name, _ in request.headers}
        headers = list(request.headers)
        if "accept-encoding" not in names:
            headers.append(("accept-encoding", "identity"))
        if "user-agent" not in names:
            headers.append(("user-agent", self._user_agent))
        return headers


class _Taken:
    """Which socket the request in flight was given, for closing it at once."""

    __slots__ = ("transport",)

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class _Connector(aiohttp.TCPConnector):
    """aiohttp's pool with our resolver, for names and IP literals alike, which tells which socket a request took."""

    def __init__(self, resolver: Resolver, **options: Any) -> None:
        super().__init__(**options)
        self._ask = resolver
        self.taken: ContextVar[_Taken] = ContextVar("taken")

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.connector.Connection:
        connection = await super().connect(req, traces, timeout)
        self.taken.get().transport = connection.transport
        return connection

    async def _resolve_host(
        self,
        host: str,
        port: int,
        traces: Sequence[Any] | None = None,  # noqa: ARG002  aiohttp's signature
    ) -> list[ResolveResult]:
        # aiohttp's own resolver option is not asked for IP literals, and a guard against them must be. A private name:
        # the tests on pinned literals fail when an aiohttp release changes it.
        return [
            ResolveResult(
                hostname=host,
                host=address.ip,
                port=address.port,
                family=address.family,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._ask(host, port)
        ] or _nothing_found(host)


class _Response:
    """The port's view of an aiohttp response, and the only place that reads one."""

    __slots__ = ("_failure", "_headers", "_raw", "_watchdog")

    def __init__(self, raw: aiohttp.ClientResponse, timeouts: CallTimeouts, started: float) -> None:
        self._raw = raw
        self._headers: dict[str, str] | None = None
        self._failure: DragomanError | None = None
        self._watchdog = Watchdog(asyncio.get_running_loop(), timeouts, started, self.fail)

    @property
    def status(self) -> int:
        return self._raw.status

    @property
    def headers(self) -> Mapping[str, str]:
        if self._headers is None:
            merged: dict[str, str] = {}
            for name, value in self._raw.headers.items():
                key = name.lower()
                merged[key] = f"{merged[key]}, {value}" if key in merged else value
            self._headers = merged
        return self._headers

    async def read(self, limit: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        waiting = True
        async for piece in self.chunks():
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
        return b"".join(pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        decoder = BodyDecoder(self.headers.get("content-encoding", ""))
        while chunk := await self._next():
            if decoder.passthrough:
                yield chunk
            else:
                for piece in decoder.feed(chunk):
                    yield piece
        if held := decoder.end():
            yield held

    def mark_first_token(self) -> None:
        self._watchdog.mark_first_token()

    async def discard_rest(self, seconds: float) -> None:
        left = _DISCARD_BYTES
        try:
            async with asyncio.timeout(seconds):
                while left > 0 and (chunk := await self._next()):
                    left -= len(chunk)
        except (DragomanError, TimeoutError):
            return

    def close(self) -> None:
        """Give the connection back if the body has ended, else close its socket now."""
        self._watchdog.cancel()
        self._abort()
        self._raw.close()

    async def _next(self) -> bytes:
        """The next bytes as they came, b"" at the end of the body."""
        self._watchdog.reading()
        try:
            chunk = await self._raw.content.readany()
        except (aiohttp.ClientError, OSError, RuntimeError) as exc:
            if self._failure is not None:
                raise self._failure from None
            raise _within_body(exc) from _cause(exc)
        finally:
            self._watchdog.received()
        if self._failure is not None:
            raise self._failure
        return chunk

    def fail(self, error: DragomanError) -> None:
        """End the read that waits, and every later one, with this error; close the socket."""
        self._failure = error
        self._raw.content.set_exception(aiohttp.SocketTimeoutError())
        self._abort()

    def _abort(self) -> None:
        # aiohttp would close gracefully: TLS waits for the peer's close_notify, plain TCP for unsent bytes.
        connection = self._raw.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()


def _head_limit(timeouts: CallTimeouts) -> tuple[TimeoutPhase, float]:
    if timeouts.total is not None and timeouts.total < timeouts.first_token:
        return "total", timeouts.total
    return "first_token", timeouts.first_token


def _shutting_down() -> Unavailable:
    return Unavailable("The gateway is shutting down: its connections to providers are closed.")


def _nothing_found(host: str) -> list[ResolveResult]:
    raise ProviderUnavailable(f"The provider's host {host} has no address.")


# --- the client library's exceptions, translated once, by type ------------------------------------------------------


def _before_head(exc: Exception, timeouts: CallTimeouts) -> DragomanError:
    """What went wrong between `send` and the response's head. None of these texts holds a URL or a header's value."""
    match exc:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return ProviderUnavailable(
                f"No secure connection to {exc.host}:{exc.port}: its TLS certificate or handshake was not accepted.",
                retryable=False,
                action="Check the endpoint, or give the CA that signed its certificate.",
            )
        case aiohttp.ClientConnectorDNSError():
            return ProviderUnavailable(f"The provider's host {exc.host} was not found.")
        case aiohttp.ClientConnectorError():
            return ProviderUnavailable(f"No connection to {exc.host}:{exc.port}: {_why(exc.os_error)}.")
        case TimeoutError():
            return ProviderTimeout("connect", timeouts.connect)
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return ProviderProtocolError("The provider's answer is not HTTP.")
        case aiohttp.InvalidURL():
            return NotConfigured("The provider's endpoint is no usable http(s) URL.")
        case ValueError():
            return NotConfigured("The request holds a header that HTTP cannot carry (a line break in a credential?).")
        case _:
            return ProviderUnavailable("The provider closed the connection without an answer.")


def _within_body(exc: Exception) -> ProviderError:
    match exc:
        case aiohttp.ClientResponseError():
            return ProviderProtocolError("The provider's answer is not HTTP.")
        case _:
            return StreamTruncated("The connection to the provider ended in the middle of its answer.")


def _why(error: OSError) -> str:
    match error:
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionResetError():
            return "connection reset"
        case _:
            return "not reachable"


def _cause(exc: Exception) -> BaseException | None:
    """What may stand behind our error in a traceback: aiohttp writes whole URLs into some of its messages."""
    speaks_of_url = isinstance(
        exc, aiohttp.ClientOSError | aiohttp.ConnectionTimeoutError | aiohttp.ClientResponseError | aiohttp.InvalidURL
    )
    return exc.__cause__ if speaks_of_url else exc
