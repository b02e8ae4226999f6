"""Connections: made to what the resolver says, kept for the next request, and closed when nobody needs them."""

import asyncio
import gc
import socket
import ssl
from pathlib import Path

import pytest

from server.core.errors import ProviderTimeout, ProviderUnavailable, Unavailable
from server.core.ports import CallTimeouts
from server.providers.transport.client import HttpTransport, _Call
from server.providers.transport.connection import Connection
from server.providers.transport.pool import Pool
from server.providers.transport.resolver import Address
from server.providers.transport.watchdog import Watchdog
from tests.providers.transport.certificates import tls_contexts
from tests.providers.transport.peer import PATIENT, Call, answering, closing, fetch, peer, plain, post, unused_port


async def test_what_an_idle_connection_says_closes_it(transport: HttpTransport) -> None:
    """A server that says 408 into the silence, and stays, has not answered the request that comes after it."""
    idle = asyncio.Event()

    async def handler(call: Call) -> None:
        await call.write(plain(b"%d" % len(to.heads)))
        if len(to.heads) == 1:
            await idle.wait()
            await call.write(plain(b"too slow", status=b"408 Request Timeout"))

    async with peer(handler) as to:
        assert await fetch(transport, to.url) == b"1"
        idle.set()
        await to.gone.wait()
        assert await fetch(transport, to.url) == b"2"


async def test_connections_are_kept_apart_by_host_port_and_tls(certificate: Path) -> None:
    """What was verified for one name is used for that name alone."""
    server_tls, client_tls = tls_contexts(certificate)
    async with peer(answering(plain(b"ok"))) as to, peer(answering(plain(b"ok")), tls=server_tls) as secure:

        async def resolver(host: str, port: int) -> list[Address]:
            return [Address("127.0.0.1", secure.port if port == 443 else to.port, socket.AF_INET)]

        transport = HttpTransport(resolver, ssl_context=client_tls)
        for _ in range(2):
            for url in ("http://a.test/", "http://b.test/", "http://a.test:81/", "https://provider.test/"):
                assert await fetch(transport, url) == b"ok"
        with pytest.raises(ProviderUnavailable, match="certificate"):
            await fetch(transport, "https://a.test/")
        await transport.aclose()
        assert (to.connections, secure.connections) == (3, 1)


async def test_idle_connections_are_closed_after_a_while() -> None:
    """Also when nobody asks for that host again: within twice the time that they are kept."""
    async with peer(answering(plain(b"ok"))) as to:
        transport = HttpTransport(keepalive=0.05)
        assert await fetch(transport, to.url) == b"ok"
        await to.gone.wait()
        assert await fetch(transport, to.url) == b"ok"
        assert to.connections == 2
        await transport.aclose()


async def test_a_kept_connection_serves_one_call_at_a_time(transport: HttpTransport) -> None:
    """Calls at once have connections of their own, and all of these are kept."""
    together = asyncio.Barrier(3)

    async def handler(call: Call) -> None:
        await together.wait()
        await call.write(plain(b"ok"))

    async with peer(handler) as to:
        for _ in range(3):
            await asyncio.gather(*(fetch(transport, to.url) for _ in range(3)))
        assert to.connections == 3


async def test_a_silent_address_does_not_hold_up_the_next() -> None:
    """Another address is tried beside one that does not answer."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    # A full backlog answers no SYN, as an address behind a filter does.
    filling = [socket.socket() for _ in range(3)]
    for one in filling:
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
    async with peer(answering(plain(b"ok"))) as to:

        async def resolver(host: str, port: int) -> list[Address]:
            silent = Address("127.0.0.1", listener.getsockname()[1], socket.AF_INET)
            return [silent, Address("127.0.0.1", to.port, socket.AF_INET)]

        transport = HttpTransport(resolver)
        assert await fetch(transport, "http://provider.test/", CallTimeouts(connect=10)) == b"ok"
        await transport.aclose()
    for one in (*filling, listener):
        one.close()


@pytest.mark.parametrize("end", ["timeout", "cancel", "aclose"])
async def test_a_handshake_that_hangs_ends_with_its_call(end: str, certificate: Path) -> None:
    """By the connect timeout, with its caller, or with the transport; and its socket is closed at once."""
    _, client_tls = tls_contexts(certificate)
    heard, gone = asyncio.Event(), asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            heard.set()
        gone.set()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    place: tuple[str, int] = server.sockets[0].getsockname()

    async def resolver(host: str, port: int) -> list[Address]:
        return [Address(*place, socket.AF_INET)]

    transport = HttpTransport(resolver, ssl_context=client_tls)
    timeouts = CallTimeouts(connect=0.2 if end == "timeout" else 60)
    call = asyncio.create_task(fetch(transport, "https://provider.test/", timeouts))
    await heard.wait()
    if end == "cancel":
        call.cancel()
    elif end == "aclose":
        await transport.aclose()
    expected = {"timeout": ProviderTimeout, "cancel": asyncio.CancelledError, "aclose": Unavailable}[end]
    with pytest.raises(expected):
        await call
    await gone.wait()
    await transport.aclose()
    server.close()


@pytest.mark.parametrize(("timeouts", "phase"), [
    (CallTimeouts(connect=0.05, first_token=30, total=30), "connect"),
    (CallTimeouts(connect=30, first_token=0.05, total=30), "first_token"),
    (CallTimeouts(connect=30, first_token=30, total=0.05), "total"),
])  # fmt: skip
async def test_connecting_ends_by_whichever_timeout_is_first(timeouts: CallTimeouts, phase: str) -> None:
    """The connect timeout, or what ends the whole call."""

    async def resolver(host: str, port: int) -> list[Address]:
        await asyncio.Event().wait()
        raise AssertionError

    transport = HttpTransport(resolver)
    with pytest.raises(ProviderTimeout) as caught:
        await fetch(transport, "http://provider.test/", timeouts)
    assert caught.value.metadata == {"phase": phase, "timeout_seconds": "0.05"}
    await transport.aclose()


async def test_the_systems_certificates_are_checked_by_default() -> None:
    """Without a context of its own a pool verifies, and offers nothing but HTTP/1.1."""

    async def resolver(host: str, port: int) -> list[Address]:
        return [Address("127.0.0.1", unused_port(), socket.AF_INET)]

    context = Pool(resolver, None, 30)._tls()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("handler", [answering(plain(b"ok")), closing(plain(b"ok"))])
async def test_a_call_that_is_over_is_freed_without_the_garbage_collector(handler) -> None:
    """Its parts do not hold each other; nor do those of a connection that is closed."""
    async with peer(handler) as to:
        transport = HttpTransport()
        gc.collect()
        gc.disable()
        try:
            call = transport.send(post(to.url), PATIENT)
            async with call as response:
                assert await response.read(10) == b"ok"
                assert len(_alive()) == 3
            del call, response
            await transport.aclose()
            await asyncio.sleep(0.01)
            assert _alive() == []
        finally:
            gc.enable()


def _alive() -> list[object]:
    return [found for found in gc.get_objects() if type(found) in (_Call, Connection, Watchdog)]
