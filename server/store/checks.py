"""What the database says of itself when somebody asks whether all is well; nothing here changes it."""

from __future__ import annotations

import contextlib
import os
from datetime import datetime

import msgspec
from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError

from server.core.access import operator
from server.core.audit import AuditObject, audit_entry
from server.core.ids import ID_ENTROPY_BYTES
from server.store.cipher import CipherError, Purpose, sealed_by
from server.store.db import Database
from server.store.repositories.audit import append
from server.store.tables import audit_entries, wrapped_keys
from server.store.wrapped_keys import load_wrapped


class RotationState(msgspec.Struct, frozen=True, kw_only=True):
    """sealing: id of the master key that wraps new keys, "" before the first start. behind: ids of other master keys
    that something is still wrapped by. turning: workspaces that have a retired data key."""

    sealing: str
    behind: tuple[str, ...]
    turning: tuple[str, ...]


async def rotation_state(database: Database) -> RotationState:
    """How far rotations are, read off the rows. Raises Unavailable."""
    async with database.read() as connection:
        rows = await load_wrapped(connection, select(wrapped_keys))
    named: set[str] = set()
    sealing = ""
    for row in rows:
        try:
            master = sealed_by(row.wrapped)
        except CipherError:  # damaged: told elsewhere
            continue
        named.add(master)
        if row.purpose is Purpose.CALLER_KEY_PEPPER and not row.retired:
            sealing = master
    return RotationState(
        sealing=sealing,
        behind=tuple(sorted(named - {sealing})),
        turning=tuple(sorted({row.workspace_id for row in rows if row.retired and row.workspace_id})),
    )


class _RollBack(Exception):
    """Ends a transaction that was a trial."""


async def audit_is_append_only(database: Database, now: datetime) -> bool:
    """Write an entry, try to change it, and take both back: whether the database refused the change. Raises
    Unavailable, InternalError where no entry can be written."""
    entry = audit_entry(
        operator(""),
        "audit_log.append",
        AuditObject("audit_log"),
        workspace_id=None,
        now=now,
        entropy=os.urandom(ID_ENTROPY_BYTES),
    )
    refused = False
    with contextlib.suppress(_RollBack):
        async with database.write() as transaction:
            await append(transaction, entry)
            change = update(audit_entries).where(audit_entries.c.id == entry.id).values(object_name="changed")
            try:
                await transaction.connection.execute(change)
            except DBAPIError:
                refused = True
            raise _RollBack
    return refused
