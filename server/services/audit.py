"""The audit log for those who read it, and the attempts that changed nothing, which no other write carries."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime, timedelta

import msgspec

from server.core.access import Principal
from server.core.audit import AuditEntry, AuditFilter, AuditObject, Outcome, audit_entry
from server.core.ids import ID_ENTROPY_BYTES
from server.core.ports import AuditStore
from server.services.access import utc_now
from server.services.periodic import Periodic

DEFAULT_PAGE = 100
EXPORT_PAGE = 500

MOST_REFUSALS = 20
"""Refused attempts of one key that are logged one by one in a window; those beyond are counted in one entry."""
WINDOW = timedelta(minutes=1)


class AuditPage(msgspec.Struct, frozen=True):
    """Some entries, newest first. last_id: what the next page begins after, "" on the last page."""

    entries: Sequence[AuditEntry]
    last_id: str


class AuditLog:
    """Reads the log. Callers are authorised before they come here."""

    def __init__(
        self,
        store: AuditStore,
        *,
        now: Callable[[], datetime] = utc_now,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._store = store
        self._now = now
        self._entropy = entropy

    async def list(self, wanted: AuditFilter, *, page_size: int = 0, after: str | None = None) -> AuditPage:
        """A page, newest first; page_size 0 for DEFAULT_PAGE. Raises Unavailable."""
        size = page_size or DEFAULT_PAGE
        found = await self._store.list(wanted, limit=size + 1, after=after)
        return AuditPage(found[:size], found[size - 1].id if len(found) > size else "")

    async def export(self, by: Principal, wanted: AuditFilter) -> AsyncGenerator[Sequence[AuditEntry], None]:
        """Everything up to now, oldest first, in batches. That it was exported is itself an entry, the last one of an
        export that asks for no earlier end. Raises Unavailable."""
        now = self._now()
        entry = audit_entry(
            by,
            "audit_log.export",
            AuditObject("audit_log"),
            workspace_id=wanted.workspace_id,
            now=now,
            entropy=self._entropy(ID_ENTROPY_BYTES),
        )
        await self._store.append([entry])
        after: str | None = None
        while True:
            found = await self._store.list(wanted, limit=EXPORT_PAGE, after=after, oldest_first=True)
            # What is written meanwhile belongs to the next export: an end must come even while others write.
            batch = [each for each in found if each.id <= entry.id]
            if batch:
                yield batch
            if len(batch) < EXPORT_PAGE:
                return
            after = batch[-1].id


class RefusalLog(Periodic):
    """Logs attempts that were denied or failed, written behind them.

    Bounded: of each key MOST_REFUSALS in a WINDOW one by one, and the count of those beyond in one entry at its end.
    """

    def __init__(
        self,
        store: AuditStore,
        *,
        interval: float = 1.0,
        now: Callable[[], datetime] = utc_now,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        super().__init__("audit entries of refused attempts", self._write, interval)
        self._store = store
        self._now = now
        self._entropy = entropy
        self._pending: list[AuditEntry] = []
        self._counts: Counter[str] = Counter()
        self._beyond: dict[str, Principal] = {}
        self._window_end = now() + WINDOW

    def note(
        self,
        caller: Principal,
        action: str,
        subject: AuditObject,
        *,
        workspace_id: str | None,
        outcome: Outcome,
        reason: str,
    ) -> None:
        """One attempt, in the workspace that it was made from."""
        self._roll()
        self._counts[caller.key_id] += 1
        if self._counts[caller.key_id] > MOST_REFUSALS:
            self._beyond[caller.key_id] = caller
            return
        self._pending.append(self._entry(caller, action, subject, workspace_id, outcome, reason))

    async def _write(self) -> None:
        self._roll()
        if not self._pending:
            return
        written, self._pending = self._pending, []
        try:
            await self._store.append(written)
        except BaseException:
            self._pending = written + self._pending
            raise

    async def stop(self) -> None:
        """As Periodic; what was beyond the bound is counted before."""
        self._window_end = self._now()
        await super().stop()

    def _roll(self) -> None:
        now = self._now()
        if now < self._window_end:
            return
        for key_id, caller in self._beyond.items():
            count = self._counts[key_id] - MOST_REFUSALS
            entry = self._entry(
                caller, "audit_log.suppress", AuditObject("audit_log"), caller.workspace_id, "denied", "TOO_MANY"
            )
            self._pending.append(msgspec.structs.replace(entry, details={"attempts": str(count)}))
        self._counts.clear()
        self._beyond.clear()
        self._window_end = now + WINDOW

    def _entry(
        self,
        caller: Principal,
        action: str,
        subject: AuditObject,
        workspace_id: str | None,
        outcome: Outcome,
        reason: str,
    ) -> AuditEntry:
        return audit_entry(
            caller,
            action,
            subject,
            workspace_id=workspace_id,
            now=self._now(),
            entropy=self._entropy(ID_ENTROPY_BYTES),
            outcome=outcome,
            reason=reason,
        )
