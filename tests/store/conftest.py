"""Every store test runs on real databases: a SQLite file and, where the machine has one, a private Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.core.access import Workspace
from server.core.secret import Secret
from server.store.cipher import Key, Keyring
from server.store.schema import migrate
from server.store.store import Store, StoreOptions, open_store
from tests.store.examples import a_workspace, now
from tests.support.postgres import PostgresCluster


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Secret:
    """The address of a database without a schema; a test that takes it runs on both kinds."""
    if request.param == "sqlite":
        return Secret(f"sqlite:///{tmp_path}/store/dragoman.db")
    cluster: PostgresCluster = request.getfixturevalue("postgres_cluster")
    return Secret(cluster.create_database())


@pytest.fixture
async def url(empty_url: Secret) -> Secret:
    """The address of a migrated database."""
    await migrate(empty_url)
    return empty_url


@pytest.fixture
async def sqlite_url(tmp_path: Path) -> Secret:
    """The address of a migrated SQLite file in `tmp_path`."""
    url = Secret(f"sqlite:///{tmp_path}/dragoman.db")
    await migrate(url)
    return url


@pytest.fixture(scope="session")
def master() -> Keyring:
    return Keyring(Key.generate())


@pytest.fixture
async def store(url: Secret, master: Keyring) -> AsyncIterator[Store]:
    async with open_store(StoreOptions(url=url), master, clock=now) as opened:
        yield opened


@pytest.fixture
async def workspace(store: Store) -> Workspace:
    """A workspace that is in the store."""
    return await store.access.create_workspace(a_workspace())
