"""The AccessStore port over SQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from server.core.access import ApiKey, Workspace
from server.core.errors import AlreadyExists, NotFound
from server.store.db import Database
from server.store.repositories.rows import key_from_row, key_to_row, workspace_from_row, workspace_to_row
from server.store.tables import Part, api_keys, workspaces


class SqlAccessStore:
    """Workspaces and callers' keys. A revoked key's row stays: it says what was, and when it ended."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def create_workspace(self, workspace: Workspace) -> Workspace:
        """Raises AlreadyExists when the id, or the name in the organisation, is taken."""
        async with self._database.write() as transaction:
            insert = self._database.insert(workspaces).values(workspace_to_row(workspace)).on_conflict_do_nothing()
            if (await transaction.connection.execute(insert)).rowcount == 0:
                raise AlreadyExists(f"There is a workspace '{workspace.name}' already.")
            transaction.changes(Part.WORKSPACES)
        return workspace

    async def list_workspaces(self) -> Sequence[Workspace]:
        """Oldest first."""
        statement = select(workspaces).order_by(workspaces.c.created_at, workspaces.c.id)
        async with self._database.read() as connection:
            return [workspace_from_row(row) for row in (await connection.execute(statement)).mappings()]

    async def create_key(self, key: ApiKey) -> ApiKey:
        """Raises NotFound for an unknown workspace, AlreadyExists for an id or digest that is there."""
        async with self._database.write() as transaction:
            insert = self._database.insert(api_keys).values(key_to_row(key)).on_conflict_do_nothing()
            try:
                inserted = (await transaction.connection.execute(insert)).rowcount
            except IntegrityError as exc:  # the one reference of the row
                raise _no_workspace() from exc
            if inserted == 0:
                raise AlreadyExists("There is such a key already.")
            transaction.changes(Part.KEYS)
        return key

    async def list_keys(self, workspace_id: str | None = None) -> Sequence[ApiKey]:
        """Oldest first; of one workspace, or all, the revoked ones too."""
        statement = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
        if workspace_id is not None:
            statement = statement.where(api_keys.c.workspace_id == workspace_id)
        async with self._database.read() as connection:
            return [key_from_row(row) for row in (await connection.execute(statement)).mappings()]

    async def revoke_key(self, key_id: str) -> ApiKey:
        """As the port says; one that is revoked stays revoked since when it was."""
        statement = (
            update(api_keys)
            .where(api_keys.c.id == key_id)
            .values(revoked_at=func.coalesce(api_keys.c.revoked_at, self._clock(), type_=api_keys.c.revoked_at.type))
            .returning(*api_keys.c)
        )
        async with self._database.write() as transaction:
            row = (await transaction.connection.execute(statement)).mappings().one_or_none()
            if row is None:
                raise NotFound("There is no such key.")
            transaction.changes(Part.KEYS)
        return key_from_row(row)

    async def set_default_model(self, workspace_id: str, model: str | None) -> Workspace:
        return await self._change_workspace(workspace_id, default_model=model)

    async def set_enabled_models(self, workspace_id: str, models: Sequence[str]) -> Workspace:
        return await self._change_workspace(workspace_id, enabled_models=list(models))

    async def _change_workspace(self, workspace_id: str, **changes: Any) -> Workspace:
        statement = update(workspaces).where(workspaces.c.id == workspace_id).values(changes).returning(*workspaces.c)
        async with self._database.write() as transaction:
            row = (await transaction.connection.execute(statement)).mappings().one_or_none()
            if row is None:
                raise _no_workspace()
            transaction.changes(Part.WORKSPACES)
        return workspace_from_row(row)


def _no_workspace() -> NotFound:
    return NotFound("There is no such workspace.")
