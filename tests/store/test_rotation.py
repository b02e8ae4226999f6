"""New keys for old ones: everything stays readable at every step, and the old key is needed no more at the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from sqlalchemy import select, update

from server.core.access import Workspace
from server.core.errors import InternalError, Unavailable
from server.core.provider_config import ProviderConfig
from server.core.secret import Secret
from server.core.setup import SetupError
from server.store import rotation
from server.store.cipher import Key, Keyring, Purpose, sealed_by
from server.store.rotation import rotate_data_key, rotate_master
from server.store.store import Store, StoreOptions, open_store
from server.store.tables import provider_configs, wrapped_keys
from server.store.wrapped_keys import keep_data_keys
from tests.store.examples import LOG, a_config, a_workspace, now, until


class Place:
    """Where master keys are read from, and how often they were."""

    def __init__(self, ring: Keyring) -> None:
        self.ring = ring
        self.reads = 0
        self.broken = False

    def read(self) -> Keyring:
        self.reads += 1
        if self.broken:
            raise SetupError("The file is empty.", mend="")
        return self.ring


@contextlib.asynccontextmanager
async def opened(url: Secret, place: Place) -> AsyncIterator[Store]:
    async with open_store(StoreOptions(url=url), place.ring, clock=now, reread=place.read) as store:
        yield store


async def add(store: Store, workspace_id: str, text: str) -> ProviderConfig:
    """A configuration whose key and secret are `text`."""
    config = a_config(workspace_id)
    key, secret = [await store.vault.seal(workspace_id, config.id, field, Secret(text)) for field in ("key", "secret")]
    return await store.configs.create(msgspec.structs.replace(config, sealed_key=key, sealed_secret=secret))


def opens(store: Store, config: ProviderConfig) -> str:
    """What both credentials of a configuration are."""
    texts = set()
    for field, sealed in (("key", config.sealed_key), ("secret", config.sealed_secret)):
        assert sealed is not None
        texts.add(store.vault.open(config.workspace_id, config.id, field, sealed).reveal())  # type: ignore[arg-type]
    (text,) = texts
    return text


async def masters_named(store: Store) -> set[str]:
    async with store.database.read() as connection:
        return {sealed_by(row) for row in (await connection.execute(select(wrapped_keys.c.wrapped))).scalars()}


async def data_keys_of(store: Store, workspace_id: str) -> Sequence[str]:
    async with store.database.read() as connection:
        statement = select(wrapped_keys.c.id).where(wrapped_keys.c.workspace_id == workspace_id)
        return (await connection.execute(statement)).scalars().all()


async def current(store: Store, workspace_id: str) -> Sequence[ProviderConfig]:
    return (await store.snapshots.refresh()).configs[workspace_id]


# --- the master key --------------------------------------------------------------------------------------------------


async def test_after_a_rotation_the_new_master_key_alone_opens_everything(url: Secret) -> None:
    old, new = Key.generate(), Key.generate()
    async with opened(url, Place(Keyring(old))) as store:
        made = [await add(store, (await store.access.create_workspace(a_workspace())).id, f"sk-{n}") for n in range(5)]
        digest = store.hasher.digest("dgm_a")
        done = await rotate_master(store.database, Keyring(new, [old]), LOG)
        assert (done.key_id, done.rewrapped, done.unreadable, done.still_needed) == (new.id, 6, (), ())
        assert await masters_named(store) == {new.id}
    async with opened(url, Place(Keyring(new))) as store:
        assert [opens(store, config) for config in made] == [f"sk-{n}" for n in range(5)]
        assert store.hasher.digest("dgm_a") == digest
    with pytest.raises(SetupError, match=f"{new.id}.*{old.id}"):
        async with opened(url, Place(Keyring(old))):
            pass


async def test_a_rotation_that_is_done_has_nothing_to_do(store: Store, master: Keyring, workspace: Workspace) -> None:
    await add(store, workspace.id, "sk")
    ring = master.with_key(Key.generate(), active=True)
    first, second = [await rotate_master(store.database, ring, LOG) for _ in range(2)]
    assert (first.rewrapped, second.rewrapped) == (2, 0)
    assert first.still_needed == second.still_needed == ()


async def test_a_rotation_that_stopped_anywhere_goes_on_and_is_readable_meanwhile(
    url: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before its first, second, ... last row, each time with both keys opening everything."""
    old, new = Key.generate(), Key.generate()
    both = Keyring(new, [old])
    async with opened(url, Place(Keyring(old))) as store:
        made = [await add(store, (await store.access.create_workspace(a_workspace())).id, f"sk-{n}") for n in range(4)]
        rewrap = rotation._rewrap
        for stop in range(5):
            rows = itertools.count()

            async def stopping(*arguments: object, rows: itertools.count = rows, stop: int = stop) -> bool:
                if next(rows) == stop:
                    raise asyncio.CancelledError
                return await rewrap(*arguments)  # type: ignore[arg-type]

            monkeypatch.setattr(rotation, "_rewrap", stopping)
            with pytest.raises(asyncio.CancelledError):
                await rotate_master(store.database, both, LOG)
            async with opened(url, Place(both)) as after:
                assert [opens(after, config) for config in made] == [f"sk-{n}" for n in range(4)]
        monkeypatch.undo()
        assert (await rotate_master(store.database, both, LOG)).still_needed == ()
        assert await masters_named(store) == {new.id}


