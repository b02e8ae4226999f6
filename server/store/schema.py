"""The schema's version: making it current, and saying whether it is."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from server.core.secret import Secret
from server.core.setup import SetupError
from server.store.db import Database, open_database
from server.store.url import parse_url, sqlite_path

HEAD = "0003"
"""The newest migration. Versions are numbers of four digits, one after the other, so they compare as strings; stands
here so that a start need not load Alembic. A test holds it to the migrations."""

_MIGRATION_LOCK = 0x64676D  # any number that nothing else in the database takes as its advisory lock


class SchemaState(StrEnum):
    """How the database's schema stands to this version of the program."""

    CURRENT = "current"
    BEHIND = "behind"
    AHEAD = "ahead"


async def schema_state(database: Database) -> SchemaState:
    """BEHIND also for a database without any schema. Raises Unavailable."""
    async with database.read() as connection:
        try:
            version = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar_one_or_none()
        except DBAPIError as exc:
            if not _is_missing_table(exc):
                raise
            version = None
    if version == HEAD:
        return SchemaState.CURRENT
    return SchemaState.BEHIND if version is None or version < HEAD else SchemaState.AHEAD


async def require_current_schema(url: Secret, database: Database) -> None:
    """Raises SetupError, with what to run, unless the schema is current; Unavailable."""
    path = sqlite_path(url)
    if path is not None and not path.exists():
        raise SetupError(f"There is no database {path} yet.", mend=_MEND_BEHIND)
    state = await schema_state(database)
    if state is SchemaState.BEHIND:
        raise SetupError("The database's schema is older than this version of Dragoman.", mend=_MEND_BEHIND)
    if state is SchemaState.AHEAD:
        raise SetupError(
            "The database's schema is newer than this version of Dragoman.", mend="Run the version that migrated it."
        )


async def migrate(url: Secret) -> None:
    """Bring the schema up to HEAD, in one transaction; nothing to do is fine, and so are two processes at once (in one
    process one at a time: Alembic keeps its context in a global).

    Makes a SQLite file (mode 0600) that is not there yet; a file that others may read is closed to them. Raises
    SetupError, Unavailable, InternalError.
    """
    path = sqlite_path(url)
    if path is not None:
        _make_private_file(path)
    # Without foreign keys: rebuilding a table, SQLite's only way to change one, would cascade into others.
    database = open_database(parse_url(url), foreign_keys=False, pooled=False)
    try:
        async with database.write() as transaction:
            if database.dialect == "postgresql":
                await transaction.connection.execute(
                    text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK}
                )
            await transaction.connection.run_sync(_upgrade)
    finally:
        await database.dispose()


_MEND_BEHIND = "Run 'dragoman migrate'."


def _upgrade(connection: Connection) -> None:
    # Alembic takes a while to import, and a server that starts does not migrate.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        raise SetupError("The migration would break references between rows.", mend="Report this; nothing was changed.")


def _make_private_file(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # SQLite gives its -wal and -shm files the mode of the database file.
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise SetupError(
            f"The database file {path} cannot be made ({exc.strerror}).", mend="Choose another place for it."
        ) from exc


def _is_missing_table(exc: DBAPIError) -> bool:
    """42P01 undefined_table of Postgres; SQLite has only its general SQLITE_ERROR (1) for it."""
    state = getattr(exc.orig, "sqlstate", None)
    return state == "42P01" or getattr(exc.orig, "sqlite_errorcode", None) == 1
