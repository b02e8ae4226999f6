"""The ConfigStore port over SQL."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from server.core.audit import AuditEntry
from server.core.errors import AlreadyExists, Conflict, LimitExceeded, NotFound
from server.core.ports import DeleteCheck
from server.core.provider_config import ProviderConfig
from server.store.db import Database
from server.store.repositories.audit import append
from server.store.repositories.rows import config_from_row, config_to_row, workspace_from_row
from server.store.tables import Part, provider_configs, workspaces
from server.store.wrapped_keys import keep_data_keys

_columns = provider_configs.c
_VALIDATION = ("validated_at", "valid", "validation_message")
_UNCHANGING = ("id", "org_id", "workspace_id", "created_at")


class SqlConfigStore:
    """max_per_workspace: how many configurations a workspace may have."""

    def __init__(self, database: Database, *, max_per_workspace: int, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._max_per_workspace = max_per_workspace
        self._clock = clock

    async def create(self, config: ProviderConfig, *, audit: AuditEntry | None = None) -> ProviderConfig:
        """As the port says; also raises NotFound for an unknown workspace. The etag is a new one."""
        config = msgspec.structs.replace(config, etag=_new_etag())
        async with self._database.write() as transaction:
            await self._require_room(transaction.connection, config.workspace_id)
            insert = self._database.insert(provider_configs).values(config_to_row(config))
            insert = insert.on_conflict_do_nothing(index_elements=[_columns.workspace_id, _columns.name])
            if (await transaction.connection.execute(insert)).rowcount == 0:
                raise _taken(config.name)
            await _keep_keys(transaction.connection, config.workspace_id, config)
            await append(transaction, audit)
            transaction.changes(Part.CONFIGS)
        return config

    async def get(self, config_id: str) -> ProviderConfig | None:
        async with self._database.read() as connection:
            statement = select(provider_configs).where(_columns.id == config_id)
            row = (await connection.execute(statement)).mappings().one_or_none()
        return None if row is None else config_from_row(row)

    async def list(
        self, workspace_id: str, *, available_only: bool = False, limit: int | None = None, after: str | None = None
    ) -> Sequence[ProviderConfig]:
        statement = select(provider_configs).where(_columns.workspace_id == workspace_id)
        if available_only:
            statement = statement.where(_columns.active.is_(True), _columns.valid.is_(True))
        if after is not None:
            statement = statement.where(_columns.id < after)
        # Ids sort by when they were made, so a page's end stays a place in the order even when its row is deleted.
        statement = statement.order_by(_columns.id.desc()).limit(limit)
        async with self._database.read() as connection:
            return [config_from_row(row) for row in (await connection.execute(statement)).mappings()]

    async def update(
        self, config: ProviderConfig, *, expected_etag: str, audit: AuditEntry | None = None
    ) -> ProviderConfig:
        """As the port says. Id, organisation, workspace and time of creation never change.

        An update records no validation: with `valid` None it clears the last one (the credential changed), otherwise
        the stored one stays, also one that ended since `config` was read.
        """
        kept = _UNCHANGING if config.valid is None else (*_UNCHANGING, *_VALIDATION)
        changes = {name: value for name, value in config_to_row(config).items() if name not in kept}
        if config.valid is None:
            changes |= {"validated_at": None, "validation_message": ""}
        changes["etag"] = _new_etag()
        statement = (
            update(provider_configs)
            .where(_columns.id == config.id, _columns.etag == expected_etag)
            .values(changes)
            .returning(*_columns)
        )
        async with self._database.write() as transaction:
            try:
                row = (await transaction.connection.execute(statement)).mappings().one_or_none()
            except IntegrityError as exc:  # the name's uniqueness is the one constraint that these columns can break
                raise _taken(config.name) from exc
            if row is None:
                raise await _missed(transaction.connection, config.id)
            await _keep_keys(transaction.connection, row["workspace_id"], config)
            await append(transaction, audit)
            transaction.changes(Part.CONFIGS)
        return config_from_row(row)

    async def delete(
        self, config_id: str, *, check: DeleteCheck | None = None, audit: AuditEntry | None = None
    ) -> None:
        """As the port says. The workspace's row is locked before `check` looks, as it is while its model settings
        change or another configuration is deleted."""
        async with self._database.write() as transaction:
            if check is not None:
                await self._check_delete(transaction.connection, config_id, check)
            statement = delete(provider_configs).where(_columns.id == config_id)
            if (await transaction.connection.execute(statement)).rowcount == 0:
                raise _no_config()
            await append(transaction, audit)
            transaction.changes(Part.CONFIGS)

    @staticmethod
    async def _check_delete(connection: AsyncConnection, config_id: str, check: DeleteCheck) -> None:
        owner = select(_columns.workspace_id).where(_columns.id == config_id).scalar_subquery()
        lock = select(workspaces).where(workspaces.c.id == owner).with_for_update(key_share=True)
        row = (await connection.execute(lock)).mappings().one_or_none()
        if row is None:
            raise _no_config()
        statement = select(provider_configs).where(_columns.workspace_id == row["id"]).order_by(_columns.id)
        configs = (await connection.execute(statement)).mappings()
        check(workspace_from_row(row), [config_from_row(config) for config in configs])

    async def record_validation(
        self,
        config_id: str,
        *,
        valid: bool,
        message: str,
        expected_etag: str | None = None,
        audit: AuditEntry | None = None,
    ) -> None:
        statement = update(provider_configs).where(_columns.id == config_id)
        if expected_etag is not None:
            statement = statement.where(_columns.etag == expected_etag)
        statement = statement.values(validated_at=self._clock(), valid=valid, validation_message=message)
        async with self._database.write() as transaction:
            if (await transaction.connection.execute(statement)).rowcount == 0:
                raise await _missed(transaction.connection, config_id)
            await append(transaction, audit)
            transaction.changes(Part.CONFIGS)

    async def _require_room(self, connection: AsyncConnection, workspace_id: str) -> None:
        """Locks the workspace's row, so that of two creates at the limit one sees the other."""
        lock = select(workspaces.c.id).where(workspaces.c.id == workspace_id).with_for_update(key_share=True)
        if (await connection.execute(lock)).scalar_one_or_none() is None:
            raise NotFound("There is no such workspace.")
        count = select(func.count()).select_from(provider_configs).where(_columns.workspace_id == workspace_id)
        if (await connection.execute(count)).scalar_one() >= self._max_per_workspace:
            raise LimitExceeded(
                f"The workspace has its {self._max_per_workspace} configurations.",
                action="Delete one first, or ask for a higher limit.",
                retryable=False,
                metadata={"limit": "configs_per_workspace"},
            )


async def _keep_keys(connection: AsyncConnection, workspace_id: str, config: ProviderConfig) -> None:
    """Raises Unavailable where a rotation has removed a key that the configuration's credentials are sealed by."""
    await keep_data_keys(connection, workspace_id, config.sealed_key, config.sealed_secret)


async def _missed(connection: AsyncConnection, config_id: str) -> NotFound | Conflict:
    """Why a compare-and-swap hit no row."""
    exists = (await connection.execute(select(_columns.id).where(_columns.id == config_id))).scalar_one_or_none()
    return _no_config() if exists is None else Conflict("The configuration changed since you read it.")


def _new_etag() -> str:
    return secrets.token_urlsafe(9)


def _taken(name: str) -> AlreadyExists:
    return AlreadyExists(f"The workspace has a configuration named '{name}' already.", metadata={"name": name})


def _no_config() -> NotFound:
    return NotFound("There is no such configuration.")
