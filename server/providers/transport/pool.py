"""aiohttp below its session: its pool of connections, and one request on one of them.

`ClientSession.request` does much for each call that nobody here asks for (cookies, redirects, proxies, traces, header
and URL objects, a task for the body): 60 of the 77 us of a call. What is used here instead, its connector and the
protocol of a connection, is what its session itself is built on. None of it is promised by aiohttp, so all of it is in
this file, and tests/providers/transport/test_pool.py says what a release has changed. The measured gain, and why:
docs/decisions/provider-transport.md.
"""

from __future__ import annotations

import asyncio
import math
import re
import select
import socket
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, Final, cast

import aiohttp
import yarl
from aiohttp.abc import ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http import RawResponseMessage

from server.core.errors import ProviderUnavailable
from server.providers.http import HttpRequest
from server.providers.transport.resolver import Resolver

STREAMED_BODY_BYTES: Final = 512 * 1024
"""A larger body is written in pieces, as fast as the provider takes it, and never copied as a whole."""

_PIECE_BYTES: Final = 64 * 1024
_HEAD_LINE_BYTES: Final = 32 * 1024
_CROSSING_SECONDS: Final = 1.0
"""An idle connection's end that crosses a request is here within a round trip. What a model has worked on takes longer
to fail."""

_KEEP_ALIVE: Final = re.compile(r"timeout\s*=\s*(\d{1,9})", re.ASCII | re.IGNORECASE)
_URL: Final = re.compile(r"https?://[^\s/?#@\\]+(?:[/?][!-~]*)?", re.ASCII | re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Target:
    """Where a request goes, as aiohttp's connector asks for it. path: what stands in the request line.

    Raises ValueError for what is no usable http(s) URL.
    """

    __slots__ = ("_is_ssl", "connection_key", "host", "host_header", "path", "port", "url")

    # Never a proxy, and TLS as the connector has it; the certificate is checked against the URL's host.
    proxy = None
    ssl = True
    server_hostname = None

    def __init__(self, url: str) -> None:
        if _URL.fullmatch(url) is None:
            raise ValueError("not an http(s) URL")
        self.url = yarl.URL(url, encoded=True)
        self.host = self.url.raw_host or ""
        self.port = self.url.port
        if not self.host or self.port is None:
            raise ValueError("a URL without a host")
        self.path = self.url.raw_path_qs
        self.host_header = self.url.host_port_subcomponent
        self._is_ssl = self.url.scheme == "https"
        self.connection_key = ConnectionKey(self.host, self.port, self._is_ssl, self.ssl, None, None, None)

    def is_ssl(self) -> bool:
        return self._is_ssl


def head(request: HttpRequest, target: Target, user_agent: str) -> bytes:
    """The request's head as it goes on the wire.

    Raises ValueError for a line break or another control character in any part of it, and for what is no text.
    """
    lines = [f"{request.method} {target.path} HTTP/1.1"]
    names = set()
    for name, value in request.headers:
        names.add(name.lower())
        lines.append(f"{name}: {value}")
    if "host" not in names:
        lines.insert(1, f"host: {target.host_header}")
    if "accept-encoding" not in names:
        lines.append("accept-encoding: identity")
    if "user-agent" not in names:
        lines.append(f"user-agent: {user_agent}")
    if request.body or request.method not in ("GET", "HEAD"):
        lines.append(f"content-length: {len(request.body)}")
    bare = "".join(lines)
    # Most heads are printable, which is quickly seen; only a tab or a rare character makes the second look needed.
    if not bare.isprintable() and _CONTROL.search(bare) is not None:
        raise ValueError("a control character in the head")
    lines.append("\r\n")
    return "\r\n".join(lines).encode()


class Pool:
    """Connections to providers, kept for the next request. Made and used on one event loop."""

    def __init__(self, resolver: Resolver, **options: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self._connector = _Connector(resolver, use_dns_cache=False, **options)

    async def take(self, target: Target, seconds: float, *, new: bool) -> Line:
        """A connection, from the pool unless it must be `new`. Raises TimeoutError when there is none within so many
        seconds, and what aiohttp's connector and the resolver raise."""
        while True:
            connection = await self._connector.connect(cast(aiohttp.ClientRequest, target), [], _within(seconds))
            protocol = cast(_Protocol | None, connection.protocol)
            if protocol is None:
                raise aiohttp.ServerDisconnectedError
            if protocol.kept_until is None or (not new and protocol.usable(self.loop.time())):
                return Line(self.loop, connection, protocol)
            connection.close()

    async def close(self) -> None:
        """Close every connection, those in use too."""
        await self._connector.close()


@lru_cache(maxsize=64)
def _within(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(connect=seconds, ceil_threshold=math.inf)


class Line:
    """One connection, while one request has it. `send`, then `answer`; `give_back` or `abort` at the end."""

    __slots__ = ("_connection", "_loop", "_protocol", "_sent_at", "_upload")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connection: aiohttp.connector.Connection, protocol: _Protocol
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._protocol = protocol
        self._sent_at = 0.0
        self._upload: asyncio.Task[None] | None = None

    def send(self, method: str, head: bytes, body: bytes) -> None:
        """Write the request. Does not wait: a large body goes on while the answer is read.

        Raises ServerDisconnectedError when the connection has ended meanwhile.
        """
        protocol = self._protocol
        transport = protocol.transport
        self._sent_at = self._loop.time()
        if transport is None or transport.is_closing():
            raise aiohttp.ServerDisconnectedError
        protocol.set_response_params(
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=_HEAD_LINE_BYTES,
            max_field_size=_HEAD_LINE_BYTES,
        )
        if len(body) <= STREAMED_BODY_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            self._upload = asyncio.get_running_loop().create_task(_write_in_pieces(protocol, body))

    async def answer(self) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
        """The head of the response, past interim ones (1xx), and its body."""
        while True:
            message, body = await self._protocol.read()
            if message.code >= 200 or message.code == 101:
                return message, body

    def crossed(self) -> bool:
        """Whether the connection, now ended, was a kept one whose end and our request have crossed: no byte has come,
        and it did not take long."""
        protocol = self._protocol
        kept = protocol.kept_until is not None
        return kept and not protocol.heard and self._loop.time() - self._sent_at <= _CROSSING_SECONDS

    def fail(self, error: Exception) -> None:
        """Raise `error` where `answer` waits or will be called."""
        self._protocol.set_exception(error)

    def give_back(self, keep_alive: str) -> None:
        """The answer has been received to its end: the next request may have the connection, if it can have another.

        keep_alive: the answer's header of that name.
        """
        self._protocol.keep(self._loop.time(), keep_alive)
        if self._protocol.writing_paused or (self._upload is not None and not self._upload.done()):
            # The provider has not taken all of the request, and the next one would stand behind what is left.
            self.abort()
        else:
            self._connection.release()

    def abort(self) -> None:
        """Close the socket now. aiohttp closes gracefully: TLS waits for the peer's close_notify, plain TCP for unsent
        bytes."""
        if self._upload is not None:
            self._upload.cancel()
        transport = self._protocol.transport
        if transport is not None:
            transport.abort()
        self._connection.close()


class _Protocol(ResponseHandler):
    """aiohttp's, which also knows what became of it between two requests.

    heard: whether anything has come since the last answer's end. kept_until: loop time after which the provider may
    close it; None while it has its first request.
    """

    heard = False
    kept_until: float | None = None

    def data_received(self, data: bytes) -> None:
        self.heard = True
        super().data_received(data)

    def keep(self, now: float, keep_alive: str) -> None:
        """An answer has ended."""
        named = _KEEP_ALIVE.search(keep_alive)
        self.kept_until = now + int(named[1]) - 1 if named else math.inf
        self.heard = False

    def usable(self, now: float) -> bool:
        """Whether the provider has neither said nor ended anything since, nor is about to by its own word.

        What it says into the silence (408, a close_notify) answers no request of ours. The event loop may not have
        read it yet, so the socket is asked. A TLS session ticket that comes this late costs the connection too, which
        is a handshake and no harm.
        """
        transport = self.transport
        if self.heard or transport is None or transport.is_closing() or now > (self.kept_until or now):
            return False
        return not _readable(transport.get_extra_info("socket").fileno())


def _readable(fd: int) -> bool:
    """Whether a read would return at once: with bytes, with the end, or with an error."""
    if not hasattr(select, "poll"):
        return bool(select.select([fd], [], [], 0)[0])
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


async def _write_in_pieces(protocol: ResponseHandler, body: bytes) -> None:
    view = memoryview(body)
    for at in range(0, len(view), _PIECE_BYTES):
        transport = protocol.transport
        if transport is None or transport.is_closing():
            return
        transport.write(view[at : at + _PIECE_BYTES])
        try:
            await protocol._drain_helper()  # noqa: SLF001  what its own writer waits by
        except OSError:
            # Whoever reads the answer is told that the connection has ended.
            return


class _Connector(aiohttp.TCPConnector):
    """aiohttp's pool with our resolver, for names and IP literals alike."""

    def __init__(self, resolver: Resolver, **options: Any) -> None:
        super().__init__(**options)
        self._ask = resolver
        self._factory = cast(partial[ResponseHandler], partial(_Protocol, loop=self._loop))

    async def _resolve_host(
        self,
        host: str,
        port: int,
        traces: Sequence[Any] | None = None,  # noqa: ARG002  aiohttp's signature
    ) -> list[ResolveResult]:
        # aiohttp's own resolver option is not asked for IP literals, and a guard against them must be.
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


def _nothing_found(host: str) -> list[ResolveResult]:
    raise ProviderUnavailable(f"The provider's host {host} has no address.")
