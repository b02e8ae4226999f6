"""The StatsStore port over SQL."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select

from server.core.provider_config import ConfigStats
from server.store.db import Database
from server.store.tables import config_stats, provider_configs

_COUNTS = tuple(column.name for column in config_stats.c if not column.primary_key)


class SqlStatsStore:
    """Counts grow by addition inside the database, so that several processes lose none of each other's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, deltas: Sequence[ConfigStats]) -> None:
        """As the port says. Counts of a configuration that is deleted meanwhile go with it."""
        rows = _summed(deltas)
        if not rows:
            return
        existing = select(provider_configs.c.id).where(provider_configs.c.id.in_(rows)).order_by(provider_configs.c.id)
        existing = existing.with_for_update(read=True, key_share=True)
        insert = self._database.insert(config_stats)
        upsert = insert.on_conflict_do_update(
            index_elements=[config_stats.c.config_id],
            set_={name: config_stats.c[name] + insert.excluded[name] for name in _COUNTS},
        )
        async with self._database.write() as transaction:
            # In the order of their ids: two processes that add to the same rows then wait, and never deadlock.
            ids = (await transaction.connection.execute(existing)).scalars().all()
            if ids:
                await transaction.connection.execute(upsert, [{"config_id": id, **rows[id]} for id in ids])

    async def read(self, workspace_id: str, config_id: str | None = None) -> Sequence[ConfigStats]:
        """Newest configuration first."""
        counts = (func.coalesce(config_stats.c[name], 0).label(name) for name in _COUNTS)
        statement = (
            select(provider_configs.c.id.label("config_id"), *counts)
            .outerjoin(config_stats, config_stats.c.config_id == provider_configs.c.id)
            .where(provider_configs.c.workspace_id == workspace_id)
            .order_by(provider_configs.c.id.desc())
        )
        if config_id is not None:
            statement = statement.where(provider_configs.c.id == config_id)
        async with self._database.read() as connection:
            return [ConfigStats(**row) for row in (await connection.execute(statement)).mappings()]


def _summed(deltas: Sequence[ConfigStats]) -> dict[str, dict[str, int]]:
    """One row a configuration, without those that add nothing."""
    rows: dict[str, dict[str, int]] = {}
    for delta in deltas:
        row = rows.setdefault(delta.config_id, dict.fromkeys(_COUNTS, 0))
        for name in _COUNTS:
            row[name] += getattr(delta, name)
    return {config_id: row for config_id, row in rows.items() if any(row.values())}
