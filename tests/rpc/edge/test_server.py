"""The server's side to Envoy, spoken to directly: what it refuses, how calls end, and that none is cut silently."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from server.core.setup import SetupError
from server.rpc.edge.server import EdgeServer, MethodTable
from tests.support.grpc_frames import frame

MOST = 100_000
HOST = "127.0.0.1"

Behavior = Callable[[bytes, Any], Any]


class Answer:
    """A response, whole: status line, headers (first of a name), body as it came, and whether its end came."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        self.line, *lines = head.decode().split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        self.headers = {name.lower(): value for name, value in reversed(pairs)}

    @property
    def messages(self) -> bytes:
        """The chunks of the body, and what stands behind the last one."""
        content, rest = b"", self.body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            if not int(size, 16):
                self.trailers = dict(line.split(": ", 1) for line in rest.decode().split("\r\n") if line)
                return content
            content, rest = content + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        raise AssertionError("the body has no end")


def writing(stream: Behavior) -> Behavior:
    """A generator of messages as the interceptor hands it over: a coroutine that writes them."""

    async def write(message: bytes, context: Any) -> None:
        async with contextlib.aclosing(stream(message, context)) as messages:
            async for each in messages:
                await context.write(each)

    return write


@contextlib.asynccontextmanager
async def serving(
    unary: Behavior | None = None, stream: Behavior | None = None
) -> AsyncIterator[tuple[EdgeServer, int]]:
    """A server of two methods that take and give bytes."""
    table = MethodTable()
    handlers = {}
    if unary:
        handlers["Unary"] = grpc.unary_unary_rpc_method_handler(unary, bytes, bytes)
    if stream:
        handlers["Stream"] = grpc.unary_stream_rpc_method_handler(writing(stream), bytes, bytes)
    table.add_registered_method_handlers("test.v1.Test", handlers)
    server = EdgeServer(table.methods, max_message_bytes=MOST)
    port = await server.start(HOST, 0)
    try:
        yield server, port
    finally:
        await server.stop(None)


def request(
    path: str, body: bytes, content_type: str = "application/grpc", more: str = "", verb: str = "POST"
) -> bytes:
    head = f"{verb} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {content_type}\r\n"
    return f"{head}content-length: {len(body)}\r\n{more}\r\n".encode() + body


