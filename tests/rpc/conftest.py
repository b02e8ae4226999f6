"""A real grpc.aio server with this project's services over scripted use cases, and a channel to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from server.rpc.interceptors import CallInterceptor
from server.rpc.register import register
from server.rpc.validation import RequestValidator
from tests.rpc.house import House


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
