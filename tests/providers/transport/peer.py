"""A provider's socket, scripted by a test: real TCP, and everything that a real server may do wrong."""

import asyncio
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from server.core.errors import DragomanError
from server.core.ports import CallTimeouts
from server.providers.http import HttpRequest
from server.providers.transport.client import HttpTransport
from server.providers.transport.resolver import Address


class Peer:
    """One connection handler on a free loopback port, and what it has seen.

    heads: the request heads, in order. bodies: their bodies. connections: how many were accepted. gone: set when a
    client's end of a connection was seen.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.gone = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1{QUERY}"

    async def resolver(self, host: str, port: int) -> list[Address]:
        """Pins every host to this peer."""
        return [Address("127.0.0.1", self.port, 2)]


class Call:
    """One request on a connection, as its handler sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def write(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def chunk(self, *pieces: bytes) -> None:
        await self.write(*(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces))

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.writer.get_extra_info("socket").setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER, on, 0 s
        self.writer.transport.abort()


Handler = Callable[[Call], Awaitable[None]]

CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def plain(body: bytes, *, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    """A whole response with a content-length."""
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n%s\r\n%s" % (status, len(body), headers, body)


@asynccontextmanager
async def peer(handler: Handler, *, tls: ssl.SSLContext | None = None, read_body: bool = True) -> AsyncIterator[Peer]:
    """Serve `handler`, once per request, keeping connections alive between them."""
    tasks: set[asyncio.Task[None]] = set()
    seen = Peer(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                seen.heads.append(head)
                if read_body:
                    seen.bodies.append(await reader.readexactly(_length(head)))
                await handler(Call(reader, writer))
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            seen.gone.set()
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        failures = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(failure, asyncio.CancelledError | None) for failure in failures), failures


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


PATIENT = CallTimeouts(connect=30, first_token=30, idle=30)
CANARY = "canary-header"
QUERY = "?key=canary-query"


def post(url: str, body: bytes = b"{}") -> HttpRequest:
    return HttpRequest("POST", url, (("authorization", CANARY), ("content-type", "application/json")), body)


def answering(*writes: bytes) -> Handler:
    """A peer that writes this and goes on to the next request."""

    async def handler(call: Call) -> None:
        await call.write(*writes)

    return handler


def hanging(*writes: bytes) -> Handler:
    """A peer that writes this and then waits for the client to go."""

    async def handler(call: Call) -> None:
        await call.write(*writes)
        assert await call.reader.read(1) == b""
        raise ConnectionError

    return handler


def closing(*writes: bytes, reset: bool = False) -> Handler:
    """A peer that writes this and hangs up."""

    async def handler(call: Call) -> None:
        await call.write(*writes)
        if reset:
            await asyncio.sleep(0.05)  # lets what was written arrive: an RST throws away what was not read
            call.reset()
        else:
            call.writer.close()

    return handler


async def fetch(transport: HttpTransport, url: str, timeouts: CallTimeouts = PATIENT) -> bytes:
    async with transport.send(post(url), timeouts) as response:
        return await response.read(1 << 20)


def assert_clean(error: DragomanError) -> None:
    """Nothing of the query or of a header's value stands in any text that the error can print."""
    texts = [*traceback.format_exception(error), repr(error), error.message, *error.metadata.values()]
    assert not [text for text in texts if "canary" in text]


def unused_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