async def ask(port: int, sent: bytes) -> Answer:
    """One request on a connection of its own, and all that came until it was closed."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(sent.replace(b"\r\nhost:", b"\r\nconnection: close\r\nhost:", 1))
    async with asyncio.timeout(10):
        raw = await reader.read()
    writer.close()
    return Answer(raw)


async def all_of(reader: asyncio.StreamReader) -> bytes:
    """What came until the connection was closed, in order or by a reset."""
    raw = b""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                raw += piece
    return raw


async def echo(message: bytes, _context: Any) -> bytes:
    return message.upper()


async def test_a_whole_answer_is_a_message_and_a_status_in_the_trailers() -> None:
    async with serving(echo) as (_, port):
        answer = await ask(port, request("/test.v1.Test/Unary", frame(b"hello")))
    assert answer.line == "HTTP/1.1 200 OK"
    assert answer.headers["content-type"] == "application/grpc"
    assert "content-length" not in answer.headers
    assert answer.messages == frame(b"HELLO")
    assert answer.trailers == {"grpc-status": "0"}


async def test_metadata_goes_both_ways() -> None:
    """Headers in lower case in; initial metadata as headers, trailing as trailers out; binary as base64."""

    async def unary(_message: bytes, context: Any) -> bytes:
        seen = dict(context.invocation_metadata())
        await context.send_initial_metadata((("first", seen["x-key"]),))
        context.set_trailing_metadata((("last-bin", b"\0"),))
        return b""

    async with serving(unary) as (_, port):
        answer = await ask(port, request("/test.v1.Test/Unary", frame(b""), more="X-Key: Value\r\n"))
    assert answer.headers["first"] == "Value"
    assert answer.messages == frame(b"")
    assert answer.trailers == {"grpc-status": "0", "last-bin": "AA"}


async def test_a_call_that_fails_first_is_answered_by_headers_alone() -> None:
    async def fail(_message: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "none, 100 %", (("retry-after", "3"), ("d-bin", b"\1")))
        raise AssertionError("abort raises")

    async def fail_streaming(message: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await fail(message, context)

    async with serving(fail, fail_streaming) as (_, port):
        for method in ("Unary", "Stream"):
            answer = await ask(port, request(f"/test.v1.Test/{method}", frame(b"")))
            assert answer.headers["grpc-status"] == "5"
            assert answer.headers["grpc-message"] == "none, 100 %25"
            assert answer.headers["retry-after"] == "3"
            assert answer.headers["d-bin"] == "AQ"
            assert answer.headers["content-length"] == "0"


async def test_a_stream_is_sent_as_it_comes_and_says_how_it_ended() -> None:
    """Its first message arrives while the second is held back; a failure is in the trailers."""
    go_on = asyncio.Event()

    async def stream(_message: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"one"
        await go_on.wait()
        yield b"two"
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    async with serving(stream=stream) as (_, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(request("/test.v1.Test/Stream", frame(b""), more="connection: close\r\n"))
        async with asyncio.timeout(10):
            first = await reader.readuntil(frame(b"one"))
            go_on.set()
            answer = Answer(first + await reader.read())
        writer.close()
    assert answer.messages == frame(b"one") + frame(b"two")
    assert answer.trailers == {"grpc-status": "14", "grpc-message": "gone"}


async def test_an_empty_stream_ends_well() -> None:
    async def stream(_message: bytes, _context: Any) -> AsyncIterator[bytes]:
        for each in list[bytes]():
            yield each

    async with serving(stream=stream) as (_, port):
        answer = await ask(port, request("/test.v1.Test/Stream", frame(b"")))
    assert answer.messages == b""
    assert answer.trailers == {"grpc-status": "0"}


async def test_a_defect_within_a_stream_cuts_it_visibly(caplog: pytest.LogCaptureFixture) -> None:
    """No end of the body: nobody takes it for whole. The log names the method."""

    async def stream(_message: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield b"one"
        raise RuntimeError("canary-of-a-prompt")

    async with serving(stream=stream) as (_, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(request("/test.v1.Test/Stream", frame(b"")))
        raw = await all_of(reader)
        writer.close()
    assert frame(b"one") in raw
    assert not raw.endswith(b"\r\n\r\n")
    assert [record.message for record in caplog.records if record.name == "dragoman.edge"] == ["call failed"]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (request("/test.v1.Test/Nothing", frame(b"")), "12"),
        (request("/test.v1.Test/Unary?x=1", frame(b"")), "12"),
        (request("/test.v1.Test/Unary", b"\1\0\0\0\0", more="grpc-encoding: br\r\n"), "12"),
        (request("/test.v1.Test/Unary", b"\1\0\0\0\0", more="grpc-encoding: gzip\r\n"), "13"),
        (request("/test.v1.Test/Unary", b""), "13"),
        (request("/test.v1.Test/Unary", frame(bytes(MOST + 1))), "8"),
    ],
    ids=["unknown method", "query", "unknown compression", "not compressed", "no message", "too large"],
)
async def test_what_is_no_call_is_a_status(sent: bytes, code: str) -> None:
    async with serving(echo) as (_, port):
        answer = await ask(port, sent)
    assert answer.line == "HTTP/1.1 200 OK"
    assert answer.headers["grpc-status"] == code
    assert answer.headers["grpc-message"]


@pytest.mark.parametrize(
    "sent",
    [
        request("/test.v1.Test/Unary", b"{}", "application/json"),
        request("/test.v1.Test/Unary", b"", verb="GET"),
        request("/test.v1.Test/Unary", frame(b""), "application/grpc-web"),
    ],
    ids=["JSON", "GET", "gRPC-Web"],
)
async def test_anybody_but_the_proxy_is_told_so(sent: bytes) -> None:
    """Somebody who took this port for the REST one is told by HTTP's own status."""
    async with serving(echo) as (_, port):
        assert (await ask(port, sent)).line.startswith("HTTP/1.1 415")


