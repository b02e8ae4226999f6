"""A stored credential is in no file, log line or repr of the store, in no spelling."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest

from server.core.caller_key import caller_key
from server.core.secret import Secret, mask
from server.store.cipher import Keyring
from server.store.schema import migrate
from server.store.store import StoreOptions, open_store
from tests.store.examples import a_config, a_key, a_workspace, now
from tests.support.canary import assert_absent
from tests.support.postgres import PostgresCluster

CANARY = "sk-canary-0123456789-abcdefghijklmnop"
REPLACED = "sk-replaced-9876543210-abcdefghijklmn"


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_stored_secrets_are_in_no_file_and_no_log(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, master: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    """Files while the database is open (its journal too) and after; logs at the most talkative level."""
    directory = tmp_path / "database"
    url = Secret(f"sqlite:///{directory}/dragoman.db")
    if kind == "postgres":
        cluster: PostgresCluster = request.getfixturevalue("postgres_cluster")
        directory, url = cluster.directory / "data", Secret(cluster.create_database())
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
        pictures = [repr(store), repr(store.snapshots.current()), repr(vars(store.vault)), repr(vars(store.hasher))]
        for secret in (CANARY, REPLACED, key.reveal(), master.active.material().hex()):
            assert_absent(secret, directory, *pictures, caplog.text)
    for secret in (CANARY, REPLACED, key.reveal(), master.active.material().hex()):
        assert_absent(secret, directory)
