"""Credentials open in their own place alone, callers' keys are hashed with a pepper, and a wrong master key is told."""

from __future__ import annotations

import asyncio
import logging
from itertools import product
from pathlib import Path

import pytest
from sqlalchemy import update

from server.core.access import Workspace
from server.core.errors import InternalError, NotFound
from server.core.provider_config import SecretField
from server.core.secret import Secret
from server.core.setup import SetupError
from server.store.cipher import Key, Keyring, sealed_by
from server.store.schema import migrate
from server.store.store import Store, StoreOptions, open_store
from server.store.tables import Part, wrapped_keys
from tests.store.examples import a_config, a_workspace, now

CREDENTIAL = Secret("sk-canary-crédential-0123456789")


async def test_a_sealed_credential_opens_and_is_not_in_its_bytes(store: Store, workspace: Workspace) -> None:
    sealed = await store.vault.seal(workspace.id, "cfg_1", "secret", CREDENTIAL)
    assert store.vault.open(workspace.id, "cfg_1", "secret", sealed).reveal() == CREDENTIAL.reveal()
    assert CREDENTIAL.reveal().encode() not in sealed


async def test_bytes_moved_to_another_workspace_configuration_or_field_do_not_open(
    store: Store, workspace: Workspace
) -> None:
    other = await store.access.create_workspace(a_workspace())
    places: list[tuple[str, str, SecretField]] = [
        (workspace_id, config_id, field)
        for workspace_id, config_id in product([workspace.id, other.id], ["cfg_1", "cfg_2"])
        for field in ("key", "secret")
    ]
    sealed = {place: await store.vault.seal(*place, CREDENTIAL) for place in places}
    for origin, place in product(places, places):
        if origin == place:
            assert store.vault.open(*place, sealed[origin]).reveal() == CREDENTIAL.reveal()
        else:
            with pytest.raises(InternalError) as caught:
                store.vault.open(*place, sealed[origin])
            assert "canary" not in repr(caught.value)


async def test_each_workspace_has_its_own_data_key_and_keeps_it(store: Store, workspace: Workspace) -> None:
    other = await store.access.create_workspace(a_workspace())
    first, second, foreign = [
        sealed_by(await store.vault.seal(id, "cfg_1", "key", CREDENTIAL))
        for id in (workspace.id, workspace.id, other.id)
    ]
    assert first == second != foreign


async def test_first_uses_at_once_in_two_processes_agree_on_one_data_key(
    store: Store, url: Secret, master: Keyring, workspace: Workspace
) -> None:
    async with open_store(StoreOptions(url=url), master, clock=now) as another:
        vaults = [store.vault, another.vault] * 5
        sealed = await asyncio.gather(*(vault.seal(workspace.id, "cfg_1", "key", CREDENTIAL) for vault in vaults))
        assert len({sealed_by(value) for value in sealed}) == 1
        for vault, value in product((store.vault, another.vault), sealed):
            assert vault.open(workspace.id, "cfg_1", "key", value).reveal() == CREDENTIAL.reveal()


async def test_nothing_is_sealed_for_an_unknown_workspace(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.vault.seal("ws_none", "cfg_1", "key", CREDENTIAL)


async def test_after_a_restart_stored_credentials_open_and_keys_hash_alike(url: Secret, master: Keyring) -> None:
    async with open_store(StoreOptions(url=url), master, clock=now) as before:
        workspace = await before.access.create_workspace(a_workspace())
        sealed = await before.vault.seal(workspace.id, "cfg_1", "key", CREDENTIAL)
        digest = before.hasher.digest("dgm_a")
    async with open_store(StoreOptions(url=url), master, clock=now) as after:
        assert after.vault.open(workspace.id, "cfg_1", "key", sealed).reveal() == CREDENTIAL.reveal()
        assert after.hasher.digest("dgm_a") == digest != after.hasher.digest("dgm_b")


async def test_with_a_new_master_key_before_the_old_one_everything_still_opens(url: Secret, master: Keyring) -> None:
    async with open_store(StoreOptions(url=url), master, clock=now) as before:
        workspace = await before.access.create_workspace(a_workspace())
        sealed = await before.vault.seal(workspace.id, "cfg_1", "key", CREDENTIAL)
        digest = before.hasher.digest("dgm_a")
    both = master.with_key(Key.generate(), active=True)
    async with open_store(StoreOptions(url=url), both, clock=now) as after:
        assert after.vault.open(workspace.id, "cfg_1", "key", sealed).reveal() == CREDENTIAL.reveal()
        assert after.hasher.digest("dgm_a") == digest


async def test_another_master_key_is_refused_at_the_start_with_both_fingerprints(url: Secret, master: Keyring) -> None:
    async with open_store(StoreOptions(url=url), master, clock=now):
        pass
    other = Keyring(Key.generate())
    with pytest.raises(SetupError, match=f"{master.active.id}.*{other.active.id}"):
        async with open_store(StoreOptions(url=url), other, clock=now):
            pass


async def test_two_installations_hash_one_key_differently(store: Store, tmp_path: Path, master: Keyring) -> None:
    url = Secret(f"sqlite:///{tmp_path}/other/dragoman.db")
    await migrate(url)
    async with open_store(StoreOptions(url=url), master, clock=now) as other:
        assert store.hasher.digest("dgm_a") != other.hasher.digest("dgm_a")


async def test_a_data_key_that_does_not_unwrap_is_logged_once_and_harms_its_workspace_alone(
    store: Store, url: Secret, master: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = [await store.access.create_workspace(a_workspace()) for _ in range(2)]
    sealed = {id: await store.vault.seal(id, "cfg_1", "key", CREDENTIAL) for id in (good.id, bad.id)}
    async with store.database.write() as transaction:
        statement = update(wrapped_keys).where(wrapped_keys.c.workspace_id == bad.id).values(wrapped=b"\x01" * 80)
        await transaction.connection.execute(statement)
        transaction.changes(Part.CONFIGS)
    with caplog.at_level(logging.ERROR):
        async with open_store(StoreOptions(url=url), master, clock=now) as after:
            await after.configs.create(a_config(good.id))
            assert after.vault.open(good.id, "cfg_1", "key", sealed[good.id]).reveal() == CREDENTIAL.reveal()
            with pytest.raises(InternalError):
                after.vault.open(bad.id, "cfg_1", "key", sealed[bad.id])
            with pytest.raises(InternalError):
                await after.vault.seal(bad.id, "cfg_1", "key", CREDENTIAL)
    assert [bad.id in record.getMessage() for record in caplog.records] == [True]
