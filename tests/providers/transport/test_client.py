"""The transport over real sockets: what goes out, what comes back, which connections live and where they go."""

import asyncio
import gzip
import os
import socket
import stat
import zlib
from contextlib import suppress
from pathlib import Path

import pytest

from server.core.errors import (
    PermissionDenied,
    ProviderProtocolError,
    Unavailable,
)
from server.providers.http import HttpRequest
from server.providers.transport.client import HttpTransport
from server.providers.transport.resolver import Address, system_resolver
from tests.providers.transport.certificates import tls_contexts
from tests.providers.transport.peer import (
    CANARY,
    CHUNKED,
    END,
    PATIENT,
    Call,
    answering,
    closing,
    fetch,
    hanging,
    peer,
    plain,
    post,
    unused_port,
)

# --- what goes out and what comes back ------------------------------------------------------------------------------


async def test_a_request_goes_out_as_it_was_built(transport: HttpTransport) -> None:
    """Method, target, headers and body are the adapter's; identity is asked for; nothing else is added but host,
    content-length and a user agent."""
    async with peer(answering(plain(b"ok", headers=b"X-Request-Id: 7\r\nvia: a\r\nVia: b\r\n"))) as to:
        url = f"http://127.0.0.1:{to.port}/model/anthropic.claude%3A0/converse%2F?a=%20b&c=é".replace("é", "%C3%A9")
        async with transport.send(post(url, b'{"x":1}'), PATIENT) as response:
            assert (response.status, await response.read(100)) == (200, b"ok")
            assert response.headers["x-request-id"] == "7"
            assert response.headers["via"] == "a, b"
        line, *headers = to.heads[0].decode().split("\r\n")[:-2]
    assert line == "POST /model/anthropic.claude%3A0/converse%2F?a=%20b&c=%C3%A9 HTTP/1.1"
    assert sorted(header.lower() for header in headers) == sorted([
        f"host: 127.0.0.1:{to.port}",
        f"authorization: {CANARY}",
        "content-type: application/json",
        "content-length: 7",
        "accept-encoding: identity",
        "user-agent: dragoman",
    ])  # fmt: skip
    assert to.bodies == [b'{"x":1}']


async def test_the_environment_and_cookies_decide_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Proxy variables and a netrc are ignored, and a cookie that was set is not sent back."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login canary-user password canary-password\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with peer(answering(plain(b"ok", headers=b"set-cookie: a=b\r\n"))) as to:
        transport = HttpTransport(to.resolver)
        for _ in range(2):
            async with transport.send(HttpRequest("GET", "http://provider.test/"), PATIENT) as response:
                assert await response.read(100) == b"ok"
        await transport.aclose()
    for head in to.heads:
        assert b"cookie" not in head.lower()
        assert b"authorization" not in head.lower()


async def test_redirects_are_not_followed(transport: HttpTransport) -> None:
    """A credential never goes where a provider's answer points."""
    async with peer(answering(plain(b""))) as elsewhere:
        location = f"location: {elsewhere.url}\r\n".encode()
        async with (
            peer(answering(plain(b"moved", status=b"307 Temporary Redirect", headers=location))) as to,
            transport.send(post(to.url), PATIENT) as response,
        ):
            assert (response.status, await response.read(100)) == (307, b"moved")
    assert elsewhere.connections == 0


async def test_a_large_body_arrives_whole(transport: HttpTransport) -> None:
    """Bodies with images are written in pieces, with their length."""
    body = bytes(range(256)) * 40_000
    async with (
        peer(answering(plain(b"ok"))) as to,
        transport.send(post(to.url, body), PATIENT) as response,
    ):
        assert await response.read(10) == b"ok"
        assert to.bodies == [body]


@pytest.mark.parametrize(("squeezed", "header"), [(False, b""), (True, b""), (True, b"content-encoding: gzip\r\n")])
async def test_a_stream_is_not_held_back(transport: HttpTransport, squeezed: bool, header: bytes) -> None:
    """Each event is here before the provider writes the next one: plain, and compressed with or without a word."""
    taken = asyncio.Semaphore(0)
    squeeze = zlib.compressobj(wbits=31)

    async def handler(call: Call) -> None:
        await call.write(CHUNKED.replace(b"content-type: text/event-stream\r\n", header))
        for number in range(5):
            event = b"data: %d\n\n" % number
            await call.chunk(squeeze.compress(event) + squeeze.flush(zlib.Z_SYNC_FLUSH) if squeezed else event)
            await taken.acquire()
        await call.chunk(squeeze.flush() if squeezed else b"\n")
        await call.write(END)

    got = b""
    async with peer(handler) as to, transport.send(post(to.url), PATIENT) as response:
        while chunk := await response.receive():
            got += chunk
            taken.release()
    assert got.rstrip() == b"".join(b"data: %d\n\n" % number for number in range(5)).rstrip()


