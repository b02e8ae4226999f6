"""Streams and other forms of an answer: who gets them, when events arrive, and what hanging up does."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody

from dragoman.v1.chat_pb2 import BlockDelta, ChatEvent
from tests.e2e.echo import Echo
from tests.e2e.envoy import Proxy

GENERATE = "/api/v1/ai/llm/generate"
CHAT = "/api/v1/ai/llm/chat"
RUNTIME = "/api/v1/runtime/v1/chat"
SSE = {"accept": "text/event-stream"}


async def three_events(_request: object, _context: object) -> AsyncIterator[ChatEvent]:
    """Three events; the last one's text needs escaping."""
    for number, text in enumerate(("a", "b", 'c"\n\né'), start=1):
        yield ChatEvent(sequence=number, block_delta=BlockDelta(index=0, text=text))


def events(body: str) -> list[Any]:
    """The events of an SSE body that has nothing but data lines."""
    frames = body.split("\n\n")
    assert frames.pop() == ""
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


@pytest.mark.parametrize("path", [CHAT, RUNTIME])
def test_a_chat_streams_where_its_media_type_is_asked_for(rest: httpx.Client, echo: Echo, path: str) -> None:
    """With Accept: text/event-stream the documented chat paths answer one SSE frame an event, for no cache to keep."""
    echo.handlers["Chat"] = three_events
    response = rest.post(path, json={"model": "m"}, headers=SSE)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert [one["blockDelta"]["text"] for one in events(response.text)] == ["a", "b", 'c"\n\né']
    assert [one["sequence"] for one in events(response.text)] == [1, 2, 3]
    assert echo.last.request.model == "m"


