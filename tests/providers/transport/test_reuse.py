"""A connection that was kept and has ended: noticed before it is used, and one more try where it could not be."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.core.errors import ProviderTimeout, ProviderUnavailable
from server.core.ports import CallTimeouts
from server.providers.http import HttpRequest
from server.providers.transport import connection
from server.providers.transport.client import HttpTransport
from server.providers.transport.connection import STREAMED_BODY_BYTES
from server.providers.transport.resolver import Address
from tests.providers.transport.certificates import tls_contexts
from tests.providers.transport.peer import CHUNKED, END, PATIENT, Call, Handler, closing, fetch, peer, plain, post

# --- seen before it is used -----------------------------------------------------------------------------------------


class Hangup:
    """A provider in a thread, so that it goes on while the client's event loop stands still.

    Answers the first request of the first connection, and when `end` is called ends that by `how`; the next connection
    is answered. late: what still came on the first connection after its end.
    """

    def __init__(self, how: str, tls: ssl.SSLContext | None) -> None:
        self.late = b""
        self._read = threading.Event()
        self._ended = threading.Event()
        self._how = how
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)

    def end(self) -> None:
        """Returns when the connection has ended. The event loop that calls it stands still meanwhile."""
        self._read.set()
        assert self._ended.wait(10)

    def _run(self) -> None:
        first = self._answered()
        assert self._read.wait(10)
        if self._how == "reset":
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            first.close()
        elif self._how == "spoken":
            first.sendall(plain(b"too slow", status=b"408 Request Timeout"))
        else:
            socket.socket.shutdown(first, socket.SHUT_WR)
        self._ended.set()
        second = self._answered()
        if self._how != "reset":
            first.settimeout(10)
            try:
                self.late = first.recv(1)
            except OSError:
                self.late = b""
            first.close()
        second.close()

    def _answered(self) -> socket.socket:
        accepted, _ = self._listener.accept()
        connection = self._tls.wrap_socket(accepted, server_side=True) if self._tls else accepted
        while not connection.recv(65536).endswith(b"{}"):
            pass
        connection.sendall(CHUNKED + b"2\r\nok\r\n" + END)
        return connection

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._thread.join(10)
            self._listener.close()
            assert not self._thread.is_alive()


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("how", ["closed", "reset", "spoken"])
async def test_an_end_that_the_event_loop_has_not_read_is_seen(how: str, tls: bool, certificate: Path) -> None:
    """Nothing of the next request is written to a connection whose end, or whose 408, stands in the socket unread."""
    server_tls, client_tls = tls_contexts(certificate) if tls else (None, None)
    provider = Hangup(how, server_tls)

    async def resolver(host: str, port: int) -> list[Address]:
        return [Address("127.0.0.1", provider.port, socket.AF_INET)]

    transport = HttpTransport(resolver, ssl_context=client_tls)
    url = f"{'https' if tls else 'http'}://provider.test:{provider.port}/"
    with provider.running():
        assert await fetch(transport, url) == b"ok"
        provider.end()
        assert await fetch(transport, url) == b"ok"
        await transport.aclose()
    assert provider.late == b""


@pytest.mark.parametrize("reset", [False, True])
async def test_a_provider_that_closes_after_each_answer_loses_no_call(transport: HttpTransport, reset: bool) -> None:
    """It promises to keep the connection and closes it behind the last chunk, as llama.cpp's server does."""

    async def handler(call: Call) -> None:
        await call.write(CHUNKED, b"2\r\nok\r\n" + END)
        if reset:
            await asyncio.sleep(0)
            call.reset()
        else:
            call.writer.close()

    async with peer(handler) as to:
        for _ in range(20):
            async with transport.send(post(to.url), PATIENT) as response:
                assert await response.receive() == b"ok"
                await response.discard_rest(10)


@pytest.mark.parametrize(("keep_alive", "connections"), [
    (b"timeout=60", 1), (b"timeout=60, max=100", 1), (b"max=100", 1), (b"timeout=x", 1), (b"", 1),
    (b"timeout=1", 2), (b"timeout=0", 2), (b"max=100, Timeout = 1", 2),
])  # fmt: skip
async def test_a_connection_is_kept_for_less_than_its_provider_says(
    transport: HttpTransport, keep_alive: bytes, connections: int
) -> None:
    """A second less: the provider's clock started before ours, and a request takes its time to arrive."""
    async with peer(_answering_with(b"keep-alive: %s\r\n" % keep_alive)) as to:
        assert await fetch(transport, to.url) == b"ok"
        assert await fetch(transport, to.url) == b"ok"
        assert to.connections == connections


async def test_a_connection_is_not_kept_beyond_that(transport: HttpTransport) -> None:
    """Two seconds promised are one second kept."""
    async with peer(_answering_with(b"Keep-Alive: timeout=2\r\n")) as to:
        assert await fetch(transport, to.url) == b"ok"
        await asyncio.sleep(1.1)
        assert await fetch(transport, to.url) == b"ok"
        assert to.connections == 2


def _answering_with(headers: bytes) -> Handler:
    async def handler(call: Call) -> None:
        await call.write(plain(b"ok", headers=headers))

    return handler


