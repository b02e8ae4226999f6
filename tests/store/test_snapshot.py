"""The snapshot shows own writes at once, other processes' within a second, and stays served when the store is away."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import event, update

from server.core.access import Workspace
from server.core.errors import InternalError, Unavailable
from server.core.secret import Secret
from server.store.cipher import Keyring
from server.store.snapshot import SnapshotKeeper
from server.store.store import Store, StoreOptions, open_store
from server.store.tables import Part, api_keys
from server.store.vault import DatabaseVault
from tests.store.examples import a_config, a_key, a_workspace, now, until
from tests.support.process import PROJECT


class StatementCounter:
    """How many statements a store sends: `count`."""

    def __init__(self, store: Store) -> None:
        self.count = 0
        event.listen(store.database.engine.sync_engine, "before_cursor_execute", self._count)

    def _count(self, *_: object) -> None:
        self.count += 1


async def test_every_own_write_shows_before_it_returns(store: Store) -> None:
    current = store.snapshots.current
    workspace = await store.access.create_workspace(a_workspace())
    assert current().workspaces == {workspace.id: workspace}
    key = await store.access.create_key(a_key(workspace.id))
    assert current().keys == {key.digest: key}
    revoked = await store.access.revoke_key(key.id)
    assert current().keys == {key.digest: revoked}
    defaulted = await store.access.change_models(
        workspace.id, lambda old, _: (msgspec.structs.replace(old, default_model="a/b", aliases={"x": "a/b"}), None)
    )
    assert current().workspaces == {workspace.id: defaulted}
    assert defaulted.aliases == {"x": "a/b"}
    first = await store.configs.create(a_config(workspace.id))
    second = await store.configs.create(a_config(workspace.id))
    assert current().configs == {workspace.id: (first, second)}
    renamed = await store.configs.update(msgspec.structs.replace(first, name="new"), expected_etag=first.etag)
    assert current().configs == {workspace.id: (renamed, second)}
    await store.configs.delete(first.id)
    assert current().configs == {workspace.id: (second,)}
    await store.configs.record_validation(second.id, valid=True, message="")
    assert current().configs[workspace.id][0].valid is True


async def test_own_writes_at_once_all_show(store: Store, workspace: Workspace) -> None:
    async def create_and_look() -> bool:
        created = await store.configs.create(a_config(workspace.id))
        return created in store.snapshots.current().configs[workspace.id]

    assert all(await asyncio.gather(*(create_and_look() for _ in range(30))))


async def test_a_picture_once_taken_never_changes(store: Store, workspace: Workspace) -> None:
    before = store.snapshots.current()
    await store.configs.create(a_config(workspace.id))
    assert before.configs == {}
    assert before.revision < store.snapshots.current().revision


async def test_another_process_sees_a_write_by_itself(
    store: Store, url: Secret, workspace: Workspace, master: Keyring, tmp_path: Path
) -> None:
    """Configuration, key, and a credential sealed with a data key that the other process made. The bound is generous
    because the machine may be busy; the poll comes four times a second."""
    key_file = write_key(tmp_path, master)
    command = [sys.executable, "-m", "tests.store.other_process"]
    for action in ("key", "create:1"):
        process = await asyncio.create_subprocess_exec(
            *command, action, url.reveal(), key_file, workspace.id, cwd=PROJECT, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        made = output.decode().split()[-1]

        def shown() -> bool:
            snapshot = store.snapshots.current()
            ids = [key.id for key in snapshot.keys.values()]
            return made in ids + [config.id for config in snapshot.configs.get(workspace.id, ())]  # noqa: B023

        await until(shown, f"{made} in the snapshot")
    (config,) = store.snapshots.current().configs[workspace.id]
    assert config.sealed_secret is not None
    opened = store.vault.open(workspace.id, config.id, "secret", config.sealed_secret)
    assert opened.reveal() == "sk-of-" + config.id


async def test_a_refresh_shows_what_another_store_wrote_before_it(
    url: Secret, master: Keyring, store: Store, workspace: Workspace
) -> None:
    """Also when a read that began before the write is still under way."""
    options = StoreOptions(url=url, poll_seconds=3600)
    async with open_store(options, master, clock=now) as slow_poller:
        for _ in range(5):
            earlier = asyncio.create_task(slow_poller.snapshots.refresh())
            await asyncio.sleep(0)
            key = await store.access.create_key(a_key(workspace.id))
            assert key.digest in (await slow_poller.snapshots.refresh()).keys
            await earlier


async def test_an_unchanged_store_costs_one_statement_a_refresh(store: Store, workspace: Workspace) -> None:
    async with without_polling(store) as snapshots:
        counter = StatementCounter(store)
        before = snapshots.current()
        assert await snapshots.refresh() is before
        # SQLite begins its transactions by a statement of their own.
        assert counter.count == (2 if store.database.dialect == "sqlite" else 1)


async def test_a_flood_of_refreshes_reads_the_store_a_few_times_only(store: Store) -> None:
    """1,000 refreshes at once share one read, or two where one had begun; the same again waits for the spacing."""
    async with without_polling(store, spacing_seconds=0.3) as snapshots:
        clock = asyncio.get_running_loop().time
        counter = StatementCounter(store)
        start = clock()
        for _ in range(2):
            await asyncio.gather(*(snapshots.refresh() for _ in range(1000)))
        assert counter.count <= 4
        assert clock() - start >= 0.3


async def test_an_own_write_does_not_wait_for_the_spacing(store: Store, workspace: Workspace) -> None:
    async with without_polling(store, spacing_seconds=3600) as snapshots:
        for _ in range(3):
            config = await asyncio.wait_for(store.configs.create(a_config(workspace.id)), 20)
            assert config in snapshots.current().configs[workspace.id]


async def test_before_the_first_read_there_is_nothing_to_serve(store: Store, master: Keyring) -> None:
    keeper = SnapshotKeeper(store.database, DatabaseVault(store.database, master, clock=now))
    assert keeper.stale
    with pytest.raises(Unavailable):
        keeper.current()
    await keeper.aclose()


async def test_a_caller_that_goes_away_harms_neither_the_others_nor_the_snapshot(store: Store) -> None:
    impatient = [asyncio.create_task(store.snapshots.refresh()) for _ in range(3)]
    patient = asyncio.create_task(store.snapshots.refresh())
    await asyncio.sleep(0)
    for task in impatient:
        task.cancel()
    assert (await patient).revision == store.snapshots.current().revision
    assert not store.snapshots.stale


def write_key(directory: Path, master: Keyring) -> Path:
    path = directory / "master.key"
    path.touch(0o600)
    path.write_text(master.active.material().hex())
    return path


@contextlib.asynccontextmanager
async def without_polling(store: Store, *, spacing_seconds: float = 0.1) -> AsyncIterator[SnapshotKeeper]:
    """A keeper of its own on the store's database, with no polls of the store in between."""
    await store.snapshots.aclose()
    keeper = SnapshotKeeper(store.database, store.vault, poll_seconds=3600, spacing_seconds=spacing_seconds)
    await keeper.start()
    yield keeper
    await keeper.aclose()


async def test_a_row_that_cannot_be_read_leaves_the_last_picture_served_and_is_logged_once(
    store: Store, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    """A role that a newer version wrote, for example. What can be read again mends it."""
    key = await store.access.create_key(a_key(workspace.id))
    statement = update(api_keys).where(api_keys.c.id == key.id)
    for role in ("nobody-knows", "member"):
        async with store.database.write() as transaction:
            await transaction.connection.execute(statement.values(role=role))
            transaction.changes(Part.KEYS)
        assert store.snapshots.stale == (role != "member")
        assert store.snapshots.current().keys == {key.digest: key}
        for _ in range(2 if store.snapshots.stale else 0):
            with pytest.raises(InternalError):
                await store.snapshots.refresh()
    assert [record.levelname for record in caplog.records if record.name == "dragoman.store"].count("WARNING") == 1
