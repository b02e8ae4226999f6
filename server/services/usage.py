"""Counts what calls cost, per configuration, without a call ever waiting for the database."""

from __future__ import annotations

from server.core.events import Usage
from server.core.ports import StatsStore
from server.core.provider_config import ConfigStats
from server.services.periodic import Periodic


class UsageRecorder(Periodic):
    """Adds up in memory and writes to the store at intervals, and once more when it stops.

    While the store cannot be reached the counts wait in memory: one row per configuration, so their size is bounded.
    `interval` is in seconds.
    """

    def __init__(self, store: StatsStore, *, interval: float = 1.0) -> None:
        super().__init__("usage counts", self._write, interval)
        self._store = store
        self._pending: dict[str, ConfigStats] = {}

    def record(self, config_id: str, usage: Usage, *, failed: bool) -> None:
        """Count one call that was sent to a provider."""
        row = ConfigStats(
            config_id=config_id,
            calls=1,
            errors=int(failed),
            prompt_tokens=usage.prompt_tokens or 0,
            completion_tokens=usage.completion_tokens or 0,
            cached_tokens=usage.cached_tokens or 0,
            reasoning_tokens=usage.reasoning_tokens or 0,
        )
        before = self._pending.get(config_id)
        self._pending[config_id] = row if before is None else before.plus(row)

    async def _write(self) -> None:
        if not self._pending:
            return
        written, self._pending = self._pending, {}
        try:
            await self._store.add(list(written.values()))
        except BaseException:
            for config_id, row in written.items():
                newer = self._pending.get(config_id)
                self._pending[config_id] = row if newer is None else newer.plus(row)
            raise
