"""The database knows how far rotations are and whether its audit log holds, and looking changes nothing."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select, text

from server.core.access import Workspace
from server.core.audit import AuditFilter
from server.core.errors import DragomanError
from server.store import rotation
from server.store.checks import RotationState, audit_is_append_only, rotation_state
from server.store.cipher import Key, Keyring
from server.store.rotation import rotate_data_key, rotate_master
from server.store.store import Store
from server.store.tables import wrapped_keys
from tests.store.examples import LOG, now
from tests.store.test_rotation import add


async def stopped_in(step: str, monkeypatch: pytest.MonkeyPatch, work: object) -> None:
    """Run a rotation that is stopped where it comes to `step`."""

    async def stop(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(rotation, step, stop)
        with pytest.raises(asyncio.CancelledError):
            await work  # type: ignore[misc]


async def test_rotations_are_read_off_the_rows_from_begin_to_end(
    store: Store, master: Keyring, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(store, workspace.id, "sk")
    old = master.active.id
    assert await rotation_state(store.database) == RotationState(sealing=old, behind=(), turning=())
    new = Key.generate()
    ring = master.with_key(new, active=True)
    async with store.database.read() as connection:
        statement = select(wrapped_keys.c.id).where(wrapped_keys.c.workspace_id.is_(None))
        pepper = (await connection.execute(statement)).scalar_one()
    await rotation._rewrap(store.database, ring, pepper)
    assert await rotation_state(store.database) == RotationState(sealing=new.id, behind=(old,), turning=())
    await rotate_master(store.database, ring, LOG)
    data = rotate_data_key(store.database, ring, workspace.id, LOG, settle_seconds=0)
    await stopped_in("_reseal", monkeypatch, data)
    expected = RotationState(sealing=new.id, behind=(), turning=(workspace.id,))
    assert await rotation_state(store.database) == expected
    await rotate_data_key(store.database, ring, workspace.id, LOG, settle_seconds=0)
    assert await rotation_state(store.database) == RotationState(sealing=new.id, behind=(), turning=())


async def test_the_audit_log_is_tried_and_left_as_it_was(store: Store) -> None:
    assert await audit_is_append_only(store.database, now())
    assert await store.audit.list(AuditFilter(org_id=""), limit=10) == []


async def test_a_log_whose_entries_can_be_changed_or_not_be_written_is_found(store: Store) -> None:
    async with store.database.write() as transaction:
        if store.database.dialect == "sqlite":
            names = await transaction.connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'"))
            for name in names.scalars().all():
                await transaction.connection.execute(text(f"DROP TRIGGER {name}"))
        else:
            await transaction.connection.execute(text("ALTER TABLE audit_entries DISABLE TRIGGER USER"))
    assert not await audit_is_append_only(store.database, now())
    async with store.database.write() as transaction:
        await transaction.connection.execute(text("ALTER TABLE audit_entries RENAME TO gone"))
    with pytest.raises(DragomanError):
        await audit_is_append_only(store.database, now())
