"""Keeps the Snapshot current: one cheap query a poll, a reload where the revision moved, own writes at once.

Reads of the database are flights: one at a time, and whoever asks while one runs shares the next one, which alone can
show what was true when they asked. Flights that callers ask for are spaced, so that a flood of unknown keys costs the
database no more than ten queries a second; own writes do not wait for the spacing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from server.core.errors import DragomanError, InternalError, Unavailable
from server.core.provider_config import ProviderConfig
from server.core.snapshot import Snapshot
from server.store.db import Database
from server.store.repositories.rows import config_from_row, key_from_row, workspace_from_row
from server.store.tables import api_keys, provider_configs, store_state, workspaces
from server.store.vault import DatabaseVault
from server.store.wrapped_keys import load_data_keys

_log = logging.getLogger(__name__)

_ROWS_BETWEEN_YIELDS = 500
"""A reload gives way to calls in progress after each so many rows."""


class SnapshotKeeper:
    """The SnapshotSource port over the database; `start` it before use, `aclose` it after.

    poll_seconds: how often other processes' writes are looked for. spacing_seconds: the least between two refreshes
    that callers ask for.
    """

    def __init__(
        self, database: Database, vault: DatabaseVault, *, poll_seconds: float = 0.25, spacing_seconds: float = 0.1
    ) -> None:
        self._database = database
        self._vault = vault
        self._poll_seconds = poll_seconds
        self._spacing_seconds = spacing_seconds
        self._snapshot: Snapshot | None = None
        self._stale = True
        self._flying = asyncio.Lock()
        self._next: asyncio.Task[Snapshot] | None = None
        self._hurry = asyncio.Event()
        self._last_takeoff = float("-inf")
        self._poller: asyncio.Task[None] | None = None
        database.on_commit(self._catch_up)

    async def start(self) -> None:
        """Load the first picture and watch for changes. Raises Unavailable, InternalError."""
        await self.refresh()
        self._poller = asyncio.create_task(self._poll(), name="snapshot-poll")

    async def aclose(self) -> None:
        """Stop watching; the last picture stays."""
        for task in (self._poller, self._next):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, DragomanError):
                    await task

    def current(self) -> Snapshot:
        if self._snapshot is None:
            raise Unavailable("The store has not been read yet.")
        return self._snapshot

    @property
    def stale(self) -> bool:
        return self._stale

    async def refresh(self) -> Snapshot:
        return await asyncio.shield(self._next_flight())

    async def _catch_up(self, revision: int) -> None:
        """After an own write. The write is done, so an outage now is the poll's to mend."""
        if self._snapshot is None or self._snapshot.revision >= revision:
            return
        flight = self._next_flight()
        self._hurry.set()
        with contextlib.suppress(DragomanError):
            await asyncio.shield(flight)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            # Each flight notes its failure itself.
            with contextlib.suppress(DragomanError):
                await asyncio.shield(self._next_flight())

    def _next_flight(self) -> asyncio.Task[Snapshot]:
        if self._next is None:
            self._next = asyncio.create_task(self._fly(), name="snapshot-refresh")
            # Whoever asked may be gone by its end; a failure is logged in flight.
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._next

    async def _fly(self) -> Snapshot:
        async with self._flying:
            clock = asyncio.get_running_loop().time
            wait = self._last_takeoff + self._spacing_seconds - clock()
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), wait)
            self._hurry.clear()
            self._last_takeoff = clock()
            self._next = None
            try:
                self._snapshot = await self._read()
            except DragomanError as exc:
                self._lost(exc)
                raise
            self._regained()
            return self._snapshot

    async def _read(self) -> Snapshot:
        async with self._database.read() as connection:
            revision = (await connection.execute(select(store_state.c.revision))).scalar_one()
            if self._snapshot is not None and self._snapshot.revision == revision:
                return self._snapshot
            try:
                return await self._load(connection, revision)
            except (ValueError, TypeError, KeyError) as exc:
                raise InternalError("The store holds a row that this version cannot read.") from exc

    async def _load(self, connection: AsyncConnection, revision: int) -> Snapshot:
        self._vault.learn(await load_data_keys(connection))
        found_workspaces = {}
        for row in (await connection.execute(select(workspaces))).mappings():
            found_workspaces[row["id"]] = workspace_from_row(row)
        keys = {}
        for count, row in enumerate((await connection.execute(select(api_keys))).mappings(), start=1):
            keys[row["digest"]] = key_from_row(row)
            if count % _ROWS_BETWEEN_YIELDS == 0:
                await asyncio.sleep(0)
        configs: defaultdict[str, list[ProviderConfig]] = defaultdict(list)
        statement = select(provider_configs).order_by(provider_configs.c.id)
        for count, row in enumerate((await connection.execute(statement)).mappings(), start=1):
            configs[row["workspace_id"]].append(config_from_row(row))
            if count % _ROWS_BETWEEN_YIELDS == 0:
                await asyncio.sleep(0)
        return Snapshot(revision, found_workspaces, keys, {id: tuple(found) for id, found in configs.items()})

    def _lost(self, exc: DragomanError) -> None:
        """Logged when it begins, not at every poll; the cause by type alone, since drivers put values into texts."""
        if not self._stale and self._snapshot is not None:
            cause = type(exc.__cause__).__name__
            _log.warning("the store cannot be read (%s, %s): serving revision %d", exc.reason, cause, self._revision())
        self._stale = True

    def _regained(self) -> None:
        if self._stale:
            _log.info("the store is read: revision %d", self._revision())
        self._stale = False

    def _revision(self) -> int:
        return 0 if self._snapshot is None else self._snapshot.revision
