"""What the audit log says of rotations: ids of keys, never a key.

An entry is written in the transaction of the step that it tells of, so a rotation that is killed and finished by a
later run is logged once. What failed, a run at a time, is written after it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec
from sqlalchemy import select

from server.core.access import Origin, operator
from server.core.audit import AuditEntry, AuditObject, ObjectKind, Outcome, audit_entry
from server.core.ids import ID_ENTROPY_BYTES
from server.store.db import WriteTransaction
from server.store.repositories.audit import append
from server.store.tables import workspaces


class RotationLog(msgspec.Struct, frozen=True):
    """Who rotates, always the operator, and what time it is."""

    clock: Callable[[], datetime]
    origin: Origin = Origin()

    async def master(
        self,
        transaction: WriteTransaction,
        action: str,
        key_id: str,
        *,
        outcome: Outcome = "ok",
        reason: str = "",
        **details: str,
    ) -> None:
        """Of a master key, which belongs to no organisation: an entry in the log of each one, or of the nameless one
        where there is none yet."""
        found = await transaction.connection.execute(select(workspaces.c.org_id).distinct())
        for org_id in sorted(found.scalars()) or [""]:
            entry = self._entry(org_id, None, "master_key", action, key_id, outcome, reason, details)
            await append(transaction, entry)

    async def data(
        self,
        transaction: WriteTransaction,
        workspace_id: str,
        action: str,
        key_id: str,
        *,
        outcome: Outcome = "ok",
        reason: str = "",
        **details: str,
    ) -> None:
        """Of a workspace's data key; nothing where there is no such workspace."""
        statement = select(workspaces.c.org_id).where(workspaces.c.id == workspace_id)
        org_id = (await transaction.connection.execute(statement)).scalar_one_or_none()
        if org_id is not None:
            entry = self._entry(org_id, workspace_id, "data_key", action, key_id, outcome, reason, details)
            await append(transaction, entry)

    def _entry(
        self,
        org_id: str,
        workspace_id: str | None,
        kind: ObjectKind,
        action: str,
        key_id: str,
        outcome: Outcome,
        reason: str,
        details: dict[str, str],
    ) -> AuditEntry:
        return audit_entry(
            operator(org_id, self.origin),
            f"{kind}.{action}",
            AuditObject(kind, key_id),
            workspace_id=workspace_id,
            now=self.clock(),
            entropy=os.urandom(ID_ENTROPY_BYTES),
            outcome=outcome,
            reason=reason,
            details={name: value for name, value in details.items() if value},
        )


def listed(ids: Iterable[str]) -> str:
    """Ids as a detail's value."""
    return ", ".join(ids)