# --- crossing: one more try -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_end_that_crosses_the_request_costs_no_call(
    tls: bool, reset: bool, method: str, certificate: Path
) -> None:
    """The provider ends a kept connection as the request arrives: it is sent once more, on a new one."""
    server_tls, client_tls = tls_contexts(certificate) if tls else (None, None)
    async with peer(lambda call: _second_ends(call, to.heads, reset=reset), tls=server_tls) as to:
        transport = HttpTransport(to.resolver, ssl_context=client_tls)
        request = HttpRequest(method, f"{'https' if tls else 'http'}://provider.test:{to.port}/")
        for _ in range(2):
            async with transport.send(request, PATIENT) as response:
                assert await response.read(10) == b"ok"
        await transport.aclose()
        assert (len(to.heads), to.connections) == (3, 2)


async def test_a_body_in_pieces_is_sent_once_more_from_its_beginning(transport: HttpTransport) -> None:
    """All of it is still here."""
    body = bytes(range(256)) * (STREAMED_BODY_BYTES // 128)

    async def handler(call: Call) -> None:
        if len(to.heads) == 2:
            call.reset()
        else:
            assert await call.reader.readexactly(len(body)) == body
            await call.write(plain(b"ok"))

    async with peer(handler, read_body=False) as to:
        for _ in range(2):
            async with transport.send(post(to.url, body), PATIENT) as response:
                assert await response.read(10) == b"ok"
        assert (len(to.heads), to.connections) == (3, 2)


async def test_the_other_try_has_a_connection_of_its_own(transport: HttpTransport) -> None:
    """Other kept connections may have ended by the same clock; none of them is tried."""
    both = asyncio.Barrier(2)
    met = False

    async def handler(call: Call) -> None:
        nonlocal met
        if not met:
            await both.wait()
            met = True
            await call.write(plain(b"ok"))
        elif to.connections == 2:
            call.writer.close()
        else:
            await call.write(plain(b"ok"))

    async with peer(handler) as to:
        await asyncio.gather(fetch(transport, to.url), fetch(transport, to.url))
        assert to.connections == 2
        assert await fetch(transport, to.url) == b"ok"
        assert (len(to.heads), to.connections) == (4, 3)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_first_request_on_a_connection_is_sent_once(transport: HttpTransport, reset: bool, method: str) -> None:
    """A provider that hangs up on a new connection has read the request, as far as anybody can know."""
    async with peer(closing(reset=reset)) as to:
        with pytest.raises(ProviderUnavailable, match="closed the connection"):
            async with transport.send(HttpRequest(method, to.url), PATIENT):
                pass
        assert (len(to.heads), to.connections) == (1, 1)


async def test_there_is_no_third_try(transport: HttpTransport) -> None:
    """The one more try is a first use."""

    async def handler(call: Call) -> None:
        if len(to.heads) == 1:
            await call.write(plain(b"ok"))
        else:
            call.writer.close()

    async with peer(handler) as to:
        assert await fetch(transport, to.url) == b"ok"
        with pytest.raises(ProviderUnavailable, match="closed the connection"):
            await fetch(transport, to.url)
        assert (len(to.heads), to.connections) == (3, 2)


async def test_after_a_byte_of_an_answer_there_is_no_other_try(transport: HttpTransport) -> None:
    """The provider has begun to answer: it has read the request."""
    async with peer(lambda call: _second_ends(call, to.heads, b"H")) as to:
        assert await fetch(transport, to.url) == b"ok"
        with pytest.raises(ProviderUnavailable, match="closed the connection"):
            await fetch(transport, to.url)
        assert (len(to.heads), to.connections) == (2, 1)


async def test_a_late_end_is_no_crossing(transport: HttpTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes longer than a crossing does may have worked on it."""
    monkeypatch.setattr(connection, "CROSSING_SECONDS", 0.02)
    async with peer(lambda call: _second_ends(call, to.heads, after=0.1)) as to:
        assert await fetch(transport, to.url) == b"ok"
        with pytest.raises(ProviderUnavailable, match="closed the connection"):
            await fetch(transport, to.url)
        assert (len(to.heads), to.connections) == (2, 1)


async def test_a_timeout_is_not_tried_again(transport: HttpTransport) -> None:
    """On a kept connection as on any other."""
    async with peer(lambda call: _second_ends(call, to.heads, after=60)) as to:
        assert await fetch(transport, to.url) == b"ok"
        with pytest.raises(ProviderTimeout):
            await fetch(transport, to.url, CallTimeouts(connect=30, first_token=0.05, idle=30))
        assert (len(to.heads), to.connections) == (2, 1)


async def _second_ends(
    call: Call, heads: list[bytes], start: bytes = b"", *, reset: bool = False, after: float = 0
) -> None:
    """Answers every request but the second one, of which it answers `start` and hangs up."""
    if len(heads) != 2:
        await call.write(plain(b"ok"))
        return
    await call.write(start)
    await asyncio.sleep(after)
    if reset:
        call.reset()
    else:
        call.writer.close()
