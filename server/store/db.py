"""The database behind one small face: a consistent read, a durable write, and outages told apart from defects.

SQLite and Postgres differ here and nowhere else. What the repositories rely on:

- `read()` sees one state of the database however many statements it runs.
- `write()` is durable when it returns (SQLite: WAL with synchronous=FULL; Postgres: its synchronous_commit), and every
  listener has seen its revision by then.
- Writers wait for each other and do not fail for it. SQLite's take the write lock with BEGIN IMMEDIATE, since a
  transaction that reads first and then writes cannot wait; within one process they queue for a turn, since SQLite's own
  waiting polls and is not fair.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

from sqlalchemy import Connection, Table, event, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from server.store.outages import translated, unconfirmed
from server.store.tables import Part, store_state

Dialect = Literal["sqlite", "postgresql"]
Committed = Callable[[int], Awaitable[None]]
"""Called after a commit that moved the revision, with the new one. Must not raise for an outage: the write is done."""

_WRITES = "dragoman_writes"
_POOL_SIZE = 8
_POOL_WAIT_SECONDS = 10.0
_LOCK_WAIT_SECONDS = 10.0
_CONNECT_SECONDS = 5.0
_STATEMENT_SECONDS = 15.0


class WriteTransaction:
    """An open write: `connection` for statements, `changes` for the parts of the snapshot that show them."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self._changed: set[Part] = set()

    def changes(self, part: Part) -> None:
        """The snapshot has to show this write."""
        self._changed.add(part)

    async def finish(self) -> int | None:
        """Move the revision where it has to; last of all, so that its row is locked for as short as can be."""
        if not self._changed:
            return None
        following = store_state.c.revision + 1
        values = {"revision": following, **{f"{part}_revision": following for part in self._changed}}
        statement = update(store_state).values(values).returning(store_state.c.revision)
        return int((await self.connection.execute(statement)).scalar_one())


class Database:
    """One database, its connections, and who wants to know of writes."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.dialect: Dialect = "sqlite" if engine.dialect.name == "sqlite" else "postgresql"
        self._turn = asyncio.Lock() if self.dialect == "sqlite" else contextlib.nullcontext()
        self._listeners: list[Committed] = []

    def on_commit(self, listener: Committed) -> None:
        """Await `listener` after every commit that moves the revision, before `write()` returns."""
        self._listeners.append(listener)

    def insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """An INSERT that has ON CONFLICT; both dialects spell it alike."""
        return sqlite.insert(table) if self.dialect == "sqlite" else postgresql.insert(table)

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One state of the database. Raises Unavailable, InternalError."""
        with translated():
            async with self.engine.connect() as connection:
                if self.dialect == "postgresql":
                    await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                yield connection

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[WriteTransaction]:
        """A transaction that commits at the end of the block, and rolls back where it raises.

        Raises Unavailable (when the commit itself was not confirmed, the message says so), InternalError.
        """
        async with self._turn:
            with translated():
                async with self.engine.connect() as connection:
                    await connection.execution_options(**{_WRITES: True})
                    transaction = WriteTransaction(connection)
                    yield transaction
                    revision = await transaction.finish()
                    with unconfirmed():
                        await connection.commit()
        if revision is not None:
            for listener in self._listeners:
                await listener(revision)

    async def trim_journal(self) -> None:
        """After something was replaced for good: SQLite's journal is written back and cut, as far as readers let it.
        Postgres keeps old rows until it vacuums, and its journal as long as it is set up to."""
        if self.dialect != "sqlite":
            return
        with translated():
            async with self.engine.connect() as connection:
                # On the driver's connection: SQLAlchemy would begin a transaction, and within one there is no
                # checkpoint.
                driver = (await connection.get_raw_connection()).driver_connection
                assert driver is not None  # noqa: S101 - a connection that is open has one
                await driver.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")

    async def dispose(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


def open_database(url: URL, *, foreign_keys: bool = True, pooled: bool = True) -> Database:
    """A database by an address from `parse_url`. Connects on first use only.

    foreign_keys: whether SQLite checks them (a migration that rebuilds a table must not). pooled: whether connections
    outlive their use.
    """
    options: dict[str, Any] = {"hide_parameters": True, "poolclass": NullPool}
    if pooled:
        options |= {
            "poolclass": AsyncAdaptedQueuePool,
            "pool_size": _POOL_SIZE,
            "max_overflow": _POOL_SIZE,
            "pool_timeout": _POOL_WAIT_SECONDS,
        }
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url, **options)
        _prepare_sqlite(engine, foreign_keys=foreign_keys)
    else:
        settings = {"application_name": "dragoman", "timezone": "UTC", "lock_timeout": f"{_LOCK_WAIT_SECONDS:.0f}s"}
        arguments = {"timeout": _CONNECT_SECONDS, "command_timeout": _STATEMENT_SECONDS, "server_settings": settings}
        # A connection that the server closed meanwhile is found out before its use, not by a failed call.
        engine = create_async_engine(url, connect_args=arguments, pool_pre_ping=True, **options)
    return Database(engine)


def _prepare_sqlite(engine: AsyncEngine, *, foreign_keys: bool) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        # Transactions are begun by `on_begin`, not by the driver, which would begin none before a SELECT.
        connection.isolation_level = None
        cursor = connection.cursor()
        # First of all: the others may have to wait for a lock themselves.
        cursor.execute(f"PRAGMA busy_timeout = {_LOCK_WAIT_SECONDS * 1000:.0f}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        # What is deleted or replaced is overwritten, not only unlinked: a removed credential is not in the next backup.
        cursor.execute("PRAGMA secure_delete = ON")
        cursor.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    @event.listens_for(engine.sync_engine, "invalidate")
    def on_invalidate(connection: Any, _record: object, _exception: BaseException | None) -> None:
        # Before the close: SQLite keeps a closed connection with its locks for as long as anybody holds a statement of
        # it, and the traceback of whoever was cancelled in the middle of one does.
        with contextlib.suppress(Exception):
            connection.rollback()
