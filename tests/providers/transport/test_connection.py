"""One connection, request by request: how answers are framed, and what may stand in them."""

import asyncio
from pathlib import Path

import pytest

from server.core.errors import DragomanError, ProviderProtocolError, StreamTruncated
from server.providers.transport.client import HttpTransport
from server.providers.transport.connection import MOST_UNREAD_BYTES, STREAMED_BODY_BYTES
from server.providers.transport.resolver import Address
from tests.providers.transport.certificates import tls_contexts
from tests.providers.transport.peer import (
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
)


async def test_interim_responses_are_passed_over(transport: HttpTransport) -> None:
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
async def test_a_connection_that_ends_with_its_answer_is_not_used_again(transport: HttpTransport, head: bytes) -> None:
    """Bodies until the end of the connection are whole, and the next request has a connection of its own."""
    async with peer(closing(head, b"ok")) as to:
        for number in range(1, 3):
            assert await fetch(transport, to.url) == b"ok"
            assert to.connections == number


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_a_status_without_a_body_ends_at_its_head(transport: HttpTransport, status: bytes) -> None:
    """Nothing is waited for, and the connection is used again."""
    async with peer(answering(b"HTTP/1.1 %s\r\n\r\n" % status)) as to:
        for _ in range(2):
            async with transport.send(post(to.url), PATIENT) as response:
                assert (response.status, await response.read(10)) == (int(status[:3]), b"")
        assert to.connections == 1


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

        transport = HttpTransport(resolver, ssl_context=client_tls)
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
        transport = HttpTransport(to.resolver, ssl_context=client_tls)
        for _ in range(2):
            url = f"{'https' if tls else 'http'}://provider.test:{to.port}/"
            async with transport.send(post(url, body), PATIENT) as response:
                assert await response.read(10) == b"ok"
        await transport.aclose()
        assert to.bodies == [body, body]
        assert to.connections == 1