async def test_a_reader_that_waits_stops_the_provider(transport: HttpTransport) -> None:
    """A provider that sends faster than the caller reads is slowed down, not buffered without bound."""
    blocked = asyncio.Event()

    async def handler(call: Call) -> None:
        await call.write(CHUNKED)
        for _ in range(4096):
            try:
                await asyncio.wait_for(call.chunk(bytes(65536)), 1)
            except TimeoutError:
                blocked.set()
                raise ConnectionError from None
        raise AssertionError("256 MiB went out while nobody read")

    async with peer(handler) as to, transport.send(post(to.url), PATIENT) as response:
        await response.receive()
        await blocked.wait()


async def test_an_answer_over_the_limit_is_an_error(transport: HttpTransport) -> None:
    """Also when a small compressed body grows beyond it; the connection is closed."""
    for body in (bytes(100_001), gzip.compress(bytes(100_001))):
        async with peer(hanging(CHUNKED, b"%x\r\n%s\r\n" % (len(body), body))) as to:
            async with transport.send(post(to.url), PATIENT) as response:
                with pytest.raises(ProviderProtocolError, match="100000"):
                    await response.read(100_000)
            await to.gone.wait()


# --- the pool, and closing ------------------------------------------------------------------------------------------


async def test_a_connection_is_used_again_after_a_whole_answer(transport: HttpTransport) -> None:
    """Unary answers and streams read to their end share one connection."""
    async with peer(answering(CHUNKED, b"3\r\nabc\r\n", END)) as to:
        for _ in range(3):
            assert await fetch(transport, to.url) == b"abc"
        assert to.connections == 1


async def test_discarding_the_rest_saves_the_connection(transport: HttpTransport) -> None:
    """A stream that was left at its terminal event still gives its connection back."""
    async with peer(answering(CHUNKED, b"e\r\ndata: [DONE]\n\n\r\n", END)) as to:
        for _ in range(2):
            async with transport.send(post(to.url), PATIENT) as response:
                assert await response.receive() == b"data: [DONE]\n\n"
                await response.discard_rest(30)
        assert to.connections == 1


async def test_discarding_ends_without_an_error(transport: HttpTransport) -> None:
    """A provider that sends nothing more, or hangs up badly, costs the connection and nothing else."""
    for handler in (hanging(CHUNKED, b"2\r\nok\r\n"), closing(CHUNKED, b"2\r\nok\r\n")):
        async with peer(handler) as to, transport.send(post(to.url), PATIENT) as response:
            assert await response.receive() == b"ok"
            await response.discard_rest(0.05)


async def test_leaving_early_closes_the_connection(transport: HttpTransport) -> None:
    """A stream left in its middle is closed before the next request, and never used again."""
    async with peer(hanging(CHUNKED, b"2\r\nok\r\n")) as to:
        for number in range(1, 3):
            async with transport.send(post(to.url), PATIENT) as response:
                assert await response.receive() == b"ok"
            await to.gone.wait()
            to.gone.clear()
            assert to.connections == number


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("head_sent", [False, True])
async def test_a_cancelled_call_closes_its_socket_at_once(tls: bool, head_sent: bool, certificate: Path) -> None:
    """Before the head and within the body, plain and TLS, and without waiting for a provider that does not listen."""
    waiting, go_on = asyncio.Event(), asyncio.Event()
    server_tls, client_tls = tls_contexts(certificate) if tls else (None, None)

    async def handler(call: Call) -> None:
        call.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport can read
        if head_sent:
            await call.write(CHUNKED, b"2\r\nok\r\n")
        else:
            waiting.set()
        await go_on.wait()
        call.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await call.reader.read(1) == b""
        raise ConnectionError

    async def read(url: str) -> None:
        async with transport.send(post(url), PATIENT) as response:
            while await response.receive():
                waiting.set()

    async with peer(handler, tls=server_tls) as to:
        transport = HttpTransport(to.resolver, ssl_context=client_tls)
        call = asyncio.create_task(read(f"https://provider.test:{to.port}/" if tls else to.url))
        await waiting.wait()
        await _cancel(call, to.port)
        go_on.set()
        await to.gone.wait()
        await transport.aclose()


async def test_a_cancelled_upload_is_dropped(transport: HttpTransport) -> None:
    """A provider that does not read the request cannot hold the connection of a caller who has gone."""
    waiting, go_on = asyncio.Event(), asyncio.Event()
    body = bytes(50_000_000)
    got = 0

    async def handler(call: Call) -> None:
        nonlocal got
        waiting.set()
        await go_on.wait()
        while data := await call.reader.read(1 << 20):
            got += len(data)
        raise ConnectionError

    async def upload(url: str) -> None:
        async with transport.send(post(url, body), PATIENT):
            pass

    async with peer(handler, read_body=False) as to:
        call = asyncio.create_task(upload(to.url))
        await waiting.wait()
        await _cancel(call, to.port)
        go_on.set()
        await to.gone.wait()
    assert got < len(body)


