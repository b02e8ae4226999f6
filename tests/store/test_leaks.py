"""A stored credential is in no file, log line or repr of the store, in no spelling."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from server.core.caller_key import caller_key
from server.core.secret import Secret, mask
from server.store.cipher import Key, Keyring
from server.store.rotation import rotate_data_key, rotate_master
from server.store.schema import migrate
from server.store.store import Store, StoreOptions, open_store
from server.store.tables import wrapped_keys
from tests.store.examples import LOG, a_config, a_key, a_workspace, now
from tests.support.canary import assert_absent
from tests.support.databases import DATABASES
from tests.support.postgres import new_cluster

CANARY = "sk-canary-0123456789-abcdefghijklmnop"
REPLACED = "sk-replaced-9876543210-abcdefghijklmn"
DELETED = "sk-deleted-5647382910-abcdefghijklmno"


@pytest.fixture(params=DATABASES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Secret, Path]]:
    """The address of a database, and where all its files are. Postgres logs every statement with its values."""
    if request.param == "sqlite":
        yield Secret(f"sqlite:///{tmp_path}/database/dragoman.db"), tmp_path / "database"
        return
    with contextmanager(new_cluster)(log_statement="all") as cluster:
        yield Secret(cluster.create_database()), cluster.directory


async def test_stored_secrets_are_in_no_file_and_no_log(
    place: tuple[Secret, Path], master: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    """Files while the database is open (its journal too) and after; logs at the most talkative level."""
    url, directory = place
    caplog.set_level(logging.DEBUG)
    await migrate(url)
    key = caller_key(b"canary-entropy-of-32-bytes-here!")
    async with open_store(StoreOptions(url=url), master, clock=now) as store:
        workspace = await store.access.create_workspace(a_workspace())
        config = a_config(workspace.id)
        for field, clear in (("key", REPLACED), ("key", CANARY), ("secret", CANARY)):
            sealed = await store.vault.seal(workspace.id, config.id, field, Secret(clear))  # type: ignore[arg-type]
            config = msgspec.structs.replace(config, **{f"sealed_{field}": sealed, f"{field}_mask": mask(clear)})
            stored = await store.configs.get(config.id)
            if stored is None:
                config = await store.configs.create(config)
            else:
                config = await store.configs.update(config, expected_etag=stored.etag)
        await store.access.create_key(a_key(workspace.id, digest=store.hasher.digest(key.reveal())))
        gone = a_config(workspace.id)
        sealed = await store.vault.seal(workspace.id, gone.id, "secret", Secret(DELETED))
        await store.configs.create(msgspec.structs.replace(gone, sealed_secret=sealed))
        await store.configs.delete(gone.id)
        # One that is under way, with both keys there, and one that is done.
        rings = [master.with_key(Key.generate(), active=True) for _ in range(2)]
        turned = await rotate_data_key(store.database, master, workspace.id, LOG, settle_seconds=0)
        assert turned.resealed == 2
        for ring in (rings[0], Keyring(rings[1].active, [rings[0].active])):
            assert (await rotate_master(store.database, ring, LOG)).rewrapped == 2
        pictures = [repr(store), repr(store.snapshots.current()), repr(vars(store.vault)), repr(vars(store.hasher))]
        masters = [ring.active.material().hex() for ring in (master, *rings)]
        secrets = (CANARY, REPLACED, DELETED, key.reveal(), *masters)
        assert_absent(secrets, directory, *pictures, caplog.text)
    assert_absent(secrets, directory)


async def test_of_what_was_replaced_deleted_or_rotated_away_not_even_the_sealed_bytes_stay(
    tmp_path: Path, master: Keyring
) -> None:
    """In SQLite's file, once it is closed. So whoever gets the master key of today and a backup of today learns
    nothing of yesterday's credentials. What is stored is found, which shows that it would be."""
    path = tmp_path / "dragoman.db"
    url = Secret(f"sqlite:///{path}")
    await migrate(url)
    gone: list[bytes] = []
    async with open_store(StoreOptions(url=url), master, clock=now) as store:
        workspace = await store.access.create_workspace(a_workspace())
        configs = []
        for _ in range(40):
            config = a_config(workspace.id)
            sealed = await store.vault.seal(workspace.id, config.id, "secret", Secret(CANARY))
            configs.append(await store.configs.create(msgspec.structs.replace(config, sealed_secret=sealed)))
        for config in configs[:20]:
            gone.append(config.sealed_secret or b"")
            await store.configs.delete(config.id)
        for config in configs[20:30]:
            gone.append(config.sealed_secret or b"")
            sealed = await store.vault.seal(workspace.id, config.id, "secret", Secret(CANARY))
            await store.configs.update(msgspec.structs.replace(config, sealed_secret=sealed), expected_etag=config.etag)
        current = store.snapshots.current().configs[workspace.id]
        gone += [config.sealed_secret or b"" for config in current]
        gone += await wrapped(store)
        await rotate_data_key(store.database, master, workspace.id, LOG, settle_seconds=0)
        gone += await wrapped(store)
        await rotate_master(store.database, master.with_key(Key.generate(), active=True), LOG)
        kept = [config.sealed_secret or b"" for config in (await store.snapshots.refresh()).configs[workspace.id]]
        kept += await wrapped(store)
    assert names_in(tmp_path) == [path.name], "the journal is still there"
    content = path.read_bytes()
    assert all(each in content for each in kept)
    # A wrapped or sealed value is whole nowhere, and its first half, behind the key's id, is not either.
    assert not [each for each in gone if each in content or each[9:40] in content]


def names_in(directory: Path) -> list[str]:
    return [each.name for each in directory.iterdir()]


async def wrapped(store: Store) -> list[bytes]:
    async with store.database.read() as connection:
        return list((await connection.execute(select(wrapped_keys.c.wrapped))).scalars())
