"""The AccessStore port over SQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from server.core.access import ApiKey, Workspace
from server.core.audit import AuditEntry
from server.core.errors import AlreadyExists, LimitExceeded, NotFound
from server.core.ports import ModelsChange
from server.store.db import Database, WriteTransaction
from server.store.repositories.audit import append
from server.store.repositories.rows import (
    config_from_row,
    key_from_row,
    key_to_row,
    workspace_from_row,
    workspace_to_row,
)
from server.store.tables import Part, api_keys, key_uses, provider_configs, workspaces

_keys = api_keys.c


class SqlAccessStore:
    """Workspaces and callers' keys. A revoked key's row stays: it says what was, and when it ended.

    max_workspaces: of an organisation; max_keys: of a workspace, or an organisation's own, those that have ended not
    counted.
    """

    def __init__(
        self, database: Database, *, clock: Callable[[], datetime], max_workspaces: int = 10_000, max_keys: int = 1000
    ) -> None:
        self._database = database
        self._clock = clock
        self._max_workspaces = max_workspaces
        self._max_keys = max_keys

    # --- workspaces ---------------------------------------------------------------------------------------------------

    async def create_workspace(self, workspace: Workspace, *, audit: AuditEntry | None = None) -> Workspace:
        """Raises AlreadyExists when the id, or the name in the organisation, is taken; LimitExceeded."""
        count = select(func.count()).select_from(workspaces).where(workspaces.c.org_id == workspace.org_id)
        insert = self._database.insert(workspaces).values(workspace_to_row(workspace)).on_conflict_do_nothing()
        async with self._database.write() as transaction:
            if (await transaction.connection.execute(count)).scalar_one() >= self._max_workspaces:
                raise _full("organisation", self._max_workspaces, "workspaces", "workspaces_per_organisation")
            if (await transaction.connection.execute(insert)).rowcount == 0:
                raise AlreadyExists(f"There is a workspace '{workspace.name}' already.")
            await append(transaction, audit)
            transaction.changes(Part.WORKSPACES)
        return workspace

    async def list_workspaces(self) -> Sequence[Workspace]:
        """Oldest first."""
        statement = select(workspaces).order_by(workspaces.c.created_at, workspaces.c.id)
        async with self._database.read() as connection:
            return [workspace_from_row(row) for row in (await connection.execute(statement)).mappings()]

    async def change_models(self, workspace_id: str, change: ModelsChange) -> Workspace:
        """As the port says. The workspace's row is locked meanwhile, as it is while a configuration is deleted: what
        `change` decides by is what holds when it is written."""
        lock = select(workspaces).where(workspaces.c.id == workspace_id).with_for_update(key_share=True)
        configs = select(provider_configs).where(provider_configs.c.workspace_id == workspace_id)
        async with self._database.write() as transaction:
            row = (await transaction.connection.execute(lock)).mappings().one_or_none()
            if row is None:
                raise _no_workspace()
            found = (await transaction.connection.execute(configs.order_by(provider_configs.c.id))).mappings()
            old = workspace_from_row(row)
            new, entry = change(old, [config_from_row(config) for config in found])
            if new == old:
                return old
            values = {
                "default_model": new.default_model,
                "enabled_models": list(new.enabled_models),
                "disabled_models": list(new.disabled_models),
                "aliases": dict(new.aliases),
            }
            await transaction.connection.execute(
                update(workspaces).where(workspaces.c.id == workspace_id).values(values)
            )
            await append(transaction, entry)
            transaction.changes(Part.WORKSPACES)
        return new

    # --- keys ---------------------------------------------------------------------------------------------------------

    async def create_key(self, key: ApiKey, *, audit: AuditEntry | None = None) -> ApiKey:
        """Raises NotFound for an unknown workspace, AlreadyExists for an id or digest that is there, LimitExceeded."""
        async with self._database.write() as transaction:
            await self._require_room(transaction, key)
            insert = self._database.insert(api_keys).values(key_to_row(key)).on_conflict_do_nothing()
            try:
                inserted = (await transaction.connection.execute(insert)).rowcount
            except IntegrityError as exc:  # the one reference of the row
                raise _no_workspace() from exc
            if inserted == 0:
                raise AlreadyExists("There is such a key already.")
            await append(transaction, audit)
            transaction.changes(Part.KEYS)
        return key

    async def get_key(self, key_id: str) -> ApiKey | None:
        statement = _with_last_use().where(_keys.id == key_id)
        async with self._database.read() as connection:
            row = (await connection.execute(statement)).mappings().one_or_none()
        return None if row is None else key_from_row(row)

    async def list_keys(self, workspace_id: str | None = None) -> Sequence[ApiKey]:
        """Oldest first; of one workspace, or all, the revoked ones too."""
        statement = _with_last_use().order_by(_keys.created_at, _keys.id)
        if workspace_id is not None:
            statement = statement.where(_keys.workspace_id == workspace_id)
        async with self._database.read() as connection:
            return [key_from_row(row) for row in (await connection.execute(statement)).mappings()]

    async def page_keys(
        self, org_id: str, workspace_id: str | None, *, limit: int | None = None, after: str | None = None
    ) -> Sequence[ApiKey]:
        statement = _with_last_use().where(_keys.org_id == org_id).order_by(_keys.id.desc()).limit(limit)
        if workspace_id is not None:
            statement = statement.where(_keys.workspace_id == workspace_id)
        if after is not None:
            statement = statement.where(_keys.id < after)
        async with self._database.read() as connection:
            return [key_from_row(row) for row in (await connection.execute(statement)).mappings()]

    async def revoke_key(self, key_id: str, *, audit: AuditEntry | None = None) -> ApiKey:
        """As the port says; one that is revoked stays revoked since when it was, and nothing more is logged of it."""
        statement = (
            update(api_keys)
            .where(_keys.id == key_id, _keys.revoked_at.is_(None))
            .values(revoked_at=self._clock())
            .returning(_keys.id)
        )
        async with self._database.write() as transaction:
            if (await transaction.connection.execute(statement)).scalar_one_or_none() is not None:
                await append(transaction, audit)
                transaction.changes(Part.KEYS)
            shown = _with_last_use().where(_keys.id == key_id)
            row = (await transaction.connection.execute(shown)).mappings().one_or_none()
        if row is None:
            raise NotFound("There is no such key.")
        return key_from_row(row)

    async def _require_room(self, transaction: WriteTransaction, key: ApiKey) -> None:
        """Locks the workspace's row, so that of two creates at the limit one sees the other."""
        owner = _keys.org_id == key.org_id
        if key.workspace_id is not None:
            lock = select(workspaces.c.id).where(workspaces.c.id == key.workspace_id).with_for_update(key_share=True)
            await transaction.connection.execute(lock)
        statement = select(func.count()).select_from(api_keys)
        statement = statement.where(
            owner,
            _keys.workspace_id.is_not_distinct_from(key.workspace_id),
            _keys.revoked_at.is_(None),
            or_(_keys.expires_at.is_(None), _keys.expires_at > self._clock()),
        )
        if (await transaction.connection.execute(statement)).scalar_one() >= self._max_keys:
            raise _full("workspace" if key.workspace_id else "organisation", self._max_keys, "keys", "keys")


def _with_last_use() -> Select[Any]:
    return select(api_keys, key_uses.c.last_used_at).outerjoin(key_uses, key_uses.c.key_id == _keys.id)


def _full(owner: str, most: int, things: str, limit: str) -> LimitExceeded:
    return LimitExceeded(
        f"The {owner} has its {most} {things}.",
        action="End or delete one first, or ask for a higher limit.",
        retryable=False,
        metadata={"limit": limit},
    )


def _no_workspace() -> NotFound:
    return NotFound("There is no such workspace.")
