"""Everything the store offers, opened and closed as one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime

import msgspec

from server.core.secret import Secret
from server.core.setup import SetupError
from server.store.cipher import Keyring
from server.store.db import Database, open_database
from server.store.repositories.access import SqlAccessStore
from server.store.repositories.audit import SqlAuditStore
from server.store.repositories.configs import SqlConfigStore
from server.store.repositories.key_uses import SqlKeyUseStore
from server.store.repositories.stats import SqlStatsStore
from server.store.schema import require_current_schema
from server.store.snapshot import SnapshotKeeper
from server.store.url import parse_url
from server.store.vault import DatabaseVault, PepperedHasher, open_hasher


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """url: see `url.parse_url`. poll_seconds: how often other processes' writes are looked for."""

    url: Secret
    poll_seconds: float = 0.25
    max_configs_per_workspace: int = 1000
    max_keys_per_workspace: int = 1000
    max_workspaces_per_organisation: int = 10_000


class Store(msgspec.Struct, frozen=True):
    """The store ports' implementations over one database."""

    database: Database
    configs: SqlConfigStore
    access: SqlAccessStore
    key_uses: SqlKeyUseStore
    audit: SqlAuditStore
    stats: SqlStatsStore
    vault: DatabaseVault
    hasher: PepperedHasher
    snapshots: SnapshotKeeper


@contextlib.asynccontextmanager
async def open_store(
    options: StoreOptions,
    master: Keyring,
    *,
    clock: Callable[[], datetime],
    reread: Callable[[], Keyring] | None = None,
) -> AsyncIterator[Store]:
    """The store for as long as the block lasts, its snapshot kept current.

    clock: the present moment, aware. reread: see `DatabaseVault`. Raises SetupError (no database, its schema not
    current, another master key), Unavailable.
    """
    database = open_database(parse_url(options.url))
    try:
        await require_current_schema(options.url, database)
        try:
            hasher = await open_hasher(database, master, now=clock())
        except SetupError:
            if reread is None:
                raise
            # A rotation may have passed between the reading of the keys and of the database.
            master = await asyncio.to_thread(reread)
            hasher = await open_hasher(database, master, now=clock())
        vault = DatabaseVault(database, master, clock=clock, reread=reread)
        snapshots = SnapshotKeeper(database, vault, poll_seconds=options.poll_seconds)
        store = Store(
            database=database,
            configs=SqlConfigStore(database, max_per_workspace=options.max_configs_per_workspace, clock=clock),
            access=SqlAccessStore(
                database,
                clock=clock,
                max_workspaces=options.max_workspaces_per_organisation,
                max_keys=options.max_keys_per_workspace,
            ),
            key_uses=SqlKeyUseStore(database),
            audit=SqlAuditStore(database),
            stats=SqlStatsStore(database),
            vault=vault,
            hasher=hasher,
            snapshots=snapshots,
        )
        try:
            await snapshots.start()
            yield store
        finally:
            await snapshots.aclose()
            await vault.aclose()
    finally:
        await database.dispose()
