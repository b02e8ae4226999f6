"""How connections are taken: all that wait, at once, and again after there was no room for them."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from server.rpc.edge.listener import Listener
from server.rpc.tls import CertificateFiles, ServerCertificates
from tests.support.certificates import Authority


class Counted(asyncio.Protocol):
    """Counts the connections that were made, and closes none."""

    made = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        type(self).made += 1


@pytest.fixture
def counted() -> type[Counted]:
    """A class of the test's own."""
    return type("CountedHere", (Counted,), {"made": 0})


@contextlib.contextmanager
def callers(port: int, count: int) -> Iterator[None]:
    """Connections that nobody has taken yet: the event loop has no turn meanwhile."""
    with contextlib.ExitStack() as held:
        for _ in range(count):
            held.enter_context(socket.create_connection(("127.0.0.1", port)))
        yield


def highest_file() -> int:
    """The highest number among this process's open files."""
    return max(int(each.name) for each in Path("/proc/self/fd").iterdir())


async def turns(count: int) -> None:
    """Let the event loop look at its sockets so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_burst_is_taken_in_few_turns_of_the_loop(run: object, counted: type[Counted]) -> None:
    """Two hundred connections in twenty turns; a server that takes one for each turn has a tenth of them by then."""

    async def burst() -> None:
        listener = Listener("127.0.0.1", 0, counted)
        with callers(listener.port, 200):
            await turns(20)
            assert counted.made == 200
        listener.close()
        await turns(20)  # in which the connections are closed

    run(burst())  # type: ignore[operator]


async def test_without_room_for_another_file_those_who_wait_are_taken_later(
    counted: type[Counted], caplog: pytest.LogCaptureFixture
) -> None:
    listener = Listener("127.0.0.1", 0, counted)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with callers(listener.port, 3):
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest_file(), hard))
        try:
            # Numbers below the limit may be free: they are used up.
            with contextlib.ExitStack() as held:
                with contextlib.suppress(OSError):
                    while True:
                        held.enter_context(socket.socket())
                await turns(20)
                assert counted.made == 0
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(caplog.records) == 1  # said once, and the loop does not turn in vain
        async with asyncio.timeout(10):
            while counted.made < 3:
                await asyncio.sleep(0.02)
    listener.close()
    await turns(20)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_connections_notice_a_peer_that_is_gone_and_hold_no_small_write_back(run: object) -> None:
    async def look() -> None:
        made: asyncio.Queue[asyncio.BaseTransport] = asyncio.Queue()

        class Told(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made.put_nowait(transport)

        listener = Listener("127.0.0.1", 0, Told)
        with callers(listener.port, 1):
            transport = await made.get()
            accepted = transport.get_extra_info("socket")
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            transport.close()
        listener.close()
        await turns(20)

    run(look())  # type: ignore[operator]  # one of two functions


async def test_it_listens_on_ipv6() -> None:
    listener = Listener("::1", 0, asyncio.Protocol)
    with socket.create_connection(("::1", listener.port)):
        pass
    listener.close()


async def test_after_close_nobody_connects() -> None:
    listener = Listener("127.0.0.1", 0, asyncio.Protocol)
    port = listener.port
    listener.close()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


async def test_a_caller_without_tls_is_closed_and_the_next_one_served(tmp_path: Path, counted: type[Counted]) -> None:
    authority = Authority("test")
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    certificate, key = authority.certify("localhost").write(tmp_path, "server")
    tls = ServerCertificates(CertificateFiles(certificate, key)).ssl_context()
    listener = Listener("127.0.0.1", 0, counted, tls)
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"POST / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        assert counted.made == 0
        _, second = await asyncio.open_connection("127.0.0.1", listener.port, ssl=trusting, server_hostname="localhost")
        while not counted.made:
            await asyncio.sleep(0.01)
        second.close()
    listener.close()
