"""A real grpc.aio server with this project's services over scripted use cases, and a channel to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import grpc
import pytest

from server.rpc.interceptors import CallInterceptor
from server.rpc.register import register
from server.rpc.validation import RequestValidator
from tests.rpc.house import House


class _Queued(logging.Handler):
    """Hands each record's status over, or its message where it has none."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put_nowait(getattr(record, "fields", {}).get("status", record.getMessage()))


@pytest.fixture
async def log_lines() -> AsyncIterator[asyncio.Queue[str]]:
    """What the server logs of calls and defects."""
    handler, logger = _Queued(), logging.getLogger("dragoman")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler.lines
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House()
    server = grpc.aio.server(interceptors=[CallInterceptor(made.access, RequestValidator())])
    await register(
        server,
        gateway=made.gateway,
        workspaces=made.access,
        models=made.models,
        configs=made.configs,
        snapshots=made.snapshots,
        lifecycle=made.lifecycle,
        version="1.2.3",
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await made.lifecycle.serve()
    made.address = f"127.0.0.1:{port}"
    made.stop = lambda: server.stop(None)
    yield made
    await server.stop(None)


@pytest.fixture
async def channel(house: House) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(house.address) as opened:
        yield opened