async def test_nothing_new_is_sealed_by_the_old_master_key_once_a_rotation_has_begun(url: Secret) -> None:
    """By a server that started before it, and finds the new key where it has its keys from when it needs it."""
    old, new = Key.generate(), Key.generate()
    place = Place(Keyring(old))
    async with opened(url, place) as store:
        workspaces = [await store.access.create_workspace(a_workspace()) for _ in range(3)]
        await add(store, workspaces[0].id, "before")
        await rotate_master(store.database, Keyring(new, [old]), LOG)
        with pytest.raises(Unavailable, match="master key"):
            await add(store, workspaces[1].id, "without the new key")
        assert opens(store, (await current(store, workspaces[0].id))[0]) == "before"
        place.ring = Keyring(new, [old])
        assert opens(store, await add(store, workspaces[2].id, "with it")) == "with it"
        assert await masters_named(store) == {new.id}


async def test_before_a_rotation_new_keys_are_sealed_by_the_key_that_all_servers_have(url: Secret) -> None:
    """A server that already has the new key in front seals nothing by it, which others could not open."""
    old, new = Key.generate(), Key.generate()
    async with opened(url, Place(Keyring(old))) as behind, opened(url, Place(Keyring(new, [old]))) as ahead:
        workspace = await ahead.access.create_workspace(a_workspace())
        await add(ahead, workspace.id, "sk")
        assert await masters_named(ahead) == {old.id}
        assert opens(behind, (await current(behind, workspace.id))[0]) == "sk"


async def test_a_server_that_meets_an_unknown_master_key_reads_its_keys_again(url: Secret) -> None:
    old, new = Key.generate(), Key.generate()
    place = Place(Keyring(old))
    async with opened(url, place) as behind:
        async with opened(url, Place(Keyring(old))) as other:
            workspace = await other.access.create_workspace(a_workspace())
            await rotate_master(other.database, Keyring(new, [old]), LOG)
        place.ring = Keyring(new, [old])
        async with opened(url, Place(Keyring(new))) as ahead:
            await add(ahead, workspace.id, "sk")
        assert opens(behind, (await current(behind, workspace.id))[0]) == "sk"
        assert place.reads == 1