async def test_a_deadline_ends_the_call_and_its_work() -> None:
    """As a status: before the first message alone in the headers, after it in the trailers."""
    cancelled = asyncio.Queue[None]()

    async def unary(_message: bytes, context: Any) -> bytes:
        assert 0 < context.time_remaining() <= 0.05
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.put_nowait(None)
        return b""

    async def stream(message: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"one"
        yield await unary(message, context)

    async with serving(unary, stream) as (_, port), asyncio.timeout(10):
        first = await ask(port, request("/test.v1.Test/Unary", frame(b""), more="grpc-timeout: 50m\r\n"))
        await cancelled.get()
        later = await ask(port, request("/test.v1.Test/Stream", frame(b""), more="grpc-timeout: 50m\r\n"))
        await cancelled.get()
    assert first.headers["grpc-status"] == "4"
    assert later.messages == frame(b"one")
    assert later.trailers["grpc-status"] == "4"


async def test_a_refusal_of_the_gateways_own_says_whose_fault_it_is_in_fields() -> None:
    async with serving(echo) as (_, port):
        answer = await ask(port, request("/test.v1.Test/Unary", frame(bytes(MOST + 1))))
    packed = answer.headers["grpc-status-details-bin"]
    said = status_pb2.Status.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4)))
    info = error_details_pb2.ErrorInfo.FromString(said.details[0].value)
    assert (info.reason, info.metadata["fault"], info.metadata["retryable"]) == ("LIMIT_EXCEEDED", "caller", "false")
    assert info.metadata["limit"] == f"{MOST} bytes"


