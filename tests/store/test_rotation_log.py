"""What the audit log has of rotations: each once, whatever was killed and repeated, and ids of keys alone."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import update

from server.core.access import Workspace
from server.core.audit import AuditEntry, AuditFilter
from server.core.setup import SetupError
from server.store import rotation
from server.store.cipher import Key, Keyring
from server.store.rotation import rotate_data_key, rotate_master
from server.store.store import Store
from server.store.tables import provider_configs
from tests.store.examples import LOG, a_workspace
from tests.store.test_rotation import add, data_keys_of, masters_named

Line = tuple[str, str, str, dict[str, str]]
BY = {"by": "ann@gateway-1"}


async def logged(store: Store, workspace: Workspace, action: str) -> list[AuditEntry]:
    """Oldest first, of the workspace's organisation."""
    wanted = AuditFilter(org_id=workspace.org_id, action=action)
    return list(await store.audit.list(wanted, limit=1000, oldest_first=True))


def lines(entries: list[AuditEntry]) -> list[Line]:
    return [(entry.action, entry.object_id, entry.outcome, dict(entry.details)) for entry in entries]


async def test_a_master_key_rotation_is_logged_once_in_each_organisation(
    store: Store, master: Keyring, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With who did it and which keys, also where the first run is stopped behind its effective step."""
    other = await store.access.create_workspace(a_workspace(org_id="org_2"))
    for id in (workspace.id, other.id):
        await add(store, id, "sk-canary")
    new = Key.generate()
    ring = master.with_key(new, active=True)
    rewrap = rotation._rewrap

    async def stopping(*arguments: object) -> bool:
        if len(arguments) == 3:  # no log: a row behind the pepper
            raise asyncio.CancelledError
        return await rewrap(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rotation, "_rewrap", stopping)
    with pytest.raises(asyncio.CancelledError):
        await rotate_master(store.database, ring, LOG)
    monkeypatch.undo()
    for _ in range(2):
        await rotate_master(store.database, ring, LOG)
    for place in (workspace, other):
        found = await logged(store, place, "master_key.*")
        assert lines(found) == [("master_key.rotate", new.id, "ok", {"replaced": master.active.id, **BY})]
        (entry,) = found
        assert (entry.key_id, entry.role, entry.object_kind, entry.workspace_id) == (
            "operator",
            "org_admin",
            "master_key",
            None,
        )


@pytest.mark.parametrize("step", ["_data_keys", "_remove_unused"])
async def test_a_data_key_rotation_is_logged_when_it_begins_to_seal_and_when_the_old_key_goes(
    store: Store, master: Keyring, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await add(store, workspace.id, "sk-canary")
    (old,) = await data_keys_of(store, workspace.id)

    async def stop(*_: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(rotation, step, stop)
    with pytest.raises(asyncio.CancelledError):
        await rotate_data_key(store.database, master, workspace.id, LOG, settle_seconds=0)
    monkeypatch.undo()
    done = await rotate_data_key(store.database, master, workspace.id, LOG, settle_seconds=0)
    found = await logged(store, workspace, "data_key.*")
    assert lines(found) == [
        ("data_key.rotate", done.key_id, "ok", {"replaced": old, **BY}),
        ("data_key.remove", old, "ok", BY),
    ]
    assert {entry.workspace_id for entry in found} == {workspace.id}


async def test_an_entry_that_cannot_be_written_leaves_the_keys_as_they_were(
    store: Store, master: Keyring, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(store, workspace.id, "sk-canary")
    keys = await data_keys_of(store, workspace.id)

    async def refuse(*_: object) -> None:
        raise RuntimeError("no entry")

    monkeypatch.setattr("server.store.rotation_log.append", refuse)
    with pytest.raises(RuntimeError):
        await rotate_master(store.database, master.with_key(Key.generate(), active=True), LOG)
    with pytest.raises(RuntimeError):
        await rotate_data_key(store.database, master, workspace.id, LOG, settle_seconds=0)
    assert await masters_named(store) == {master.active.id}
    assert await data_keys_of(store, workspace.id) == keys


async def test_a_run_that_does_not_come_to_its_end_is_logged_as_failed(
    store: Store, master: Keyring, workspace: Workspace
) -> None:
    """A master key that is none of the database's, and a credential that does not open."""
    config = await add(store, workspace.id, "sk-canary")
    (old,) = await data_keys_of(store, workspace.id)
    foreign = Keyring(Key.generate())
    for refused in (
        rotate_master(store.database, foreign, LOG),
        rotate_data_key(store.database, foreign, workspace.id, LOG, settle_seconds=0),
    ):
        with pytest.raises(SetupError):
            await refused
    async with store.database.write() as transaction:
        damaged = (config.sealed_secret or b"")[:-1] + b"\x00"
        statement = update(provider_configs).where(provider_configs.c.id == config.id).values(sealed_secret=damaged)
        await transaction.connection.execute(statement)
    done = await rotate_data_key(store.database, master, workspace.id, LOG, settle_seconds=0)
    unreadable = {"unreadable": f"{config.id}.secret", "still_used": old, **BY}
    found = [entry for kind in ("master_key", "data_key") for entry in await logged(store, workspace, f"{kind}.*")]
    assert [(e.action, e.object_id, e.outcome, e.reason, dict(e.details)) for e in found] == [
        ("master_key.rotate", foreign.active.id, "failed", "NOT_SET_UP", BY),
        ("data_key.rotate", "", "failed", "NOT_SET_UP", BY),
        ("data_key.rotate", done.key_id, "ok", "", {"replaced": old, **BY}),
        ("data_key.rotate", done.key_id, "failed", "UNREADABLE", unreadable),
    ]


async def test_a_rotation_before_the_first_workspace_is_logged_for_no_organisation(
    store: Store, master: Keyring
) -> None:
    new = Key.generate()
    await rotate_master(store.database, master.with_key(new, active=True), LOG)
    found = await store.audit.list(AuditFilter(org_id=""), limit=10)
    assert [(entry.action, entry.object_id) for entry in found] == [("master_key.rotate", new.id)]
