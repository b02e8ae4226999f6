"""A whole server in this process, over a real database of either kind, a real channel and the demo provider."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.app import running_server
from server.core.endpoint import EndpointPolicy
from server.core.secret import Secret
from server.dev.demo_provider import DemoServer
from server.settings import Settings
from server.store.cipher import Key
from tests.app.callers import new_keys
from tests.app.world import World, furnished


def settings_for(url: Secret, demo: DemoServer, home: Path) -> Settings:
    """A server of its own: a free port, a new master key, the demo provider allowed."""
    place = demo.base_url.removeprefix("http://").removesuffix("/v1")
    host, _, port = place.rpartition(":")
    return Settings(
        home=home,
        database_url=url,
        master_key=Secret(Key.generate().material().hex()),
        grpc_port=0,
        edge_port=0,
        allowed_endpoints=EndpointPolicy(frozenset({(host, int(port))})),
        shutdown_grace_seconds=1,
    )


@pytest.fixture
async def world(database_url: Secret, demo_provider: DemoServer, tmp_path: Path) -> AsyncIterator[World]:
    """A furnished server of the test's own."""
    settings = settings_for(database_url, demo_provider, tmp_path)
    async with running_server(settings) as server, furnished(server, settings, demo_provider) as made:
        await new_keys(made)
        yield made
