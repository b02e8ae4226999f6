"""Documented paths, configurations and access once more, with everything stored in Postgres instead of SQLite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.stack import Stack, running_stack

# Collected here again: the fixture below puts another database under them.
from tests.e2e.test_access import *  # noqa: F403
from tests.e2e.test_configurations import *  # noqa: F403
from tests.e2e.test_surfaces import *  # type: ignore[assignment]  # noqa: F403 - both have an ASK of their own
from tests.support.postgres import PostgresCluster

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def stack(postgres_cluster: PostgresCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole gateway over a database of its own."""
    with running_stack(tmp_path_factory.mktemp("stack"), database_url=postgres_cluster.create_database()) as it:
        yield it