async def test_a_key_file_that_comes_late_or_broken_is_read_again_until_it_holds_the_key(
    url: Secret, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.store.vault._RETRY_SECONDS", 0.01)
    old, new = Key.generate(), Key.generate()
    place = Place(Keyring(old))
    async with opened(url, place) as behind:
        workspace = await behind.access.create_workspace(a_workspace())
        await rotate_master(behind.database, Keyring(new, [old]), LOG)
        async with opened(url, Place(Keyring(new))) as ahead:
            await add(ahead, workspace.id, "sk")
        place.broken = True
        (config,) = await current(behind, workspace.id)
        with pytest.raises(InternalError):
            opens(behind, config)
        await until(lambda: place.reads > 3, "the file read again")
        place.ring, place.broken = Keyring(new, [old]), False

        def readable() -> bool:
            with contextlib.suppress(InternalError):
                return opens(behind, config) == "sk"
            return False

        await until(readable, "the credential opens")
        reads = place.reads
        await asyncio.sleep(0.1)
        assert place.reads == reads, "read on without need"
    assert "The file is empty." in caplog.text


async def test_a_master_key_that_is_none_of_the_databases_changes_nothing(store: Store, workspace: Workspace) -> None:
    await add(store, workspace.id, "sk")
    before = await masters_named(store)
    with pytest.raises(SetupError, match="not among those given"):
        await rotate_master(store.database, Keyring(Key.generate()), LOG)
    assert await masters_named(store) == before


async def test_a_row_that_does_not_open_is_named_and_holds_up_no_other(
    store: Store, master: Keyring, workspace: Workspace
) -> None:
    other = await store.access.create_workspace(a_workspace())
    for id in (workspace.id, other.id):
        await add(store, id, "sk")
    (broken,) = await data_keys_of(store, workspace.id)
    foreign = Key.generate()
    async with store.database.write() as transaction:
        statement = update(wrapped_keys).where(wrapped_keys.c.id == broken)
        sealed = foreign.seal(b"x" * 32, Purpose.DATA_KEY, workspace.id)
        await transaction.connection.execute(statement.values(wrapped=sealed))
    done = await rotate_master(store.database, master.with_key(Key.generate(), active=True), LOG)
    assert (done.rewrapped, done.unreadable, done.still_needed) == (2, (broken,), (foreign.id,))


# --- a workspace's data key ------------------------------------------------------------------------------------------


async def test_after_a_rotation_credentials_are_sealed_by_the_new_data_key_and_the_old_one_is_gone(
    store: Store, master: Keyring, workspace: Workspace
) -> None:
    other = await store.access.create_workspace(a_workspace())
    made = [await add(store, workspace.id, f"sk-{n}") for n in range(45)]
    foreign = await add(store, other.id, "foreign")
    (old,) = await data_keys_of(store, workspace.id)
    done = await rotate_data_key(store.database, master, workspace.id, LOG, settle_seconds=0)
    assert (done.resumed, done.resealed, done.removed, done.unreadable, done.still_used) == (False, 90, (old,), (), ())
    assert await data_keys_of(store, workspace.id) == [done.key_id]
    after = await current(store, workspace.id)
    assert [opens(store, config) for config in after] == [f"sk-{n}" for n in range(45)]
    assert {sealed_by(config.sealed_key or b"") for config in after} == {done.key_id}
    assert (await current(store, other.id))[0] == foreign
    unsealed = [msgspec.structs.replace(config, sealed_key=None, sealed_secret=None) for config in (*made, *after)]
    assert unsealed[:45] == unsealed[45:], "what callers see has changed, etags included"


async def test_every_server_opens_what_was_moved(url: Secret, store: Store, master: Keyring) -> None:
    async with open_store(StoreOptions(url=url), master, clock=now) as other:
        workspace = await store.access.create_workspace(a_workspace())
        config = await add(store, workspace.id, "sk")
        await other.snapshots.refresh()
        done = await rotate_data_key(store.database, master, workspace.id, LOG, settle_seconds=0)
        (moved,) = await current(other, workspace.id)
        assert sealed_by(moved.sealed_key or b"") == done.key_id != sealed_by(config.sealed_key or b"")
        assert opens(other, moved) == opens(other, config) == "sk"
        assert sealed_by((await add(other, workspace.id, "new")).sealed_key or b"") == done.key_id


@pytest.mark.parametrize("step", ["_data_keys", "_reseal", "_remove_unused"])
async def test_a_data_key_rotation_that_stopped_is_finished_by_the_next_run_and_none_begun(
    store: Store, master: Keyring, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await add(store, workspace.id, "sk")
    (old,) = await data_keys_of(store, workspace.id)

    async def stop(*_: object) -> None:
        raise asyncio.CancelledError

    for _ in range(2):
        monkeypatch.setattr(rotation, step, stop)
        with pytest.raises(asyncio.CancelledError):
            await rotate_data_key(store.database, master, workspace.id, LOG, settle_seconds=0)
        monkeypatch.undo()
        assert [opens(store, config) for config in await current(store, workspace.id)] == ["sk"]
        assert len(await data_keys_of(store, workspace.id)) == 2
    done = await rotate_data_key(store.database, master, workspace.id, LOG, settle_seconds=0)
    assert (done.resumed, done.removed) == (True, (old,))
    assert await data_keys_of(store, workspace.id) == [done.key_id]


async def test_creates_and_updates_during_rotations_are_neither_lost_nor_refused(
    url: Secret, store: Store, master: Keyring, workspace: Workspace
) -> None:
    """Through two stores, one of which hears of new keys by its poll alone; at the end there is one key."""
    stop = asyncio.Event()
    written: dict[str, str] = {}

    async def write(writer: Store, name: str) -> None:
        for count in itertools.count():
            if stop.is_set():
                return
            config = await add(writer, workspace.id, f"{name}-{count}")
            written[config.id] = f"{name}-{count} again"
            sealed = {
                f"sealed_{field}": await writer.vault.seal(workspace.id, config.id, field, Secret(written[config.id]))
                for field in ("key", "secret")
            }
            await writer.configs.update(msgspec.structs.replace(config, **sealed), expected_etag=config.etag)

    async with open_store(StoreOptions(url=url), master, clock=now) as other:
        writers = [asyncio.create_task(write(each, f"w{n}")) for n, each in enumerate((store, other))]
        await until(lambda: len(written) > 2, "a first few writes")
        for _ in range(3):
            done = await rotate_data_key(store.database, master, workspace.id, LOG)
            assert done.resealed
            assert not done.unreadable
        stop.set()
        await asyncio.gather(*writers)
        assert len(written) > 4
    await rotate_data_key(store.database, master, workspace.id, LOG, settle_seconds=0)
    found = {config.id: opens(store, config) for config in await current(store, workspace.id)}
    assert found == written
    assert len(await data_keys_of(store, workspace.id)) == 1


async def test_an_update_that_was_read_before_a_rotation_keeps_its_credentials(
    store: Store, master: Keyring, workspace: Workspace
) -> None:
    """While the old key is there the old bytes come back and are moved by the next round; after it is gone the update
    is refused as one to be repeated, and nothing unreadable is stored."""
    config = await add(store, workspace.id, "sk")
    done = await rotate_data_key(store.database, master, workspace.id, LOG, settle_seconds=0)
    with pytest.raises(Unavailable, match="replaced"):
        await store.configs.update(msgspec.structs.replace(config, name="new"), expected_etag=config.etag)
    (found,) = await current(store, workspace.id)
    assert (opens(store, found), sealed_by(found.sealed_key or b"")) == ("sk", done.key_id)
    renamed = await store.configs.update(msgspec.structs.replace(found, name="new"), expected_etag=config.etag)
    assert opens(store, renamed) == "sk"


async def test_a_key_stays_while_a_write_that_needs_it_is_under_way(
    store: Store, master: Keyring, workspace: Workspace
) -> None:
    config = await add(store, workspace.id, "sk")
    (old,) = await data_keys_of(store, workspace.id)
    async with store.database.write() as transaction:
        await keep_data_keys(transaction.connection, workspace.id, config.sealed_key)
        turning = asyncio.create_task(rotate_data_key(store.database, master, workspace.id, LOG, settle_seconds=0))
        await asyncio.sleep(0.3)
        assert not turning.done()
        values = {"id": "cfg_late", "name": "late"}
        row = select(provider_configs).where(provider_configs.c.id == config.id)
        copied = (await transaction.connection.execute(row)).mappings().one()
        await transaction.connection.execute(provider_configs.insert().values({**copied, **values}))
    done = await turning
    # Its bytes belong to another row, so they do not open: but their key is there, and they are named.
    assert done.unreadable == ("cfg_late.key", "cfg_late.secret")
    assert done.still_used == (old,)


async def test_a_workspace_without_a_data_key_has_nothing_to_rotate(
    store: Store, master: Keyring, workspace: Workspace
) -> None:
    done = await rotate_data_key(store.database, master, workspace.id, LOG, settle_seconds=0)
    assert done.key_id is None
    assert await data_keys_of(store, workspace.id) == []


async def test_both_rotations_at_once_end_well(url: Secret) -> None:
    old, new = Key.generate(), Key.generate()
    both = Keyring(new, [old])
    async with opened(url, Place(Keyring(old))) as store:
        ids = [(await store.access.create_workspace(a_workspace())).id for _ in range(6)]
        for id in ids:
            await add(store, id, f"sk-of-{id}")
        await asyncio.gather(
            rotate_master(store.database, both, LOG),
            *(rotate_data_key(store.database, both, id, LOG, settle_seconds=0) for id in ids),
        )
        assert await masters_named(store) == {new.id}
    async with opened(url, Place(Keyring(new))) as after:
        for id in ids:
            assert [opens(after, config) for config in await current(after, id)] == [f"sk-of-{id}"]
