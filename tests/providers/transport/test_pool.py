"""What aiohttp does not promise and the pool is built on: each of these fails by name when a release changes it. And
the head of a request, which is ours to write."""

import asyncio
import inspect
import ssl
from pathlib import Path

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey

from server.core.errors import NotConfigured
from server.providers.http import HttpRequest
from server.providers.transport.client import AiohttpTransport
from server.providers.transport.pool import STREAMED_BODY_BYTES, Pool, Target, head
from server.providers.transport.resolver import Address
from tests.providers.transport.certificates import tls_contexts
from tests.providers.transport.peer import (
    PATIENT,
    Call,
    answering,
    assert_clean,
    closing,
    fetch,
    peer,
    plain,
    post,
)

# --- aiohttp below its session --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "parameters"), [
    (aiohttp.TCPConnector.connect, ["self", "req", "traces", "timeout"]),
    (aiohttp.TCPConnector._resolve_host, ["self", "host", "port", "traces"]),
    (ResponseHandler.read, ["self"]),
    (ResponseHandler._drain_helper, ["self"]),
    (aiohttp.StreamReader.readany, ["self"]),
])  # fmt: skip
def test_signatures(function: object, parameters: list[str]) -> None:
    """The coroutines that the pool calls or overrides have the parameters that it gives or takes."""
    assert list(inspect.signature(function).parameters) == parameters  # type: ignore[arg-type]
    assert inspect.iscoroutinefunction(function)


def test_a_protocol_takes_the_parameters_of_a_response() -> None:
    """Nothing that the pool sets for a response has another name or has gone."""
    taken = inspect.signature(ResponseHandler.set_response_params).parameters
    assert {"skip_payload", "read_until_eof", "auto_decompress", "max_line_size", "max_field_size"} <= taken.keys()


def test_a_connection_key_has_the_fields_that_a_target_fills() -> None:
    """Another field would mix connections that must be kept apart."""
    assert ConnectionKey._fields == (
        "host", "port", "is_ssl", "ssl", "proxy", "proxy_auth", "proxy_headers_hash", "server_hostname",
    )  # fmt: skip


