"""A whole server in this process, over a real database, a real channel and the demo provider."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.app import running_server
from server.core.endpoint import EndpointPolicy
from server.core.secret import Secret
from server.dev.demo_provider import DemoServer
from server.settings import Settings
from server.store.cipher import Key
from server.store.schema import migrate
from tests.app.world import World, furnished
from tests.support.postgres import PostgresCluster, postgres_cluster

__all__ = ["postgres_cluster"]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    import asyncio  # noqa: PLC0415

    path = tmp_path_factory.mktemp("migrated") / "dragoman.db"
    asyncio.run(migrate(Secret(f"sqlite:///{path}")))
    return path


def settings_for(url: Secret, demo: DemoServer, tmp_path: Path) -> Settings:
    """A server of its own: a free port, a new master key, the demo provider allowed."""
    place = demo.base_url.removeprefix("http://").removesuffix("/v1")
    host, _, port = place.rpartition(":")
    return Settings(
        home=tmp_path,
        database_url=url,
        master_key=Secret(Key.generate().material().hex()),
        grpc_port=0,
        allowed_endpoints=EndpointPolicy(frozenset({(host, int(port))})),
        shutdown_grace_seconds=1,
    )


@pytest.fixture
async def world(migrated: Path, demo_provider: DemoServer, tmp_path: Path) -> AsyncIterator[World]:
    """On SQLite."""
    path = tmp_path / "dragoman.db"
    shutil.copyfile(migrated, path)
    settings = settings_for(Secret(f"sqlite:///{path}"), demo_provider, tmp_path)
    async with running_server(settings) as server, furnished(server, settings, demo_provider) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgres"])
async def either_world(
    request: pytest.FixtureRequest, migrated: Path, demo_provider: DemoServer, tmp_path: Path
) -> AsyncIterator[World]:
    """On SQLite, and on Postgres where the machine has one."""
    if request.param == "sqlite":
        path = tmp_path / "dragoman.db"
        shutil.copyfile(migrated, path)
        url = Secret(f"sqlite:///{path}")
    else:
        cluster: PostgresCluster = request.getfixturevalue("postgres_cluster")
        url = Secret(cluster.create_database())
        await migrate(url)
    settings = settings_for(url, demo_provider, tmp_path)
    async with running_server(settings) as server, furnished(server, settings, demo_provider) as made:
        yield made
