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
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import RowMapping, Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from server.core.access import ApiKey, Workspace
from server.core.errors import DragomanError, InternalError, Unavailable
from server.core.provider_config import ProviderConfig
from server.core.snapshot import Snapshot
from server.store.db import Database
from server.store.repositories.rows import config_from_row, key_from_row, workspace_from_row
from server.store.tables import Part, api_keys, provider_configs, store_state, workspaces
from server.store.vault import DatabaseVault
from server.store.wrapped_keys import load_data_keys

_log = logging.getLogger("dragoman.store")

_ROWS_AT_A_TIME = 200
"""A reload gives way to calls in progress after each so many rows: a millisecond or two."""

_READ_SECONDS = 5.0
"""How long a database that hangs, and neither answers nor breaks the connection, is taken for a slow one."""


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
        self._loaded: dict[Part, int] = {}
        self._stale = True
        self._flying = asyncio.Lock()
        self._next: asyncio.Task[Snapshot] | None = None
        self._hurry = asyncio.Event()
        self._last_takeoff = float("-inf")
        self._poller: asyncio.Task[None] | None = None
        self._closed = False
        database.on_commit(self._catch_up)

    async def start(self) -> None:
        """Load the first picture and watch for changes. Raises Unavailable, InternalError."""
        await self.refresh()
        self._poller = asyncio.create_task(self._poll(), name="snapshot-poll")

    async def aclose(self) -> None:
        """Stop watching, once reads in progress have ended; the last picture stays."""
        self._closed = True
        if self._poller is not None:
            self._poller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._poller
        # Not cancelled: a writer may wait for it, and its write is done.
        self._hurry.set()
        if self._next is not None:
            await asyncio.wait([self._next])
        async with self._flying:
            pass

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
        if self._closed or self._snapshot is None or self._snapshot.revision >= revision:
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
                self._snapshot = await self._read_in_time()
            except DragomanError as exc:
                self._lost(exc)
                raise
            except Exception as exc:
                defect = InternalError("The store's content could not be read.")
                defect.__cause__ = exc
                self._lost(defect)
                raise defect from exc
            self._regained()
            return self._snapshot

    async def _read_in_time(self) -> Snapshot:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                return await self._read()
        except TimeoutError as exc:
            raise Unavailable("The store does not answer.") from exc

    async def _read(self) -> Snapshot:
        async with self._database.read() as connection:
            state = (await connection.execute(select(store_state))).mappings().one()
            if self._snapshot is not None and self._snapshot.revision == state["revision"]:
                return self._snapshot
            snapshot = await self._load(connection, state)
            self._loaded = {part: state[f"{part}_revision"] for part in Part}
            return snapshot

    async def _load(self, connection: AsyncConnection, state: RowMapping) -> Snapshot:
        """The last picture with the parts that moved since."""
        old = self._snapshot
        moved = {part for part in Part if self._loaded.get(part) != state[f"{part}_revision"]}
        return Snapshot(
            revision=state["revision"],
            workspaces=await _workspaces(connection) if old is None or Part.WORKSPACES in moved else old.workspaces,
            keys=await _keys(connection) if old is None or Part.KEYS in moved else old.keys,
            configs=await self._configs(connection) if old is None or Part.CONFIGS in moved else old.configs,
        )

    async def _configs(self, connection: AsyncConnection) -> dict[str, tuple[ProviderConfig, ...]]:
        """By workspace, oldest first; and the data keys that open them."""
        await self._vault.learn(await load_data_keys(connection))
        found: defaultdict[str, list[ProviderConfig]] = defaultdict(list)
        async for row in _rows(connection, select(provider_configs).order_by(provider_configs.c.id)):
            found[row["workspace_id"]].append(config_from_row(row))
        return {workspace_id: tuple(configs) for workspace_id, configs in found.items()}

    def _lost(self, exc: DragomanError) -> None:
        """Logged when it begins, not at every poll. Of an outage the cause's type alone, since drivers put values into
        texts; a defect with its trace, in which SQLAlchemy hides them."""
        if not self._stale and self._snapshot is not None:
            _log.warning(
                "the store cannot be read (%s, %s): serving revision %d",
                exc.reason,
                type(exc.__cause__).__name__,
                self._snapshot.revision,
                exc_info=exc if isinstance(exc, InternalError) else None,
            )
        self._stale = True

    def _regained(self) -> None:
        if self._stale:
            _log.info("the store is read: revision %d", self._revision())
        self._stale = False

    def _revision(self) -> int:
        return 0 if self._snapshot is None else self._snapshot.revision


async def _workspaces(connection: AsyncConnection) -> dict[str, Workspace]:
    return {row["id"]: workspace_from_row(row) async for row in _rows(connection, select(workspaces))}


async def _keys(connection: AsyncConnection) -> dict[bytes, ApiKey]:
    return {row["digest"]: key_from_row(row) async for row in _rows(connection, select(api_keys))}


async def _rows(connection: AsyncConnection, statement: Select[Any]) -> AsyncIterator[RowMapping]:
    async with connection.stream(statement.execution_options(yield_per=_ROWS_AT_A_TIME)) as result:
        async for rows in result.mappings().partitions():
            for row in rows:
                yield row
            await asyncio.sleep(0)