class _Asked(Target):
    """A target that notes what is asked of it."""

    def __init__(self, url: str) -> None:
        self.asked: set[str] = set()
        super().__init__(url)
        self.asked.clear()

    def __getattribute__(self, name: str) -> object:
        if not name.startswith("_") and name != "asked":
            self.asked.add(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize("tls", [False, True])
async def test_the_connector_asks_a_request_for_what_a_target_has(tls: bool, certificate: Path) -> None:
    """Whatever else a release asked for, it would have to be thought about: a proxy, another name for the check."""
    server_tls, client_tls = tls_contexts(certificate)
    async with peer(answering(plain(b"ok")), tls=server_tls if tls else None) as to:
        pool = Pool(to.resolver, ssl=client_tls)
        target = _Asked(f"{'https' if tls else 'http'}://provider.test:{to.port}/")
        protocols = []
        for _ in range(2):
            line = await pool.take(target, 10, new=False)
            protocols.append(line._protocol)
            assert (len(line._protocol), line._protocol.writing_paused) == (0, False)
            line.give_back("")
        assert protocols[0] is protocols[1]
        await pool.close()
    tls_only = {"server_hostname"} if tls else set()
    assert target.asked == {"connection_key", "is_ssl", "port", "proxy", "ssl", "url"} | tls_only


async def test_a_context_of_ours_is_the_one_that_is_used(certificate: Path) -> None:
    """`ssl = True` of a target means the connector's own context, which verifies."""
    _, client_tls = tls_contexts(certificate)
    async with peer(answering(plain(b"ok"))) as to:
        pool = Pool(to.resolver, ssl=client_tls)
        used = pool._connector._get_ssl_context(Target("https://provider.test/"))  # type: ignore[arg-type]
        assert used is client_tls
        await pool.close()
        pool = Pool(to.resolver, ssl=True)
        used = pool._connector._get_ssl_context(Target("https://provider.test/"))  # type: ignore[arg-type]
        assert used is not None
        assert (used.verify_mode, used.check_hostname) == (ssl.CERT_REQUIRED, True)
        await pool.close()


# --- the head -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [*map(chr, range(0x20)), "\x7f", "\r\n", "\ud800"])
@pytest.mark.parametrize("where", ["name", "value", "method"])
def test_a_control_character_anywhere_in_a_head_is_refused(bad: str, where: str) -> None:
    """Before anything is written. A tab may stand in a value, as HTTP has it, and half a character nowhere."""
    made = {"name": "x-a", "value": "some value", "method": "POST"}
    made[where] = made[where][:2] + bad + made[where][2:]
    request = HttpRequest(made["method"], "http://a.test/", ((made["name"], made["value"]),))
    if bad == "\t":
        assert b"\t" in head(request, Target(request.url), "dragoman")
        return
    with pytest.raises(ValueError):  # noqa: PT011  UnicodeEncodeError is one of its kinds
        head(request, Target(request.url), "dragoman")


@pytest.mark.parametrize("key", ["canary\r\nx: y", "canary\n", "canary\x00", "\rcanary"])
async def test_a_credential_with_a_line_break_connects_to_nothing(transport: AiohttpTransport, key: str) -> None:
    """It is refused before a connection is taken, and no text shows it."""
    async with peer(answering(plain(b"ok"))) as to:
        with pytest.raises(NotConfigured, match="header") as caught:
            async with transport.send(HttpRequest("GET", to.url, (("authorization", key),)), PATIENT):
                pass
        assert to.connections == 0
    assert_clean(caught.value)


@pytest.mark.parametrize(("request_", "lines"), [
    (HttpRequest("GET", "http://a.test"), ["GET / HTTP/1.1", "host: a.test"]),
    (HttpRequest("GET", "https://a.test:443/x#f"[:-2]), ["GET /x HTTP/1.1", "host: a.test"]),
    (HttpRequest("GET", "http://[::1]:8080/x?y=%2F"), ["GET /x?y=%2F HTTP/1.1", "host: [::1]:8080"]),
    (HttpRequest("POST", "http://a.test/"), ["POST / HTTP/1.1", "host: a.test", "content-length: 0"]),
    (HttpRequest("POST", "http://a.test/", (), b"abc"), ["POST / HTTP/1.1", "host: a.test", "content-length: 3"]),
    (HttpRequest("GET", "http://a.test/", (("Host", "b.test"),)), ["GET / HTTP/1.1", "Host: b.test"]),
    (HttpRequest("GET", "http://a.test/", (("x-a", "é"),)), ["GET / HTTP/1.1", "host: a.test", "x-a: é"]),
])  # fmt: skip
def test_a_head_says_what_the_request_says(request_: HttpRequest, lines: list[str]) -> None:
    """And beyond it the host, the length of a body, identity and our name."""
    made = head(request_, Target(request_.url), "dragoman")
    added = ["accept-encoding: identity", "user-agent: dragoman"]
    first, *others = made.decode().removesuffix("\r\n\r\n").split("\r\n")
    assert first == lines[0]
    assert sorted(others) == sorted([*lines[1:], *added])


def test_a_head_says_nothing_twice() -> None:
    """What the adapter gave stands, in any spelling of its name."""
    given = (("Accept-Encoding", "gzip"), ("USER-AGENT", "me"))
    made = head(HttpRequest("GET", "http://a.test/", given), Target("http://a.test/"), "dragoman").decode().lower()
    assert made.count("accept-encoding") == made.count("user-agent") == 1


# --- one connection, request by request -----------------------------------------------------------------------------


async def test_interim_responses_are_passed_over(transport: AiohttpTransport) -> None:
    """100 and 103 announce the answer, they are none."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    async with peer(answering(*interim, plain(b"ok"))) as to:
        for _ in range(2):
            assert await fetch(transport, to.url) == b"ok"
        assert to.connections == 1


UNFRAMED = {
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n",
    "HTTP/1.1 until close": b"HTTP/1.1 200 OK\r\n\r\n",
    "connection: close": b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n",
    "HTTP/1.0 with a length": b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n",
}


@pytest.mark.parametrize("head", UNFRAMED.values(), ids=UNFRAMED.keys())
async def test_a_connection_that_ends_with_its_answer_is_not_used_again(
    transport: AiohttpTransport, head: bytes
) -> None:
    """Bodies until the end of the connection are whole, and the next request has a connection of its own."""
    async with peer(closing(head, b"ok")) as to:
        for number in range(1, 3):
            assert await fetch(transport, to.url) == b"ok"
            assert to.connections == number


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_a_status_without_a_body_ends_at_its_head(transport: AiohttpTransport, status: bytes) -> None:
    """Nothing is waited for, and the connection is used again."""
    async with peer(answering(b"HTTP/1.1 %s\r\n\r\n" % status)) as to:
        for _ in range(2):
            async with transport.send(post(to.url), PATIENT) as response:
                assert (response.status, await response.read(10)) == (int(status[:3]), b"")
        assert to.connections == 1


async def test_what_an_idle_connection_says_answers_no_request(transport: AiohttpTransport) -> None:
    """A server that says 408 into the silence, and stays, has not answered the request that comes after it."""
    idle = asyncio.Event()

    async def handler(call: Call) -> None:
        await call.write(plain(b"%d" % len(to.heads)))
        if len(to.heads) == 1:
            await idle.wait()
            await call.write(plain(b"too slow", status=b"408 Request Timeout"))

    async with peer(handler) as to:
        assert await fetch(transport, to.url) == b"1"
        assert transport._pool is not None
        (((protocol, _),),) = transport._pool._connector._conns.values()
        idle.set()
        while not len(protocol):
            await asyncio.sleep(0.001)
        assert await fetch(transport, to.url) == b"2"


@pytest.mark.parametrize("tls", [False, True])
async def test_an_answer_may_come_before_the_whole_request(tls: bool, certificate: Path) -> None:
    """A refusal of a large upload is read, and its connection, on which the rest would still come, is closed."""
    server_tls, client_tls = tls_contexts(certificate) if tls else (None, None)
    body = bytes(40 * STREAMED_BODY_BYTES)

    async def handler(call: Call) -> None:
        await call.write(plain(b"too large", status=b"413 Content Too Large"))
        while await call.reader.read(1 << 16):
            pass
        raise ConnectionError

    async with peer(handler, tls=server_tls, read_body=False) as to:

        async def resolver(host: str, port: int) -> list[Address]:
            return [Address("127.0.0.1", to.port, 2)]

        transport = AiohttpTransport(resolver, ssl_context=client_tls)
        url = f"{'https' if tls else 'http'}://provider.test:{to.port}/"
        async with transport.send(post(url, body), PATIENT) as response:
            assert (response.status, await response.read(100)) == (413, b"too large")
        await to.gone.wait()
        await transport.aclose()


@pytest.mark.parametrize("size", [STREAMED_BODY_BYTES, STREAMED_BODY_BYTES + 1, 5 * STREAMED_BODY_BYTES + 3])
@pytest.mark.parametrize("tls", [False, True])
async def test_bodies_around_the_limit_arrive_whole(tls: bool, size: int, certificate: Path) -> None:
    """In one write or in pieces, plain and TLS, and the connection is used again."""
    server_tls, client_tls = tls_contexts(certificate) if tls else (None, None)
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    async with peer(answering(plain(b"ok")), tls=server_tls) as to:
        transport = AiohttpTransport(to.resolver, ssl_context=client_tls)
        for _ in range(2):
            url = f"{'https' if tls else 'http'}://provider.test:{to.port}/"
            async with transport.send(post(url, body), PATIENT) as response:
                assert await response.read(10) == b"ok"
        await transport.aclose()
        assert to.bodies == [body, body]
        assert to.connections == 1