@pytest.mark.parametrize(
    ("accept", "rpc"),
    [
        ("text/event-stream", "Chat"),
        ("Text/Event-Stream; charset=utf-8", "Chat"),
        ("application/json, text/event-stream", "Chat"),
        ("text/event-stream, application/json;q=0.5", "Chat"),
        ("application/json;q=0.5,text/event-stream;q=1.0", "Chat"),
        ("text/html;q=0.9 , text/event-stream ; q=1", "Chat"),
        ("text/event-stream;q=0.4", "Chat"),
        ("text/event-stream;q=0.4, */*;q=0.1", "Chat"),
        ("text/event-stream;q=0.4, application/json", "Complete"),
        ("text/event-stream;q=0.9, application/json;q=0.9", "Complete"),
        ("text/event-stream;q=0", "Complete"),
        ("text/event-stream;q=0.000, */*", "Complete"),
        ("text/event-streams", "Complete"),
        ("x-text/event-stream", "Complete"),
        ("application/json", "Complete"),
        ("*/*", "Complete"),
        ("", "Complete"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, RUNTIME])
def test_accept_chooses_between_stream_and_whole_answer(
    rest: httpx.Client, echo: Echo, path: str, accept: str, rpc: str
) -> None:
    """The stream is taken where it is named and JSON is not preferred: in lists, with weights, in any case."""
    rest.post(path, json={}, headers={"accept": accept})
    assert echo.last.method == rpc


@pytest.mark.parametrize(
    ("accept", "rpc"),
    [
        ("text/plain", "GenerateText"),
        ("TEXT/PLAIN;charset=utf-8, */*;q=0.1", "GenerateText"),
        ("text/plain;q=0.2", "GenerateText"),
        ("text/plain;q=0", "Generate"),
        ("application/json, text/plain, */*", "Generate"),
        ("text/*", "Generate"),
        ("*/*", "Generate"),
    ],
)
def test_accept_chooses_between_text_and_json(rest: httpx.Client, echo: Echo, accept: str, rpc: str) -> None:
    """Bare text is for those who name it and not JSON: some clients name both by default and mean JSON."""
    rest.post(GENERATE, json={}, headers={"accept": accept})
    assert echo.last.method == rpc


def test_text_is_the_bare_text(rest: httpx.Client, echo: Echo) -> None:
    """Accept: text/plain gets the answer's bytes and nothing else."""

    async def text(_request: object, _context: object) -> HttpBody:
        return HttpBody(content_type="text/plain; charset=utf-8", data='say "é"\n'.encode())

    echo.handlers["GenerateText"] = text
    response = rest.post(GENERATE, json={"prompt": "x"}, headers={"accept": "text/plain"})
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text == 'say "é"\n'


def test_each_event_arrives_before_the_next_is_made(rest: httpx.Client, echo: Echo) -> None:
    """Nothing on the way waits for more: the server goes on only when the client has what came before."""
    seen: list[asyncio.Event] = [asyncio.Event() for _ in range(3)]
    loops: list[asyncio.AbstractEventLoop] = []

    async def one_by_one(_request: object, _context: object) -> AsyncIterator[ChatEvent]:
        loops.append(asyncio.get_running_loop())
        for number in range(3):
            yield ChatEvent(sequence=number + 1)
            await seen[number].wait()

    echo.handlers["Chat"] = one_by_one
    with rest.stream("POST", CHAT, json={}, headers=SSE) as response:
        for number, line in enumerate(line for line in response.iter_lines() if line):
            assert json.loads(line.removeprefix("data: ")) == {"sequence": number + 1}
            loops[0].call_soon_threadsafe(seen[number].set)
    assert number == 2


def test_a_stream_that_fails_later_keeps_what_came(rest: httpx.Client, echo: Echo) -> None:
    """After its first event a failure cannot change the HTTP status: the stream ends; hence terminal events in band."""

    async def cut(_request: object, context: Any) -> AsyncIterator[ChatEvent]:
        yield ChatEvent(sequence=1)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    echo.handlers["Chat"] = cut
    response = rest.post(CHAT, json={}, headers=SSE)
    assert response.status_code == 200
    assert events(response.text) == [{"sequence": 1}]


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
def test_a_caller_that_hangs_up_before_the_answer_cancels_the_call(edge: Proxy, echo: Echo, accept: str) -> None:
    """Closing the connection while the server works cancels the RPC, streaming or not."""

    async def never(_request: object, _context: object) -> None:
        await asyncio.Event().wait()

    async def never_streaming(request: object, context: object) -> AsyncIterator[ChatEvent]:
        await never(request, context)
        yield ChatEvent()

    echo.handlers.update(Complete=never, Chat=never_streaming)
    with socket.create_connection(("127.0.0.1", edge.rest)) as connection:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\ncontent-length: 2\r\n\r\n{{}}"
        connection.sendall(head.encode())
        assert echo.called.wait(5)
    assert echo.cancelled.wait(5)


def test_a_caller_that_hangs_up_within_a_stream_cancels_the_call(rest: httpx.Client, echo: Echo) -> None:
    """Closing the connection after the first event cancels the RPC."""

    async def endless(_request: object, _context: object) -> AsyncIterator[ChatEvent]:
        yield ChatEvent(sequence=1)
        await asyncio.Event().wait()

    echo.handlers["Chat"] = endless
    with rest.stream("POST", CHAT, json={}, headers=SSE) as response:
        assert next(response.iter_lines()) == 'data: {"sequence":1}'
    assert echo.cancelled.wait(5)


async def test_a_thousand_streams_run_side_by_side(edge: Proxy, echo: Echo) -> None:
    """No limit between client and server holds streams back: all of a thousand are open before any of them ends."""
    count, entered = 1000, 0
    opened = asyncio.Event()

    async def together(_request: object, _context: object) -> AsyncIterator[ChatEvent]:
        nonlocal entered
        entered += 1
        yield ChatEvent(sequence=1)
        if entered == count:
            opened.set()
        await opened.wait()
        yield ChatEvent(sequence=2)

    async def one(turn: asyncio.Semaphore) -> bytes:
        async with turn:  # connections are made in turns: a listener's backlog is short
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.rest)
            head = f"POST {CHAT}:stream HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}"
            writer.write(head.encode())
            await writer.drain()
            first = await reader.readuntil(b'"sequence":1')
        rest = await reader.read()
        writer.close()
        return first + rest

    echo.handlers["Chat"] = together
    turn = asyncio.Semaphore(100)
    answers = await asyncio.gather(*(one(turn) for _ in range(count)))
    assert all(answer.count(b"data: ") == 2 for answer in answers)
