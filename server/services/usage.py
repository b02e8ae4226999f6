"""Counts what calls cost, per configuration, without a call ever waiting for the database."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from server.core.errors import DragomanError
from server.core.events import Usage
from server.core.ports import StatsStore
from server.core.provider_config import ConfigStats

log = logging.getLogger("dragoman.usage")


class UsageRecorder:
    """Adds up in memory and writes to the store at intervals, and once more when it stops.

    While the store cannot be reached the counts wait in memory: one row per configuration, so their size is bounded.
    `interval` is in seconds.
    """

    def __init__(self, store: StatsStore, *, interval: float = 1.0) -> None:
        self._store = store
        self._interval = interval
        self._pending: dict[str, ConfigStats] = {}
        self._flushing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def record(self, config_id: str, usage: Usage, *, failed: bool) -> None:
        """Count one call that was sent to a provider."""
        self._add(
            ConfigStats(
                config_id=config_id,
                calls=1,
                errors=int(failed),
                prompt_tokens=usage.prompt_tokens or 0,
                completion_tokens=usage.completion_tokens or 0,
                cached_tokens=usage.cached_tokens or 0,
                reasoning_tokens=usage.reasoning_tokens or 0,
            )
        )

    async def flush(self) -> None:
        """Write what is pending. Raises Unavailable when the store cannot be reached; then nothing is lost."""
        async with self._flushing:
            if not self._pending:
                return
            written, self._pending = self._pending, {}
            try:
                await self._store.add(list(written.values()))
            except BaseException:
                for row in written.values():
                    self._add(row)
                raise

    def _add(self, row: ConfigStats) -> None:
        before = self._pending.get(row.config_id)
        self._pending[row.config_id] = row if before is None else before.plus(row)

    def start(self) -> None:
        """Begin to write at intervals."""
        self._task = asyncio.create_task(self._run(), name="usage-recorder")

    async def stop(self) -> None:
        """End the writing, after one last flush; what cannot be written then is logged as lost, by its counts."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        try:
            await self.flush()
        except DragomanError:
            log.exception("usage counts lost at shutdown", extra={"fields": {"configs": len(self._pending)}})

    async def _run(self) -> None:
        reachable = True
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.flush()
                reachable = True
            except DragomanError as error:
                if reachable:
                    log.warning("usage counts wait in memory", extra={"fields": {"reason": error.reason}})
                reachable = False
