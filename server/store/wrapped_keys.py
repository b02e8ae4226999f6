"""The keys in the database, sealed by a master key: a data key per workspace, and the pepper of callers' keys.

The pepper says which master key an installation seals with: the one that wraps the pepper wraps every new key, in
every process, whatever stands first where that process has its master keys from. A rotation moves the pepper first, so
from then on nothing new is sealed by the old master key, and there is an end to what it has to re-wrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import RowMapping, Select, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from server.core.errors import NotFound, Unavailable
from server.store.cipher import CipherError, Key, Keyring, Purpose, sealed_by
from server.store.db import Database
from server.store.tables import wrapped_keys


class WrappedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A row. id: fingerprint of the key inside. workspace_id: of a data key, else None. retired: it seals no more."""

    id: str
    purpose: Purpose
    workspace_id: str | None
    wrapped: bytes
    retired: bool


def wrap(master: Key, key: Key, purpose: Purpose, workspace_id: str | None) -> bytes:
    """`key` sealed by a master key."""
    return master.seal(key.material(), purpose, *_context(workspace_id))


def unwrap(master: Keyring, row: WrappedKey) -> Key:
    """The key in a row. Raises UnknownKey for a master key that is not at hand, CipherError."""
    key = Key(master.open(row.wrapped, row.purpose, *_context(row.workspace_id)))
    if key.id != row.id:
        raise CipherError(f"wrapped key {row.id} holds key {key.id}")
    return key


async def load_wrapped(connection: AsyncConnection, statement: Select[Any]) -> Sequence[WrappedKey]:
    """The rows of a select of `wrapped_keys`."""
    return [_from_row(row) for row in (await connection.execute(statement)).mappings()]


async def load_data_keys(connection: AsyncConnection) -> Sequence[WrappedKey]:
    """Every workspace's, the retired ones first, so that the last one of a workspace is its active one."""
    statement = (
        select(wrapped_keys)
        .where(wrapped_keys.c.purpose == Purpose.DATA_KEY.value)
        .order_by(wrapped_keys.c.retired_at.is_(None), wrapped_keys.c.created_at)
    )
    return await load_wrapped(connection, statement)


async def sealing_master(connection: AsyncConnection, master: Keyring) -> Key:
    """The master key that wraps new keys, fixed until the transaction of `connection` ends. Raises UnknownKey."""
    pepper = wrapped_keys.c.purpose == Purpose.CALLER_KEY_PEPPER.value
    # Locked against a rotation, which takes the pepper's row to change it; SQLite's writers are alone anyway.
    statement = select(wrapped_keys).where(pepper, wrapped_keys.c.retired_at.is_(None)).with_for_update(read=True)
    rows = await load_wrapped(connection, statement)
    return master.key(sealed_by(rows[0].wrapped)) if rows else master.active


async def insert_data_key(
    database: Database, connection: AsyncConnection, master: Keyring, workspace_id: str, *, now: datetime
) -> None:
    """A new active data key, unless the workspace has one. Raises NotFound for an unknown workspace, UnknownKey."""
    key = Key.generate()
    wrapped = wrap(await sealing_master(connection, master), key, Purpose.DATA_KEY, workspace_id)
    try:
        await _insert(database, connection, key.id, Purpose.DATA_KEY, workspace_id, wrapped, now)
    except IntegrityError as exc:  # the one reference of the row; a taken place is no error
        raise NotFound("There is no such workspace.") from exc


async def ensure_data_key(database: Database, master: Keyring, workspace_id: str, *, now: datetime) -> WrappedKey:
    """The workspace's active data key; made if there is none. Two makers at once get the same.

    Raises NotFound for an unknown workspace, UnknownKey where the installation seals with a master key that is not at
    hand, Unavailable.
    """
    existing = await _active(database, Purpose.DATA_KEY, workspace_id)
    if existing is not None:
        return existing
    async with database.write() as transaction:
        await insert_data_key(database, transaction.connection, master, workspace_id, now=now)
    winner = await _active(database, Purpose.DATA_KEY, workspace_id)
    if winner is None:
        raise NotFound("The workspace was deleted meanwhile.")
    return winner


async def ensure_pepper(database: Database, master: Keyring, *, now: datetime) -> WrappedKey:
    """The installation's pepper; made, and wrapped by the first master key, if there is none. Raises Unavailable."""
    existing = await _active(database, Purpose.CALLER_KEY_PEPPER, None)
    if existing is not None:
        return existing
    key = Key.generate()
    wrapped = wrap(master.active, key, Purpose.CALLER_KEY_PEPPER, None)
    async with database.write() as transaction:
        await _insert(database, transaction.connection, key.id, Purpose.CALLER_KEY_PEPPER, None, wrapped, now)
    winner = await _active(database, Purpose.CALLER_KEY_PEPPER, None)
    if winner is None:
        raise Unavailable("The store lost the secret of callers' keys while it was made.")
    return winner


async def keep_data_keys(connection: AsyncConnection, workspace_id: str, *sealed: bytes | None) -> None:
    """Call in the transaction that stores sealed values: the keys they name stay until it ends.

    Raises Unavailable where one was removed after the value was sealed, which a rotation does to a key that nothing
    used any more. Bytes that are no sealed values are not judged here.
    """
    ids = {id for value in sealed if value is not None and (id := _names(value)) is not None}
    if not ids:
        return
    statement = (
        select(wrapped_keys.c.id)
        .where(wrapped_keys.c.id.in_(ids), wrapped_keys.c.workspace_id == workspace_id)
        .with_for_update(read=True, key_share=True)
    )
    if set((await connection.execute(statement)).scalars()) != ids:
        raise Unavailable("The workspace's data key was replaced meanwhile.")


def _names(sealed: bytes) -> str | None:
    try:
        return sealed_by(sealed)
    except CipherError:
        return None


async def _insert(
    database: Database,
    connection: AsyncConnection,
    id: str,
    purpose: Purpose,
    workspace_id: str | None,
    wrapped: bytes,
    now: datetime,
) -> None:
    values = {
        "id": id,
        "purpose": purpose.value,
        "workspace_id": workspace_id,
        "wrapped": wrapped,
        "created_at": now,
    }
    await connection.execute(database.insert(wrapped_keys).values(values).on_conflict_do_nothing())


async def _active(database: Database, purpose: Purpose, workspace_id: str | None) -> WrappedKey | None:
    statement = select(wrapped_keys).where(
        wrapped_keys.c.purpose == purpose.value,
        wrapped_keys.c.workspace_id.is_not_distinct_from(workspace_id),
        wrapped_keys.c.retired_at.is_(None),
    )
    async with database.read() as connection:
        rows = await load_wrapped(connection, statement)
    return rows[0] if rows else None


def _from_row(row: RowMapping) -> WrappedKey:
    return WrappedKey(
        id=row["id"],
        purpose=Purpose(row["purpose"]),
        workspace_id=row["workspace_id"],
        wrapped=row["wrapped"],
        retired=row["retired_at"] is not None,
    )


def _context(workspace_id: str | None) -> tuple[str, ...]:
    return () if workspace_id is None else (workspace_id,)