async def test_a_slow_reader_of_a_large_answer_gets_all_of_it(transport: HttpTransport) -> None:
    """The socket is not read while much waits, and is read again when that was taken; the connection lives on."""
    body = bytes(range(256)) * (20 * MOST_UNREAD_BYTES // 256)
    async with peer(answering(plain(body))) as to:
        for _ in range(2):
            got = []
            async with transport.send(post(to.url), PATIENT) as response:
                while piece := await response.receive():
                    got.append(piece)
                    await asyncio.sleep(0.002)
            assert b"".join(got) == body
            assert max(map(len, got)) <= 4 * MOST_UNREAD_BYTES
        assert to.connections == 1


# --- what may stand in an answer ------------------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\n"
TWO = b"content-length: 2\r\n\r\nok"

TAKEN = {
    "line feeds alone": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "no reason": b"HTTP/1.1 200\r\n" + TWO,
    "a folded value": OK + b"x-a: one\r\n two\r\n" + TWO,
    "an empty value": OK + b"x-a:\r\n" + TWO,
    "bytes that are no UTF-8": OK + b"x-a: \xff\xfe\r\n" + TWO,
    "blank lines before it": b"\r\n\r\n" + OK + TWO,
    "trailers": CHUNKED + b"2\r\nok\r\n0\r\nx-a: b\r\nstatus: 500\r\n\r\n",
    "chunk extensions": CHUNKED + b'2;a=b;c="d"\r\nok\r\n0;e\r\n\r\n',
    "spaces after a chunk's size": CHUNKED + b"2  \r\nok\r\n" + END,
    "an upgrade on offer": OK + b"connection: upgrade, keep-alive\r\nupgrade: h2c\r\n" + TWO,
    "many headers": OK + b"".join(b"x-%d: y\r\n" % number for number in range(100)) + TWO,
    "a long header": OK + b"x-a: " + bytes(b"x" * 30_000) + b"\r\n" + TWO,
    "interim answers": b"HTTP/1.1 102 Processing\r\nx-b: c\r\n\r\n" * 3 + OK + TWO,
}  # fmt: skip


@pytest.mark.parametrize("answer", TAKEN.values(), ids=TAKEN.keys())
async def test_what_providers_get_wrong_or_need_not_do_is_taken(transport: HttpTransport, answer: bytes) -> None:
    """And leaves the connection in a state in which it is used again."""
    async with peer(answering(answer)) as to:
        for _ in range(2):
            async with transport.send(post(to.url), PATIENT) as response:
                assert (response.status, await response.read(10)) == (200, b"ok")
                assert "x-b" not in response.headers
                assert "status" not in response.headers
        assert to.connections == 1


async def test_headers_are_given_by_lower_case_name(transport: HttpTransport) -> None:
    """Repeated ones joined, blanks around a value gone, other bytes kept as surrogates."""
    head = b"X-A: one\r\nx-a:   two \t\r\nX-Raw: \xc3\xa9\xff\r\n"
    async with peer(answering(OK + head + TWO)) as to, transport.send(post(to.url), PATIENT) as response:
        assert response.headers == {"x-a": "one, two", "x-raw": "é\udcff", "content-length": "2"}


LONG = b"x" * 40_000

REFUSED: dict[str, bytes] = {
    "two lengths": OK + b"content-length: 2\r\n" + TWO,
    "a length and chunks": OK + b"transfer-encoding: chunked\r\n" + TWO,
    "a length that is none": OK + b"content-length: -2\r\n\r\nok",
    "a chunk size that is none": CHUNKED + b"xy\r\nok\r\n" + END,
    "a chunk longer than it says": CHUNKED + b"1\r\nok\r\n" + END,
    "a null in a value": OK + b"x-a: a\0b\r\n" + TWO,
    "a name with a space": OK + b"x a: b\r\n" + TWO,
    "a header that is too long": OK + b"x-a: " + LONG + b"\r\n" + TWO,
    "a name that is too long": OK + LONG + b": a\r\n" + TWO,
    "a header without an end": OK + b"x-a: " + LONG * 4,
    "a status line without an end": b"HTTP/1.1 200 " + LONG * 4,
    "a head that is too long": OK + (b"x-a: " + LONG[:20_000] + b"\r\n") * 4 + TWO,
    "too many headers": OK + b"x: y\r\n" * 200 + TWO,
    "another protocol": b"ICY 200 OK\r\n\r\n",
    "interim answers without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 8_000,
    "interim answers with too much": (b"HTTP/1.1 100 Continue\r\nx-a: " + LONG[:20_000] + b"\r\n\r\n") * 8,
    "trailers without end": CHUNKED + b"0\r\n" + b"x-a: b\r\n" * 40_000,
    "a trailer without an end": CHUNKED + b"0\r\nx-a: " + LONG * 8,
    "an extension without an end": CHUNKED + b"2;" + LONG * 8,
}  # fmt: skip


@pytest.mark.parametrize("answer", REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_no_http_or_too_much_of_it_is_an_error(transport: HttpTransport, answer: bytes) -> None:
    """Nothing is waited for, nothing is held without bound, and the connection is closed."""
    async with peer(hanging(answer)) as to:
        with pytest.raises(ProviderProtocolError, match="not HTTP"):
            await fetch(transport, to.url)
        await to.gone.wait()


AFTER = {
    "another answer": plain(b"too slow", status=b"408 Request Timeout"),
    "half of another answer": b"HTTP/1.1 408 Requ",
    "no HTTP": b"what?",
    "a chunk": b"2\r\nok\r\n",
}


@pytest.mark.parametrize("extra", AFTER.values(), ids=AFTER.keys())
@pytest.mark.parametrize("whole", [plain(b"ok"), CHUNKED + b"2\r\nok\r\n" + END, b"HTTP/1.1 204 No Content\r\n\r\n"])
async def test_what_comes_behind_an_answer_is_no_part_of_any(
    transport: HttpTransport, whole: bytes, extra: bytes
) -> None:
    """Not of the answer before it, in the same read, and not of the next one's: that has a connection of its own."""
    async with peer(answering(whole + extra)) as to:
        for number in range(1, 3):
            assert await fetch(transport, to.url) in (b"ok", b"")
            assert to.connections == number


async def test_a_protocol_that_was_switched_has_no_body(transport: HttpTransport) -> None:
    """101 is nothing that was asked for: its status is given, and its connection is not used again."""
    switched = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nbytes"
    async with peer(answering(switched)) as to:
        for number in range(1, 3):
            async with transport.send(post(to.url), PATIENT) as response:
                assert (response.status, await response.read(10)) == (101, b"")
            assert to.connections == number


ANSWERS = {
    "length": OK + b"x-a: b\r\ncontent-length: 5\r\n\r\nhello",
    "chunks": CHUNKED + b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nx-t: u\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_an_answer_may_be_cut_anywhere(transport: HttpTransport, answer: bytes) -> None:
    """Wherever one read ends and the next begins, the answer is the same."""
    halves = iter([(answer[:cut], answer[cut:]) for cut in range(1, len(answer))])

    async def handler(call: Call) -> None:
        first, second = next(halves)
        await call.write(first)
        await asyncio.sleep(0.002)
        await call.write(second)

    async with peer(handler) as to:
        for _ in range(1, len(answer)):
            assert await fetch(transport, to.url) == b"hello"
        assert to.connections == 1


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("reset", [False, True])
async def test_an_answer_that_stops_anywhere_is_an_error(transport: HttpTransport, answer: bytes, reset: bool) -> None:
    """Never half an answer as a whole one. What did come of a stream can be read before that is said."""
    for cut in range(1, len(answer), 7 if reset else 1):
        async with peer(closing(answer[:cut], reset=reset)) as to:
            with pytest.raises(DragomanError, match=r"without an answer|middle of its answer"):
                await fetch(transport, to.url)
            assert len(to.heads) == 1


async def test_what_came_before_an_end_can_be_read(transport: HttpTransport) -> None:
    """A stream's last events are not lost because its connection was."""

    async def handler(call: Call) -> None:
        await call.write(CHUNKED)
        await call.chunk(b"one", b"two")
        call.writer.close()

    async with peer(handler) as to, transport.send(post(to.url), PATIENT) as response:
        assert response._connection is not None
        await response._connection.closed
        assert await response.receive() == b"onetwo"
        with pytest.raises(StreamTruncated):
            await response.receive()
