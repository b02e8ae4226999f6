"""When keys were last used, without a call ever waiting for the database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from server.core.ports import KeyUseStore
from server.services.access import utc_now
from server.services.periodic import Periodic

RESOLUTION = timedelta(minutes=1)
"""A key in steady use is written so often, not with each call."""


class KeyUseRecorder(Periodic):
    """Notes uses in memory, one moment a key, and writes those that are a minute newer than what was written."""

    def __init__(self, store: KeyUseStore, *, interval: float = 2.0, now: Callable[[], datetime] = utc_now) -> None:
        super().__init__("last uses of keys", self._write, interval)
        self._store = store
        self._now = now
        self._used: set[str] = set()
        self._written: dict[str, datetime] = {}

    def note(self, key_id: str) -> None:
        """The key is used now, or was within the interval."""
        self._used.add(key_id)

    async def _write(self) -> None:
        now, used = self._now(), self._used
        self._used = set()
        never = now - 2 * RESOLUTION
        due = {key_id: now for key_id in used if now - self._written.get(key_id, never) >= RESOLUTION}
        if not due:
            return
        try:
            await self._store.note(due)
        except BaseException:
            self._used |= due.keys()
            raise
        self._written |= due
