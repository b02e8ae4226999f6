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
from server.services.limits import CallsInFlight, Most
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
def in_flight() -> CallsInFlight:
    """No limits; a module that tests them has its own."""
    return CallsInFlight(Most(), Most())


@pytest.fixture
async def house(in_flight: CallsInFlight) -> AsyncIterator[House]:
    made = House()
    interceptor = CallInterceptor(made.access, RequestValidator(), made.refusals, in_flight=in_flight)
    server = grpc.aio.server(interceptors=[interceptor])
    await register(
        server,
        gateway=made.gateway,
        access=made.access,  # type: ignore[arg-type]  # what AccessService needs beyond is tested over the real one
        models=made.models,
        configs=made.configs,
        model_settings=None,  # type: ignore[arg-type]
        audit=None,  # type: ignore[arg-type]
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
