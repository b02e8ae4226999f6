"""The AuditStore port over SQL, and the appending of an entry within another write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, insert, select

from server.core.audit import AuditEntry, AuditFilter
from server.store.db import Database, WriteTransaction
from server.store.repositories.rows import audit_from_row, audit_to_row
from server.store.tables import audit_entries

_columns = audit_entries.c


async def append(transaction: WriteTransaction, *entries: AuditEntry | None) -> None:
    """Add entries to an open write: they stand and fall with it. None adds nothing."""
    rows = [audit_to_row(entry) for entry in entries if entry is not None]
    if rows:
        await transaction.connection.execute(insert(audit_entries), rows)


class SqlAuditStore:
    """Entries come in and stay: the tables' triggers refuse everything else."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, entries: Sequence[AuditEntry]) -> None:
        """As the port says; all or none."""
        async with self._database.write() as transaction:
            await append(transaction, *entries)

    async def list(
        self, wanted: AuditFilter, *, limit: int, after: str | None = None, oldest_first: bool = False
    ) -> Sequence[AuditEntry]:
        """In the order of ids, which is that of time."""
        statement = _filtered(wanted)
        if oldest_first:
            statement = statement.order_by(_columns.id)
            statement = statement if after is None else statement.where(_columns.id > after)
        else:
            statement = statement.order_by(_columns.id.desc())
            statement = statement if after is None else statement.where(_columns.id < after)
        async with self._database.read() as connection:
            return [audit_from_row(row) for row in (await connection.execute(statement.limit(limit))).mappings()]


def _filtered(wanted: AuditFilter) -> Select[Any]:
    statement = select(audit_entries).where(_columns.org_id == wanted.org_id)
    if wanted.workspace_id is not None:
        statement = statement.where(_columns.workspace_id == wanted.workspace_id)
    if wanted.start is not None:
        statement = statement.where(_columns.at >= wanted.start)
    if wanted.end is not None:
        statement = statement.where(_columns.at < wanted.end)
    if wanted.action.endswith(".*"):
        statement = statement.where(_columns.action.startswith(wanted.action[:-1], autoescape=True))
    elif wanted.action:
        statement = statement.where(_columns.action == wanted.action)
    for column, value in (
        (_columns.object_id, wanted.object_id),
        (_columns.key_id, wanted.key_id),
        (_columns.outcome, wanted.outcome),
    ):
        if value:
            statement = statement.where(column == value)
    return statement
