"""The transport over real sockets when a provider misbehaves: each failure by its type, and nothing secret in it."""

import asyncio
import gzip
import socket
import ssl
from pathlib import Path

import pytest

from server.core.errors import (
    DragomanError,
    NotConfigured,
    ProviderProtocolError,
    ProviderTimeout,
    ProviderUnavailable,
    StreamTruncated,
)
from server.core.ports import CallTimeouts
from server.providers.http import HttpRequest, HttpResponse
from server.providers.transport.client import HttpTransport
from server.providers.transport.resolver import Address
from tests.providers.transport.certificates import tls_contexts
from tests.providers.transport.peer import (
    CANARY,
    CHUNKED,
    PATIENT,
    QUERY,
    Call,
    Handler,
    answering,
    assert_clean,
    closing,
    fetch,
    hanging,
    peer,
    plain,
    post,
    unused_port,
)

# --- failures -------------------------------------------------------------------------------------------------------

FAILURES: dict[str, tuple[Handler, type[DragomanError]]] = {
    "closed before the head": (closing(), ProviderUnavailable),
    "reset before the head": (closing(reset=True), ProviderUnavailable),
    "closed within the head": (closing(b"HTTP/1.1 200 OK\r\ncontent-"), ProviderUnavailable),
    "not HTTP": (hanging(b"SSH-2.0-OpenSSH_9\r\n\r\n"), ProviderProtocolError),
    "a head that never ends": (hanging(b"HTTP/1.1 200 OK\r\nx: " + b"x" * 70_000), ProviderProtocolError),
    "chunked body cut short": (closing(CHUNKED, b"5\r\nhello\r\n"), StreamTruncated),
    "cut within a chunk": (closing(CHUNKED, b"5\r\nhel"), StreamTruncated),
    "content-length not reached": (closing(plain(b"hello")[:-2]), StreamTruncated),
    "reset within the body": (closing(CHUNKED, b"5\r\nhello\r\n", reset=True), StreamTruncated),
    "gzip cut short": (answering(plain(gzip.compress(b"hello")[:-4])), StreamTruncated),
    "an encoding not asked for": (answering(plain(b"x", headers=b"content-encoding: br\r\n")), ProviderProtocolError),
}


@pytest.mark.parametrize(("handler", "expected"), FAILURES.values(), ids=FAILURES.keys())
async def test_each_failure_has_its_type(
    transport: HttpTransport, handler: Handler, expected: type[DragomanError]
) -> None:
    """By type, retryable where a second try may help, and with neither query nor header value in any text."""
    async with peer(handler) as to:
        with pytest.raises(expected) as caught:
            await fetch(transport, to.url)
    assert_clean(caught.value)


async def test_a_refused_connection_is_unavailable(transport: HttpTransport) -> None:
    """Host and port are named, the rest of the URL is not."""
    with pytest.raises(ProviderUnavailable, match=r"127\.0\.0\.1:\d+: connection refused") as caught:
        await fetch(transport, f"http://127.0.0.1:{unused_port()}/v1{QUERY}")
    assert caught.value.retryable
    assert_clean(caught.value)


@pytest.mark.parametrize("answer", [socket.gaierror(socket.EAI_NONAME, "no"), []])
async def test_a_host_without_an_address_is_unavailable(answer) -> None:
    """Whether the lookup failed or found nothing."""

    async def resolver(host: str, port: int) -> list[Address]:
        if isinstance(answer, OSError):
            raise answer
        return list(answer)

    transport = HttpTransport(resolver)
    with pytest.raises(ProviderUnavailable, match=r"provider\.test") as caught:
        await fetch(transport, "http://provider.test/" + QUERY)
    await transport.aclose()
    assert_clean(caught.value)


@pytest.mark.parametrize("url", [
    "ftp://127.0.0.1/", "http:///x", "//127.0.0.1/", "", "http://a b/", "http://127.0.0.1/a b",
    "http://127.0.0.1/\r\nx: y", "http://user:canary-query@127.0.0.1/", "http://127.0.0.1:99999/?canary-query", "http://127.0.0.1:x/",
    "http://[::1/", "http://127.0.0.1\\@evil.test/", "http://.a.test/", "http://a..test/", "http://é.test/", "http://./",
    f"http://{'a' * 64}.test/",
])  # fmt: skip
async def test_a_url_that_cannot_be_sent_is_a_matter_of_configuration(transport: HttpTransport, url: str) -> None:
    """No scheme, no host, credentials, line breaks: refused before anything is connected to."""
    with pytest.raises(NotConfigured) as caught:
        await fetch(transport, url)
    assert_clean(caught.value)


