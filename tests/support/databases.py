"""Both kinds of database, for tests that run on each: a SQLite file and a private Postgres, where there is one."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from server.core.secret import Secret
from server.store.schema import migrate
from tests.support.postgres import PostgresCluster

DATABASES = ("sqlite", "postgres")
"""Parameters of fixtures that call `new_database`."""


def new_database(request: pytest.FixtureRequest, folder: Path) -> Secret:
    """The address of a migrated database of its own, of the kind that the fixture's parameter names. folder: where a
    file may be made."""
    if request.param == "sqlite":
        path = folder / "dragoman.db"
        shutil.copyfile(request.getfixturevalue("_migrated_file"), path)
        return Secret(f"sqlite:///{path}")
    cluster: PostgresCluster = request.getfixturevalue("postgres_cluster")
    return Secret(cluster.create_database(like=request.getfixturevalue("_migrated_database")))


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Secret:
    """The address of a migrated database; a test that takes it runs on both kinds."""
    return new_database(request, tmp_path)


@pytest.fixture(scope="module", params=DATABASES)
def shared_database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Secret:
    """The same for all tests of a module."""
    return new_database(request, tmp_path_factory.mktemp("database"))


@pytest.fixture(scope="session")
def _migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To be copied, which is quicker than to migrate."""
    path = tmp_path_factory.mktemp("migrated") / "dragoman.db"
    asyncio.run(migrate(Secret(f"sqlite:///{path}")))
    return path


@pytest.fixture(scope="session")
def _migrated_database(postgres_cluster: PostgresCluster) -> str:
    url = postgres_cluster.create_database()
    asyncio.run(migrate(Secret(url)))
    return url
