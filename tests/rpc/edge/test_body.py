"""Calls by the body alone: no frames in, no frames out, and every end is HTTP's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody

from server.rpc.compat.errors import BODY_HEADER, RETRY_HEADER, STATUS_HEADER
from server.rpc.context import MESSAGE_BYTES
from server.rpc.edge.server import EdgeServer, MethodTable
from tests.rpc.edge.test_server import HOST, MOST, Answer, Behavior, all_of, ask, request, writing
from tests.support.grpc_frames import frame

PATH = "/dragoman.v1.OpenAIService/Call"


@contextlib.asynccontextmanager
async def serving(behavior: Behavior, *, unary: bool = False) -> AsyncIterator[tuple[EdgeServer, int]]:
    """A server of one method that takes and gives HttpBody."""
    table = MethodTable()
    make = grpc.unary_unary_rpc_method_handler if unary else grpc.unary_stream_rpc_method_handler
    handler = make(behavior if unary else writing(behavior), HttpBody.FromString, HttpBody.SerializeToString)
    table.add_registered_method_handlers("dragoman.v1.OpenAIService", {"Call": handler})
    server = EdgeServer(table.methods, table.bodies, max_message_bytes=MOST)
    port = await server.start(HOST, 0)
    try:
        yield server, port
    finally:
        await server.stop(None)


def by_body(data: bytes, more: str = "", query: str = "") -> bytes:
    return request(PATH + query, data, "application/json", more)


def document(data: bytes) -> HttpBody:
    return HttpBody(content_type="application/json", data=data)


def events(data: bytes) -> HttpBody:
    return HttpBody(content_type="text/event-stream", data=data)


async def test_a_body_goes_in_and_a_document_with_its_length_comes_out() -> None:
    """With its size known to the limits, and a query dropped."""

    async def behave(message: HttpBody, context: Any) -> AsyncIterator[HttpBody]:
        assert (message.content_type, message.data) == ("application/json", b'{"a":1}')
        assert MESSAGE_BYTES.get() == len(message.data)
        await context.send_initial_metadata((("x-dragoman-warning", "dropped seed"),))
        context.set_trailing_metadata((("never", "shown"),))
        yield document(b'{"b":2}')

    async with serving(behave) as (_, port):
        answer = await ask(port, by_body(b'{"a":1}', query="?beta=true"))
    assert answer.line.startswith("HTTP/1.1 200")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == "7"
    assert answer.headers["x-dragoman-warning"] == "dropped seed"
    assert "never" not in answer.headers
    assert answer.body == b'{"b":2}'


async def test_a_unary_method_answers_so_too() -> None:
    async def behave(message: HttpBody, _context: Any) -> HttpBody:
        return document(message.data[::-1])

    async with serving(behave, unary=True) as (_, port):
        answer = await ask(port, by_body(b"ab"))
    assert (answer.headers["content-length"], answer.body) == ("2", b"ba")


async def test_a_document_of_several_pieces_is_whole() -> None:
    async def behave(_message: HttpBody, _context: Any) -> AsyncIterator[HttpBody]:
        for data in (b"[1", b"", b",2", b"]"):
            yield document(data)

    async with serving(behave) as (_, port):
        answer = await ask(port, by_body(b""))
    assert "content-length" not in answer.headers
    assert answer.messages == b"[1,2]"
    assert answer.trailers == {}


async def test_events_leave_as_they_come() -> None:
    go_on = asyncio.Event()

    async def behave(_message: HttpBody, _context: Any) -> AsyncIterator[HttpBody]:
        yield events(b"data: 1\n\n")
        await go_on.wait()
        yield events(b"data: 2\n\n")

    async with serving(behave) as (_, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(by_body(b"", "connection: close\r\n"))
        async with asyncio.timeout(10):
            first = await reader.readuntil(b"data: 1\n\n")
            go_on.set()
            answer = Answer(first + await reader.read())
        writer.close()
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.messages == b"data: 1\n\ndata: 2\n\n"


@pytest.mark.parametrize(("said", "status"), [((), "404"), (((STATUS_HEADER, "529"),), "529")])
async def test_an_error_is_the_dialects_body_under_its_status(said: tuple[tuple[str, str], ...], status: str) -> None:
    """Marked as ready for the proxy; what is for gRPC alone stays behind."""

    async def behave(_message: HttpBody, context: Any) -> AsyncIterator[HttpBody]:
        told = ((BODY_HEADER, '{"error":{}}'), (RETRY_HEADER, "false"), ("retry-after", "3"), *said)
        await context.abort(grpc.StatusCode.NOT_FOUND, "none", told)
        yield document(b"")

    async with serving(behave) as (_, port):
        answer = await ask(port, by_body(b"{}"))
    assert answer.line.split()[1] == status
    assert answer.body == b'{"error":{}}'
    assert answer.headers["content-type"] == "application/json"
    assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("3", "false")
    assert answer.headers["x-dragoman-ready"] == "1"
    assert not any(name.startswith("grpc-") for name in answer.headers)
    assert BODY_HEADER not in answer.headers
    assert STATUS_HEADER not in answer.headers


async def test_an_error_without_a_dialects_body_gives_its_words_to_the_proxy() -> None:
    async def behave(_message: HttpBody, context: Any) -> AsyncIterator[HttpBody]:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, 'no "key", 100 %')
        yield document(b"")

    async with serving(behave) as (_, port):
        answer = await ask(port, by_body(b"{}"))
    assert answer.line.split()[1] == "401"
    assert json.loads(answer.body) == {"message": 'no "key", 100 %'}
    assert "x-dragoman-ready" not in answer.headers


async def test_a_document_that_fails_before_its_end_is_an_error_and_no_half_document() -> None:
    async def behave(_message: HttpBody, context: Any) -> AsyncIterator[HttpBody]:
        yield document(b"[1")
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    async with serving(behave) as (_, port):
        answer = await ask(port, by_body(b"{}"))
    assert answer.line.split()[1] == "503"
    assert json.loads(answer.body) == {"message": "gone"}


async def test_events_that_fail_without_a_word_of_their_own_have_no_end() -> None:
    """Nobody takes them for whole."""

    async def behave(_message: HttpBody, context: Any) -> AsyncIterator[HttpBody]:
        yield events(b"data: 1\n\n")
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    async with serving(behave) as (_, port):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(by_body(b"{}"))
        raw = await all_of(reader)
        writer.close()
    assert b"data: 1" in raw
    assert not raw.endswith(b"0\r\n\r\n")


async def test_refusals_of_the_server_speak_the_dialect() -> None:
    """A body that is too large, and a server that goes."""
    began, finish = asyncio.Event(), asyncio.Event()

    async def behave(_message: HttpBody, _context: Any) -> AsyncIterator[HttpBody]:
        began.set()
        await finish.wait()
        yield document(b"done")

    async with serving(behave) as (server, port), asyncio.timeout(10):
        large = await ask(port, by_body(bytes(MOST + 1)))
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(by_body(b"{}"))
        await began.wait()
        writer.write(by_body(b"{}"))  # behind the call that runs
        await asyncio.sleep(0.05)
        stopping = asyncio.ensure_future(server.stop(30))
        await asyncio.sleep(0)
        finish.set()
        raw = await reader.read()
        writer.close()
        await stopping
    assert json.loads(large.body)["error"]["type"]
    assert large.line.split()[1] == "429"
    assert b"done" in raw
    late = Answer(raw[raw.index(b"done") + 4 :])
    assert late.line.split()[1] == "503"
    assert json.loads(late.body)["error"]["message"] == "The gateway is shutting down."
    assert (late.headers["retry-after"], late.headers["connection"]) == ("1", "close")


async def test_the_same_method_is_a_call_of_grpcs_too() -> None:
    async def behave(message: HttpBody, _context: Any) -> AsyncIterator[HttpBody]:
        yield document(message.data)

    async with serving(behave) as (_, port):
        answer = await ask(port, request(PATH, frame(document(b"{}").SerializeToString())))
        other = await ask(port, request(PATH, b"{}", "application/json", verb="PUT"))
    assert answer.messages == frame(document(b"{}").SerializeToString())
    assert answer.trailers == {"grpc-status": "0"}
    assert other.line.split()[1] == "415"
