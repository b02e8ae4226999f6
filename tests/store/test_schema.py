"""The schema: what migrations make is what the tables say, and a server knows whether it fits."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from server.core.secret import Secret
from server.core.setup import SetupError
from server.store import schema
from server.store.cipher import Keyring
from server.store.db import open_database
from server.store.schema import HEAD, SchemaState, migrate, schema_state
from server.store.store import StoreOptions, open_store
from server.store.tables import metadata
from server.store.url import parse_url
from tests.store.examples import now
from tests.support.process import PROJECT


async def inspected(url: Secret, look: Any) -> Any:
    database = open_database(parse_url(url))
    try:
        async with database.read() as connection:
            return await connection.run_sync(look)
    finally:
        await database.dispose()


async def state_of(url: Secret) -> SchemaState:
    database = open_database(parse_url(url))
    try:
        return await schema_state(database)
    finally:
        await database.dispose()


async def run_sql(url: Secret, statement: str) -> None:
    database = open_database(parse_url(url))
    try:
        async with database.write() as transaction:
            await transaction.connection.execute(text(statement))
    finally:
        await database.dispose()


async def test_the_migrations_make_exactly_the_tables(url: Secret) -> None:
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, metadata))

    assert await inspected(url, differences) == []


async def test_checks_and_deletion_rules_are_those_of_the_tables(url: Secret) -> None:
    """What Alembic's comparison leaves out."""

    def facts(connection: Connection) -> dict[str, Any]:
        inspector = inspect(connection)
        return {
            name: (
                {check["name"] for check in inspector.get_check_constraints(name)},
                {(key["name"], key["options"].get("ondelete")) for key in inspector.get_foreign_keys(name)},
                {index["name"] for index in inspector.get_indexes(name) if index["unique"]},
            )
            for name in inspector.get_table_names()
            if name != "alembic_version"
        }

    found = await inspected(url, facts)
    assert found.keys() == metadata.tables.keys()
    checks, keys, indexes = found["wrapped_keys"]
    assert checks == {"ck_wrapped_keys_scope"}
    assert keys == {("fk_wrapped_keys_workspace_id", "CASCADE")}
    assert indexes == {"uq_wrapped_keys_active_data_key", "uq_wrapped_keys_active_pepper"}
    assert found["store_state"][0] == {"ck_store_state_one_row"}
    assert found["config_stats"][1] == {("fk_config_stats_config_id", "CASCADE")}


def test_the_head_that_a_start_compares_with_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).with_name("migrations")))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [HEAD]
    versions = [revision.revision for revision in script.walk_revisions()]
    assert versions == sorted(versions, reverse=True)
    assert all(len(version) == 4 and version.isdecimal() for version in versions)


async def test_migrating_again_and_in_several_processes_at_once_is_fine(empty_url: Secret) -> None:
    command = [sys.executable, "-m", "tests.store.other_process", "migrate", empty_url.reveal(), "no-key-needed"]
    processes = [await asyncio.create_subprocess_exec(*command, cwd=PROJECT) for _ in range(3)]
    assert await asyncio.gather(*(process.wait() for process in processes)) == [0, 0, 0]
    await migrate(empty_url)
    assert await state_of(empty_url) is SchemaState.CURRENT


async def test_a_database_without_a_schema_is_behind_and_a_start_says_what_to_run(
    empty_url: Secret, master: Keyring
) -> None:
    with pytest.raises(SetupError, match="dragoman migrate"):
        async with open_store(StoreOptions(url=empty_url), master, clock=now):
            pass


@pytest.mark.parametrize(
    ("version", "state", "says"),
    [("0000", SchemaState.BEHIND, "older.*dragoman migrate"), ("9999", SchemaState.AHEAD, "newer")],
)
async def test_a_start_refuses_a_schema_of_another_version(
    url: Secret, master: Keyring, version: str, state: SchemaState, says: str
) -> None:
    await run_sql(url, f"UPDATE alembic_version SET version_num = '{version}'")
    assert await state_of(url) is state
    with pytest.raises(SetupError, match=says):
        async with open_store(StoreOptions(url=url), master, clock=now):
            pass


async def test_an_empty_version_table_is_behind(url: Secret) -> None:
    await run_sql(url, "DELETE FROM alembic_version")
    assert await state_of(url) is SchemaState.BEHIND


async def test_the_sqlite_files_are_the_owners_alone(tmp_path: Path, master: Keyring) -> None:
    path = tmp_path / "home" / "dragoman.db"
    url = Secret(f"sqlite:///{path}")
    await migrate(url)
    async with open_store(StoreOptions(url=url), master, clock=now):
        files = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert files == {"dragoman.db": 0o600, "dragoman.db-wal": 0o600, "dragoman.db-shm": 0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_a_sqlite_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "dragoman.db"
    path.touch(0o644)
    await migrate(Secret(f"sqlite:///{path}"))
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_place_where_no_file_can_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot be made"):
        await migrate(Secret(f"sqlite:///{tmp_path}/file/dragoman.db"))


async def test_sqlite_is_set_up_so_that_an_acknowledged_write_survives(sqlite_url: Secret) -> None:
    def pragmas(connection: Connection) -> dict[str, Any]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names}

    found = await inspected(sqlite_url, pragmas)
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
