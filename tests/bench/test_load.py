"""The benchmark measures what it says: its provider sends every token, and its load counts right answers alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from bench.load import Plan, Run, dechunk, percentile
from bench.mock import ANSWER, BURST_TOKENS, PACED_TOKENS, Provider, words
from dragoman.v1 import chat_pb2 as pb

LARGE_BYTES = 1_000_000


class CutProvider(Provider):
    """Sends half of the whole answer, and says that this was all."""

    def data_received(self, data: bytes) -> None:
        cut = ANSWER[: len(ANSWER) // 2]
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(cut), cut))


@asynccontextmanager
async def serving(kind: type[Provider]) -> AsyncIterator[int]:
    """Port of a provider in this process."""
    made: list[Provider] = []

    def connected() -> Provider:
        made.append(kind())
        return made[-1]

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for connection in made:
            connection.close()
        await asyncio.sleep(0)


@pytest.fixture
async def provider() -> AsyncIterator[int]:
    async with serving(Provider) as port:
        yield port


def plan(folder: Path, port: int, body: str | bytes, **given) -> Plan:
    file = folder / "body"
    file.write_bytes(body if isinstance(body, bytes) else body.encode())
    usual = {"form": "openai", "path": "/v1/chat/completions", "headers": {}, "callers": 3, "seconds": 0.0}
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


async def test_a_cut_answer_with_status_200_does_not_count(tmp_path: Path) -> None:
    async with serving(CutProvider) as port:
        seen = await Run(plan(tmp_path, port, "{}")).run()
    assert (seen.n, seen.errors) == (0, {"not well-formed": 3})


@pytest.fixture
async def contract() -> AsyncIterator[int]:
    """Port of a gRPC server: what it streams is told by the request's model."""

    async def chat(request: pb.ChatRequest, context: grpc.aio.ServicerContext) -> AsyncIterator[pb.ChatEvent]:
        if request.model == "refuse":
            await context.abort(grpc.StatusCode.INTERNAL, "no")
        if request.model == "long" and len(request.messages[0].content) != LARGE_BYTES:
            await context.abort(grpc.StatusCode.INTERNAL, "the prompt is not whole")
        text = words(100 * PACED_TOKENS if request.model == "many" else PACED_TOKENS)
        for at in range(0, len(text), 7_000):
            yield pb.ChatEvent(block_delta=pb.BlockDelta(text=text[at : at + 7_000]))
        if request.model != "endless":
            yield pb.ChatEvent(completed=pb.Completed(finish_reason="stop"))

    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler = grpc.unary_stream_rpc_method_handler(
        chat, pb.ChatRequest.FromString, pb.ChatEvent.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", {"C": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(None)


async def test_grpc_calls_count_where_they_bring_every_token_and_an_end(tmp_path: Path, contract: int) -> None:
    usual = pb.Message(role="user", content="x")
    long = pb.Message(role="user", content="x" * LARGE_BYTES)
    wanted = {
        "go": (usual, PACED_TOKENS, (3, {})),
        "many": (usual, 100 * PACED_TOKENS, (3, {})),  # longer than a frame and a window
        "long": (long, PACED_TOKENS, (3, {})),  # longer than the server's windows
        "endless": (usual, PACED_TOKENS, (0, {"no end": 3})),
        "refuse": (usual, PACED_TOKENS, (0, {"0 tokens": 3})),
    }
    seen = {}
    for model, (message, tokens, _) in wanted.items():
        body = pb.ChatRequest(model=model, messages=[message]).SerializeToString()
        seen[model] = await Run(plan(tmp_path, contract, body, form="grpc", path="/a.B/C", tokens=tokens)).run()
    assert {model: (each.n, each.errors) for model, each in seen.items()} == {
        model: expected for model, (_, _, expected) in wanted.items()
    }


def test_a_chunked_body_is_joined() -> None:
    assert dechunk(b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n") == b"abcd"


def test_percentiles() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([], 0.5) is None