async def test_one_connection_carries_calls_one_after_the_other() -> None:
    async with serving(echo) as (_, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        for word in (b"a", b"b", b"c"):
            writer.write(request("/test.v1.Test/Unary", frame(word)))
            async with asyncio.timeout(10):
                raw = await reader.readuntil(b"grpc-status: 0\r\n\r\n")
            assert frame(word.upper()) in raw
        writer.close()


async def test_requests_that_were_sent_ahead_are_answered_in_their_order() -> None:
    """One at a time: the second call begins when the first has ended."""
    running = most = 0

    async def slow(message: bytes, _context: Any) -> bytes:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(0.01 if message == b"a" else 0)
        running -= 1
        return message.upper()

    async with serving(slow) as (_, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"".join(request("/test.v1.Test/Unary", frame(word)) for word in (b"a", b"b", b"c")))
        raw = b""
        async with asyncio.timeout(10):
            for _each in range(3):
                raw += await reader.readuntil(b"grpc-status: 0\r\n\r\n")
        writer.close()
    assert raw.index(frame(b"A")) < raw.index(frame(b"B")) < raw.index(frame(b"C"))
    assert most == 1


async def test_after_the_last_request_of_a_connection_nothing_is_served() -> None:
    """`connection: close` holds for what was sent behind it."""
    served = []

    async def note(message: bytes, _context: Any) -> bytes:
        served.append(message)
        return message

    first = request("/test.v1.Test/Unary", frame(b"a"), more="connection: close\r\n")
    async with serving(note) as (_, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(first + request("/test.v1.Test/Unary", frame(b"b")))
        async with asyncio.timeout(10):
            raw = await reader.read()
        writer.close()
    assert Answer(raw).messages == frame(b"a")
    assert served == [frame(b"a")[5:]]


@pytest.mark.parametrize("cut", [1, 7, 30, 100])
async def test_a_request_may_come_in_pieces(cut: int) -> None:
    whole = request("/test.v1.Test/Unary", frame(b"hello"), more="X-Key: a value\r\n")

    async def unary(_message: bytes, context: Any) -> bytes:
        return str(dict(context.invocation_metadata())["x-key"]).encode()

    async with serving(unary) as (_, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        for at in range(0, len(whole), cut):
            writer.write(whole[at : at + cut])
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            raw = await reader.readuntil(b"grpc-status: 0\r\n\r\n")
        writer.close()
    assert frame(b"a value") in raw


def chunked(body: bytes, size: int) -> bytes:
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


CHUNKED = (
    b"POST /test.v1.Test/Unary HTTP/1.1\r\nhost: x\r\n"
    b"content-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n"
)


@pytest.mark.parametrize(("size", "status"), [(MOST, "0"), (MOST + 1, "8"), (MOST * 20, "8")])
async def test_a_body_in_chunks_may_be_as_large_as_another(size: int, status: str) -> None:
    """What frames the chunks does not count; what is too large is read to its end, and the connection goes on."""
    async with serving(echo) as (_, port):
        reader, writer = await asyncio.open_connection(HOST, port, limit=MOST * 2)
        for sent, said in ((CHUNKED + chunked(frame(bytes(size)), 10), status), (request("/none", b""), "12")):
            writer.write(sent)
            async with asyncio.timeout(10):
                raw = await reader.readuntil(b"grpc-status: ")
                assert (await reader.readline()).strip().decode() == said
                if said == "0":
                    assert frame(bytes(size)) in raw
                await reader.readuntil(b"\r\n")
        writer.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", "400"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", "400"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nmore", "415"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
        (b"POST / HTTP/1.1\r\nx: " + b"a" * 300_000, "431"),
        (b"POST /" + b"a" * 300_000, "431"),
    ],
    ids=["no HTTP", "two lengths", "a negative length", "an upgrade", "HTTP/2", "a long header", "a long path"],
)
async def test_what_is_no_request_ends_the_connection(sent: bytes, status: str) -> None:
    """By a status of HTTP, and nothing after it."""
    async with serving(echo) as (_, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(sent)
        raw = await all_of(reader)
        writer.close()
    assert raw.startswith(f"HTTP/1.1 {status}".encode())
    assert raw.count(b"HTTP/1.1") == 1


async def test_a_caller_who_goes_away_ends_its_call() -> None:
    """Before the first message and within the stream."""
    began, cancelled = asyncio.Queue[None](), asyncio.Queue[None]()

    async def unary(_message: bytes, _context: Any) -> bytes:
        began.put_nowait(None)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.put_nowait(None)
        return b""

    async def stream(message: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"one"
        yield await unary(message, context)

    async with serving(unary, stream) as (_, port), asyncio.timeout(10):
        for method in ("Unary", "Stream"):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.write(request(f"/test.v1.Test/{method}", frame(b"")))
            await began.get()
            writer.close()
            await cancelled.get()


async def test_a_caller_who_does_not_read_is_waited_for() -> None:
    """What is held for it stays bounded: of an endless stream only as much is made as buffers hold."""
    made = 0

    async def endless(_message: bytes, _context: Any) -> AsyncIterator[bytes]:
        nonlocal made
        while True:
            yield bytes(16_384)
            made += 1

    async with serving(stream=endless) as (_, port):
        reader, writer = await asyncio.open_connection(HOST, port, limit=16_384)
        writer.write(request("/test.v1.Test/Stream", frame(b"")))
        before = -1
        async with asyncio.timeout(20):
            while before != made:
                before = made
                await asyncio.sleep(0.3)
            stood = made
            # It goes on once the caller reads.
            while made == stood:
                await reader.read(1 << 20)
        writer.transport.abort()
    assert stood < 2000


async def test_running_calls_may_finish_and_new_ones_are_turned_away() -> None:
    began, finish = asyncio.Event(), asyncio.Event()

    async def slow(_message: bytes, _context: Any) -> bytes:
        began.set()
        await finish.wait()
        return b"done"

    async with serving(slow) as (server, port), asyncio.timeout(10):
        running = asyncio.ensure_future(ask(port, request("/test.v1.Test/Unary", frame(b""))))
        await began.wait()
        stopping = asyncio.ensure_future(server.stop(30))
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, port)
        assert not stopping.done()
        finish.set()
        assert (await running).messages == frame(b"done")
        await stopping


async def test_a_second_stop_ends_the_grace() -> None:
    """The call is cut, visibly."""
    began = asyncio.Event()

    async def never(_message: bytes, _context: Any) -> bytes:
        began.set()
        await asyncio.Event().wait()
        return b""

    async with serving(never) as (server, port), asyncio.timeout(10):
        running = asyncio.ensure_future(ask(port, request("/test.v1.Test/Unary", frame(b""))))
        await began.wait()
        stopping = asyncio.ensure_future(server.stop(3600))
        await asyncio.sleep(0)
        await server.stop(None)
        await stopping
        with contextlib.suppress(ConnectionError):
            assert (await running).line == ""


async def test_a_taken_port_is_a_setup_error() -> None:
    async with serving(echo) as (_, port):
        other = EdgeServer({}, max_message_bytes=MOST)
        with pytest.raises(SetupError, match=rf"{HOST}:{port} .*taken"):
            await other.start(HOST, port)


def test_a_method_that_takes_a_stream_is_refused() -> None:
    handler = grpc.stream_unary_rpc_method_handler(echo, bytes, bytes)
    with pytest.raises(ValueError, match=r"test\.v1\.Test/Upload takes a stream"):
        MethodTable().add_registered_method_handlers("test.v1.Test", {"Upload": handler})


async def test_a_line_break_in_metadata_ends_no_header() -> None:
    """It is a defect of the server's, which cuts the call rather than let it write headers."""

    async def unary(_message: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("x", "a\r\ninjected: 1"),))
        return b""

    async with serving(unary) as (_, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(request("/test.v1.Test/Unary", frame(b"")))
        raw = await all_of(reader)
        writer.close()
    assert b"injected" not in raw
    assert not raw.endswith(b"\r\n\r\n")
