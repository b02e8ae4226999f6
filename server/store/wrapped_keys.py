"""The keys in the database, sealed by the master key: a data key per workspace, and the pepper of callers' keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import RowMapping, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from server.core.errors import NotFound
from server.store.cipher import CipherError, Key, Keyring, Purpose
from server.store.db import Database
from server.store.tables import wrapped_keys


class WrappedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A row. id: fingerprint of the key inside. workspace_id: of a data key, else None. retired: it seals no more."""

    id: str
    purpose: Purpose
    workspace_id: str | None
    wrapped: bytes
    retired: bool


def wrap(master: Keyring, key: Key, purpose: Purpose, workspace_id: str | None) -> bytes:
    """`key` sealed by the active master key."""
    return master.seal(key.material(), purpose, *_context(workspace_id))


def unwrap(master: Keyring, row: WrappedKey) -> Key:
    """The key in a row. Raises UnknownKey for a master key that is not at hand, CipherError."""
    key = Key(master.open(row.wrapped, row.purpose, *_context(row.workspace_id)))
    if key.id != row.id:
        raise CipherError(f"wrapped key {row.id} holds key {key.id}")
    return key


async def load_data_keys(connection: AsyncConnection) -> Sequence[WrappedKey]:
    """Every workspace's, the retired ones first, so that the last one of a workspace is its active one."""
    statement = (
        select(wrapped_keys)
        .where(wrapped_keys.c.purpose == Purpose.DATA_KEY.value)
        .order_by(wrapped_keys.c.retired_at.is_(None), wrapped_keys.c.created_at)
    )
    return [_from_row(row) for row in (await connection.execute(statement)).mappings()]


async def ensure_key(
    database: Database, master: Keyring, purpose: Purpose, workspace_id: str | None, *, now: datetime
) -> WrappedKey:
    """The active key of a kind and workspace; made if there is none. Two makers at once get the same.

    Raises NotFound for an unknown workspace, Unavailable.
    """
    existing = await _active(database, purpose, workspace_id)
    if existing is not None:
        return existing
    key = Key.generate()
    values = {
        "id": key.id,
        "purpose": purpose.value,
        "workspace_id": workspace_id,
        "wrapped": wrap(master, key, purpose, workspace_id),
        "created_at": now,
    }
    async with database.write() as transaction:
        try:
            await transaction.connection.execute(database.insert(wrapped_keys).values(values).on_conflict_do_nothing())
        except IntegrityError as exc:  # the one reference of the row; a taken place is no error
            raise NotFound("There is no such workspace.") from exc
    winner = await _active(database, purpose, workspace_id)
    if winner is None:
        raise NotFound("The workspace was deleted meanwhile.")
    return winner


async def _active(database: Database, purpose: Purpose, workspace_id: str | None) -> WrappedKey | None:
    statement = select(wrapped_keys).where(
        wrapped_keys.c.purpose == purpose.value,
        wrapped_keys.c.workspace_id.is_not_distinct_from(workspace_id),
        wrapped_keys.c.retired_at.is_(None),
    )
    async with database.read() as connection:
        row = (await connection.execute(statement)).mappings().one_or_none()
    return None if row is None else _from_row(row)


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