async def _cancel(call: asyncio.Task, port: int) -> None:
    """Cancel it, give the loop two turns (transports close on the next), and see that no socket leads to the port."""
    assert len(_sockets_to(port)) == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    for _ in range(2):
        await asyncio.sleep(0)
    assert _sockets_to(port) == []


def _sockets_to(port: int) -> list[int]:
    """This process's file descriptors that are connected to the port."""
    found = []
    for fd in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        with suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            with socket.socket(fileno=os.dup(fd)) as probe:
                if probe.family != socket.AF_UNIX and probe.getpeername()[1] == port:
                    found.append(fd)
    return found


async def test_a_closed_transport_says_so(transport: HttpTransport) -> None:
    """Closing ends what is in flight and refuses what comes later, both as the gateway's own state; twice is fine."""
    async with peer(hanging(CHUNKED, b"2\r\nok\r\n")) as to:
        async with transport.send(post(to.url), PATIENT) as response:
            assert await response.receive() == b"ok"
            waiting = asyncio.create_task(response.read(10))
            await asyncio.sleep(0)
            await transport.aclose()
            await transport.aclose()
            await to.gone.wait()
            for read in (waiting, response.read(10)):
                with pytest.raises(Unavailable):
                    await read
        with pytest.raises(Unavailable):
            await fetch(transport, to.url)


async def test_closing_ends_a_call_that_waits_for_its_head(transport: HttpTransport) -> None:
    """Before there is a response there is a call to end."""
    async with peer(hanging()) as to:
        waiting = asyncio.create_task(fetch(transport, to.url))
        while not to.bodies:
            await asyncio.sleep(0.001)
        await transport.aclose()
        with pytest.raises(Unavailable):
            await waiting
        await to.gone.wait()


# --- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [
    "provider.invalid", "10.255.255.1", "[2001:db8::1]", "127.1", "2130706433", "0x7f.1", "localhost",
    "provider.invalid.",
])  # fmt: skip
async def test_only_the_resolvers_addresses_are_connected_to(host: str) -> None:
    """Names and IP literals of every spelling are asked for at each new connection; the Host header keeps them."""
    asked: list[tuple[str, int]] = []

    async def every_second_closes(call: Call) -> None:
        await call.write(plain(b"ok", headers=b"connection: close\r\n" if len(to.heads) % 2 == 0 else b""))

    async with peer(every_second_closes) as to:

        async def resolver(host: str, port: int) -> list[Address]:
            asked.append((host, port))
            return [Address("127.0.0.1", to.port, socket.AF_INET)]

        transport = HttpTransport(resolver)
        for _ in range(4):
            assert await fetch(transport, f"http://{host}:8000/") == b"ok"
        await transport.aclose()
    assert asked == [(host.strip("[]"), 8000)] * 2
    assert f"host: {host.rstrip('.')}:8000".encode() in to.heads[0].lower().replace(b".:", b":")


@pytest.mark.parametrize("host", ["provider.invalid", "127.0.0.1", "[::1]"])
async def test_a_refused_address_is_the_resolvers_own_error(host: str) -> None:
    """The guard's error arrives unchanged, and nothing was connected to."""
    refusal = PermissionDenied("That address is private.")

    async def resolver(host: str, port: int) -> list[Address]:
        raise refusal

    async with peer(answering(plain(b"ok"))) as to:
        transport = HttpTransport(resolver)
        with pytest.raises(PermissionDenied) as caught:
            await fetch(transport, f"http://{host}:{to.port}/")
        await transport.aclose()
        assert caught.value is refusal
        assert to.connections == 0


async def test_the_second_address_is_tried_when_the_first_refuses() -> None:
    """All of the resolver's answers count."""
    async with peer(answering(plain(b"ok"))) as to:

        async def resolver(host: str, port: int) -> list[Address]:
            return [Address("127.0.0.1", unused_port(), 2), Address("127.0.0.1", to.port, 2)]

        transport = HttpTransport(resolver)
        assert await fetch(transport, "http://provider.invalid/") == b"ok"
        await transport.aclose()


async def test_the_system_resolver_gives_addresses() -> None:
    """The default asks the operating system, for literals as well."""
    assert await system_resolver("127.0.0.1", 80) == (Address("127.0.0.1", 80, socket.AF_INET),)
    assert await system_resolver("::1", 80) == (Address("::1", 80, socket.AF_INET6),)