async def test_a_header_with_a_line_break_is_refused(transport: HttpTransport) -> None:
    """A pasted key with a line break becomes an error that does not show it."""
    async with peer(answering(plain(b"ok"))) as to:
        request = HttpRequest("POST", to.url, (("authorization", CANARY + "\r\nx: y"),), b"")
        with pytest.raises(NotConfigured) as caught:
            async with transport.send(request, PATIENT):
                pass
    assert_clean(caught.value)


TIMEOUTS = {
    "no head": (hanging(), CallTimeouts(connect=30, first_token=0.1, idle=30), "first_token"),
    "head, no body": (hanging(CHUNKED), CallTimeouts(connect=30, first_token=0.1, idle=30), "first_token"),
    "silence after it": (hanging(CHUNKED, b"1\r\n{\r\n"), CallTimeouts(connect=30, first_token=30, idle=0.1), "idle"),
    "deadline before the head": (hanging(), CallTimeouts(connect=30, first_token=30, idle=30, total=0.1), "total"),
    "deadline in the body": (
        hanging(CHUNKED, b"1\r\n{\r\n"),
        CallTimeouts(connect=30, first_token=30, idle=30, total=0.1),
        "total",
    ),
    "blank lines are no token": (
        hanging(CHUNKED, b"1\r\n\n\r\n"),
        CallTimeouts(connect=30, first_token=0.1, idle=30),
        "first_token",
    ),
}


@pytest.mark.parametrize(("handler", "timeouts", "phase"), TIMEOUTS.values(), ids=TIMEOUTS.keys())
async def test_a_timeout_names_its_phase_and_closes(
    transport: HttpTransport, handler: Handler, timeouts: CallTimeouts, phase: str
) -> None:
    """Each wait ends by its own timeout, and the provider sees the connection end."""
    async with peer(handler) as to:
        with pytest.raises(ProviderTimeout) as caught:
            await fetch(transport, to.url, timeouts)
        assert caught.value.phase == phase
        await to.gone.wait()
    assert_clean(caught.value)


async def test_comments_do_not_put_off_the_first_token(transport: HttpTransport) -> None:
    """A provider that only keeps alive fails the first-token timeout; the idle one is content with it."""

    async def handler(call: Call) -> None:
        await call.write(CHUNKED)
        while True:
            await call.chunk(b": keep-alive\n\n")
            await asyncio.sleep(0.01)

    async with (
        peer(handler) as to,
        transport.send(post(to.url), CallTimeouts(first_token=0.2, idle=30)) as response,
    ):
        with pytest.raises(ProviderTimeout) as caught:
            await _read_comments(response)
        assert caught.value.phase == "first_token"


async def test_connecting_has_its_own_timeout() -> None:
    """A lookup or a handshake that hangs is the connect phase's."""

    async def resolver(host: str, port: int) -> list[Address]:
        await asyncio.Event().wait()
        raise AssertionError

    transport = HttpTransport(resolver)
    with pytest.raises(ProviderTimeout) as caught:
        await fetch(transport, "http://provider.test/" + QUERY, CallTimeouts(connect=0.05))
    await transport.aclose()
    assert caught.value.phase == "connect"
    assert_clean(caught.value)


# --- TLS ------------------------------------------------------------------------------------------------------------


async def test_a_private_ca_is_trusted_when_it_was_given_and_only_then(certificate: Path) -> None:
    """The certificate is checked against the URL's host although the address was pinned."""
    server_tls, client_tls = tls_contexts(certificate)
    async with peer(answering(plain(b"ok")), tls=server_tls) as to:
        trusting = HttpTransport(to.resolver, ssl_context=client_tls)
        assert await fetch(trusting, f"https://provider.test:{to.port}/") == b"ok"
        untrusting = HttpTransport(to.resolver)
        for transport, host in ((trusting, "other.test"), (trusting, "127.0.0.1"), (untrusting, "provider.test")):
            with pytest.raises(ProviderUnavailable, match="certificate") as caught:
                await fetch(transport, f"https://{host}:{to.port}/{QUERY}")
            assert not caught.value.retryable
            assert_clean(caught.value)
        await trusting.aclose()
        await untrusting.aclose()


@pytest.mark.parametrize("weaken", ["hostname", "certificate"])
def test_a_context_that_does_not_verify_is_not_taken(weaken: str) -> None:
    """Verification cannot be switched off."""
    context = ssl.create_default_context()
    context.check_hostname = False
    if weaken == "certificate":
        context.verify_mode = ssl.CERT_NONE
    with pytest.raises(ValueError, match="verify"):
        HttpTransport(ssl_context=context)


async def _read_comments(response: HttpResponse) -> None:
    while chunk := await response.receive():
        assert chunk.startswith(b":")
