"""The benchmark measures what it says: its provider sends every token, and its load counts whole calls alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from bench.load import Plan, Run, dechunk, percentile
from bench.mock import BURST_TOKENS, PACED_TOKENS, Provider, token


@pytest.fixture
async def provider() -> AsyncIterator[int]:
    """Port of the mock provider, in this process."""
    made: list[Provider] = []

    def connected() -> Provider:
        made.append(Provider())
        return made[-1]

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for connection in made:
            connection.close()
        await asyncio.sleep(0)


def plan(folder: Path, port: int, body: str | bytes, **given) -> Plan:
    file = folder / "body"
    file.write_bytes(body if isinstance(body, bytes) else body.encode())
    usual = {"protocol": "http", "path": "/v1/chat/completions", "headers": {}, "callers": 3, "seconds": 0.0}
    return Plan(**{**usual, "port": port, "body": str(file), **given})


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ('{"model":"mock"}', 0),
        ('{"model":"mock","messages":[{"role":"user","content":"%s"}]}' % ("x" * 300_000), 0),
        ('{"model":"mock","stream":true}', BURST_TOKENS),
        ('{"model":"mock-paced","stream":true}', PACED_TOKENS),
    ],
)
async def test_each_caller_gets_a_whole_answer(tmp_path: Path, provider: int, body: str, tokens: int) -> None:
    seen = await Run(plan(tmp_path, provider, body, tokens=tokens)).run()
    assert (seen.n, seen.tokens, seen.errors) == (3, 3 * tokens, {})


async def test_a_stream_that_lacks_tokens_does_not_count(tmp_path: Path, provider: int) -> None:
    seen = await Run(plan(tmp_path, provider, '{"model":"mock","stream":true}', tokens=BURST_TOKENS + 1)).run()
    assert (seen.n, seen.errors) == (0, {f"{BURST_TOKENS} tokens": 3})


async def test_grpc_calls_count_where_they_bring_every_token_and_fail_where_the_server_refuses(tmp_path: Path) -> None:
    async def stream(request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        if request == b"refuse":
            await context.abort(grpc.StatusCode.INTERNAL, "no")
        for number in range(PACED_TOKENS):
            yield token(number) * (400 if request == b"large" else 1)

    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler = grpc.unary_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", {"C": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        seen = {}
        for body, tokens in ((b"go", PACED_TOKENS), (b"large", 400 * PACED_TOKENS), (b"refuse", PACED_TOKENS)):
            one = plan(tmp_path, port, body, protocol="grpc", path="/a.B/C", tokens=tokens)
            seen[body] = await Run(one).run()
    finally:
        await server.stop(None)
    assert (seen[b"go"].n, seen[b"go"].errors) == (3, {})
    assert (seen[b"large"].n, seen[b"large"].errors) == (3, {})
    assert (seen[b"refuse"].n, seen[b"refuse"].errors) == (0, {"no answer": 3})


def test_a_chunked_body_is_joined() -> None:
    assert dechunk(b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n") == b"abcd"


def test_percentiles() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([], 0.5) is None
