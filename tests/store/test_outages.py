"""While the database is away the last picture is served, writes say so, the log stays quiet, and it mends itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from server.core.access import Workspace
from server.core.errors import InternalError, Unavailable
from server.core.secret import Secret
from server.core.setup import SetupError
from server.store.cipher import Keyring
from server.store.schema import migrate
from server.store.store import Store, StoreOptions, open_store
from server.store.tables import Part
from tests.store.examples import WITHIN_SECONDS, a_config, a_workspace, now, until
from tests.support.canary import assert_absent
from tests.support.postgres import PostgresCluster, new_cluster

CANARY = "canary-credential-0123456789"


class Outage:
    """Takes a store's database away and gives it back."""

    def __init__(self, url: Secret, begin: Callable[[Store], Awaitable[None]], end: Callable[[], None]) -> None:
        self.url = url
        self.begin = begin
        self.end = end


@pytest.fixture
def own_cluster() -> Iterator[PostgresCluster]:
    yield from new_cluster()


@pytest.fixture(params=["sqlite", "postgres"])
async def outage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Outage]:
    if request.param == "postgres":
        cluster: PostgresCluster = request.getfixturevalue("own_cluster")

        async def stop(_: Store) -> None:
            await asyncio.to_thread(cluster.stop)

        yield Outage(Secret(cluster.create_database()), stop, cluster.start)
        return
    path = tmp_path / "dragoman.db"

    async def unmount(store: Store) -> None:
        await store.database.engine.dispose()
        path.rename(tmp_path / "away.db")

    def mount() -> None:
        (tmp_path / "away.db").rename(path)

    yield Outage(Secret(f"sqlite:///{path}"), unmount, mount)


async def test_an_outage_is_survived_told_and_mended(
    outage: Outage, master: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    await migrate(outage.url)
    caplog.set_level(logging.INFO)
    async with open_store(StoreOptions(url=outage.url, poll_seconds=0.02), master, clock=now) as store:
        workspace = await store.access.create_workspace(a_workspace())
        config = a_config(workspace.id)
        sealed = await store.vault.seal(workspace.id, config.id, "secret", Secret(CANARY))
        config = await store.configs.create(a_config(workspace.id, id=config.id, sealed_secret=sealed))
        caplog.clear()

        await outage.begin(store)
        await until(lambda: store.snapshots.stale, "the picture counts as stale")
        for attempt in (
            store.configs.create(a_config(workspace.id)),
            store.configs.list(workspace.id),
            store.access.list_keys(),
            store.snapshots.refresh(),
        ):
            with pytest.raises(Unavailable) as caught:
                await attempt
            assert caught.value.retryable
            assert_absent(CANARY, repr(caught.value), repr(caught.value.__cause__), str(caught.value.__cause__))
        assert store.snapshots.current().configs == {workspace.id: (config,)}
        assert store.vault.open(workspace.id, config.id, "secret", sealed).reveal() == CANARY
        assert [record.levelname for record in caplog.records if record.name == "dragoman.store"] == ["WARNING"]

        await asyncio.to_thread(outage.end)
        await until(lambda: not store.snapshots.stale, "the picture is fresh again")
        created = await store.configs.create(a_config(workspace.id))
        assert created in store.snapshots.current().configs[workspace.id]
        lines = [record.getMessage() for record in caplog.records if record.name == "dragoman.store"]
        assert len(lines) == 2
        assert_absent(CANARY, *lines)


async def test_a_store_that_is_away_at_the_start_says_so(outage: Outage, master: Keyring) -> None:
    await migrate(outage.url)
    async with open_store(StoreOptions(url=outage.url), master, clock=now) as store:
        await outage.begin(store)
    with pytest.raises((Unavailable, SetupError)):
        async with open_store(StoreOptions(url=outage.url), master, clock=now):
            pass


async def test_a_defect_is_no_outage_and_keeps_statement_values_out_of_its_cause(
    store: Store, workspace: Workspace
) -> None:
    async def misuse() -> None:
        async with store.database.write() as transaction:
            insert = text("INSERT INTO workspaces (id, org_id) VALUES (:id, :none)")
            await transaction.connection.execute(insert, {"id": CANARY, "none": None})

    with pytest.raises(InternalError) as caught:
        await misuse()
    assert isinstance(caught.value.__cause__, IntegrityError)
    assert_absent(CANARY, repr(caught.value), str(caught.value), str(caught.value.__cause__).partition("DETAIL")[0])


async def test_a_write_that_raises_leaves_nothing_behind(store: Store, workspace: Workspace) -> None:
    async def begin_and_fail() -> None:
        async with store.database.write() as transaction:
            await transaction.connection.execute(text("DELETE FROM workspaces"))
            transaction.changes(Part.WORKSPACES)
            raise RuntimeError

    revision = store.snapshots.current().revision
    with pytest.raises(RuntimeError):
        await begin_and_fail()
    assert await store.access.list_workspaces() == [workspace]
    assert (await store.snapshots.refresh()).revision == revision


async def test_cancelled_writes_give_their_turn_to_the_next(store: Store, workspace: Workspace) -> None:
    """Wherever in the write it hits them, and while their errors, with tracebacks, are still in somebody's hand."""
    held: list[object] = []
    for round_ in range(30):
        writes = [asyncio.create_task(store.configs.create(a_config(workspace.id))) for _ in range(6)]
        await asyncio.sleep(round_ * 0.0005)
        for write in writes[::2]:
            write.cancel()
        async with asyncio.timeout(WITHIN_SECONDS):
            outcomes = await asyncio.gather(*writes, return_exceptions=True)
        assert not any(isinstance(outcome, BaseException) for outcome in outcomes[1::2])
        held += outcomes
    assert any(isinstance(outcome, asyncio.CancelledError) for outcome in held)
    await store.configs.create(a_config(workspace.id))
    listed = await store.configs.list(workspace.id)
    assert tuple(listed[::-1]) == (await store.snapshots.refresh()).configs[workspace.id]
