"""The stages of `bench/micro.py` that need a provider: calls of `bench/mock.py`, another process, over real sockets.

CPU of the calling thread alone, CALLERS at once on uvloop, so that waiting counts nothing and the mock's own cost
neither. `bare` is what the same bytes cost by a protocol that does nothing right: the floor of the one above it.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, cast

import msgspec
import uvloop

from bench import mock
from bench.processes import Process, free_port, wait_for_port
from bench.setup import ROOT
from server.core.ports import ProviderCall
from server.providers.openai_chat.presets import PRESETS
from server.providers.openai_chat.wire import OpenAIChatWire
from server.providers.runner import HttpChatProvider
from server.providers.transport.client import HttpTransport

CALLERS: Final = 32
_CALLS: Final = 100
"""Of each caller in a round."""
_ROUNDS: Final = 5
_LENGTH: Final = re.compile(rb"content-length: (\d+)")

Cost = tuple[str, float]
"""A stage's name, and microseconds for a call."""


def call_costs(call: ProviderCall, folder: Path, environ: dict[str, str]) -> tuple[list[Cost], list[Cost]]:
    """The stages for a whole answer, and those for an event of a stream. call: as the gateway makes it."""
    port = free_port()
    provider = Process(
        [sys.executable, "-m", "bench.mock", str(port)], environ=environ, cwd=ROOT, log=folder / "mock.log"
    )
    try:
        wait_for_port(port, provider)
        target = msgspec.structs.replace(call.target, endpoint=f"http://127.0.0.1:{port}/v1")
        return uvloop.run(_measure(msgspec.structs.replace(call, target=target), port))
    finally:
        provider.stop()


async def _measure(call: ProviderCall, port: int) -> tuple[list[Cost], list[Cost]]:
    wire = OpenAIChatWire(PRESETS["custom"])
    request = wire.build_request(call).http
    paced = msgspec.structs.replace(call, model="paced", stream=True)
    burst = msgspec.structs.replace(call, stream=True)
    async with _transport() as transport:
        provider = HttpChatProvider(transport, wire)

        async def send() -> None:
            async with transport.send(request, call.timeouts) as response:
                await response.read(1 << 20)

        async def chat(call: ProviderCall) -> None:
            async for _ in provider.chat(call):
                pass

        bare = await _bare(port, request.body)
        whole = [
            ("transport", await _cost(send)),
            ("transport, bare", await _cost(bare)),
            ("provider: whole answer", await _cost(lambda: chat(call))),
        ]
        events = [
            ("provider: paced", await _cost(lambda: chat(paced), calls=1) / mock.PACED_TOKENS),
            ("provider: 200 a read", await _cost(lambda: chat(burst), calls=10) / mock.BURST_TOKENS),
        ]
    return whole, events


@asynccontextmanager
async def _transport() -> AsyncIterator[HttpTransport]:
    transport = HttpTransport()
    try:
        yield transport
    finally:
        await transport.aclose()


async def _cost(call: Callable[[], Awaitable[None]], calls: int = _CALLS) -> float:
    """Microseconds of this thread for one call: the best of some rounds."""

    async def caller(number: int) -> None:
        for _ in range(number):
            await call()

    await asyncio.gather(*(caller(1) for _ in range(CALLERS)))
    best = float("inf")
    for _ in range(_ROUNDS):
        began = time.thread_time()
        await asyncio.gather(*(caller(calls) for _ in range(CALLERS)))
        best = min(best, time.thread_time() - began)
    return best / (calls * CALLERS) * 1e6


class _Bare(asyncio.Protocol):
    """A connection on which a request is a constant and an answer is counted bytes."""

    def __init__(self) -> None:
        self._held = b""
        self._answered: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._held += data
        head = self._held.find(b"\r\n\r\n") + 4
        length = _LENGTH.search(self._held)
        if head > 3 and length is not None and len(self._held) >= head + int(length[1]) and self._answered is not None:
            self._held = b""
            self._answered.set_result(None)

    async def call(self, request: bytes) -> None:
        """One call, to its end."""
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._answered


async def _bare(port: int, body: bytes) -> Callable[[], Awaitable[None]]:
    loop = asyncio.get_running_loop()
    request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: mock\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    idle: list[_Bare] = []

    async def call() -> None:
        connection = idle.pop() if idle else (await loop.create_connection(_Bare, "127.0.0.1", port))[1]
        await connection.call(request)
        idle.append(connection)

    return call
