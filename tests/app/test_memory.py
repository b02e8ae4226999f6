"""A credential in clear is reachable in the server's memory for as long as a call needs it, and no longer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from dragoman.v1 import chat_pb2 as pb
from server.core.secret import Secret
from tests.support.gateway import Gateway, gateway, origin, refused
from tests.support.process import RunningProcess, RunProcess


class Canary:
    """A secret that this process does not hold in one piece unless it is asked for."""

    def __init__(self) -> None:
        self._halves = [secrets.token_hex(12) for _ in range(2)]

    def text(self) -> str:
        return "-".join(self._halves)

    def holders(self) -> list[str]:
        """What refers to a string or bytes with the canary in them."""
        gc.collect()
        text = self.text()
        raw = text.encode()
        return [
            f"{type(holder).__qualname__} -> {type(value).__name__}"
            for holder in gc.get_objects()
            for value in gc.get_referents(holder)
            if (type(value) is str and text in value and value is not text)
            or (isinstance(value, bytes | bytearray) and raw in value and value is not raw)
        ]

    async def gone(self) -> list[str]:
        """The holders, once what is on its way out had time to go."""
        for _ in range(50):
            if not self.holders():
                return []
            await asyncio.sleep(0.1)
        return self.holders()


@pytest.fixture
def canary() -> Canary:
    return Canary()


@pytest.fixture
def demo(canary: Canary, run_process: RunProcess, tmp_path: Path) -> str:
    """Base URL of a demo provider, in a process of its own, that takes the canary alone."""
    key_file = tmp_path / "demo.key"
    key_file.write_text(canary.text())
    command = [sys.executable, "-m", "server.dev.demo_provider", "--port", "0", "--key-file", str(key_file)]
    process: RunningProcess = run_process(command)
    return process.wait_for_line(r"listening on (http://\S+)$")[1]


async def stream(server: Gateway, model: str) -> Any:
    request = pb.ChatRequest(model=model, messages=[pb.Message(role="user", content="hi")])
    call = server.llm.Chat(request, metadata=server.metadata)
    await call.read()
    return call


async def test_nothing_in_the_process_reaches_a_credential_that_no_call_needs(
    canary: Canary, demo: str, tmp_path: Path, database_url: Secret
) -> None:
    """After it was stored or refused, after calls that succeeded, failed, streamed and were cancelled, and after a
    validation; while a call runs it is there, which shows that it would be found."""
    async with gateway(tmp_path, database_url, hosts=[origin(demo)]) as server:
        assert await canary.gone() == []
        id = await server.add(demo, secret=canary.text())
        assert await canary.gone() == []
        assert "named" in ((await refused(server.add(demo, secret=canary.text()))).details() or "")
        assert await canary.gone() == []
        running = await stream(server, "custom/demo-endless")
        assert canary.holders() != []
        running.cancel()
        assert await canary.gone() == []
        assert (await server.validate(id))[0] is True
        assert await canary.gone() == []
        for model in ("demo-chat", "demo-chat", "demo-no-such-model", "demo-cut"):
            with contextlib.suppress(grpc.aio.AioRpcError):
                await server.chat(f"custom/{model}")
            assert await canary.gone() == [], model
