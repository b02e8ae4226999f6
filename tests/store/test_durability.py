"""What was acknowledged stays, whatever kills the process; and processes that write at once do not fail for it."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select

from server.core.secret import Secret
from server.store.cipher import Keyring
from server.store.store import StoreOptions, open_store
from server.store.tables import workspaces
from tests.store.examples import a_workspace, now
from tests.store.test_snapshot import write_key
from tests.support.process import PROJECT

KILLS = 20


async def start(action: str, url: Secret, key_file: Path, workspace_id: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "tests.store.other_process", action, url.reveal(), str(key_file), workspace_id]
    return await asyncio.create_subprocess_exec(*command, cwd=PROJECT, stdout=asyncio.subprocess.PIPE)


async def test_killing_the_writer_twenty_times_loses_no_acknowledged_configuration(
    sqlite_url: Secret, master: Keyring, tmp_path: Path
) -> None:
    """Each kill comes at a random moment among the writes; afterwards every acknowledged configuration is there, and
    its credential opens."""
    key_file = write_key(tmp_path, master)
    async with open_store(StoreOptions(url=sqlite_url), master, clock=now) as store:
        workspace = await store.access.create_workspace(a_workspace())
    acknowledged: list[str] = []
    for _ in range(KILLS):
        writer = await start("create", sqlite_url, key_file, workspace.id)
        assert writer.stdout is not None
        assert await writer.stdout.readline() == b"ready\n"
        acknowledged.append((await writer.stdout.readline()).decode().strip())
        await asyncio.sleep(random.uniform(0, 0.1))
        writer.send_signal(signal.SIGKILL)
        rest, _ = await writer.communicate()
        assert writer.returncode == -signal.SIGKILL
        # A line that the kill cut was not read by anybody.
        acknowledged += [line for line in rest.decode().splitlines(keepends=True) if line.endswith("\n")]
    acknowledged = [line.strip() for line in acknowledged]
    assert len(set(acknowledged)) == len(acknowledged) >= KILLS
    async with open_store(StoreOptions(url=sqlite_url, max_configs_per_workspace=100_000), master, clock=now) as store:
        stored = {config.id: config for config in store.snapshots.current().configs[workspace.id]}
        assert set(acknowledged) <= stored.keys()
        for config in stored.values():
            assert config.sealed_secret is not None
            opened = store.vault.open(workspace.id, config.id, "secret", config.sealed_secret)
            assert opened.reveal() == "sk-of-" + config.id


async def test_processes_that_write_at_once_all_succeed(url: Secret, master: Keyring, tmp_path: Path) -> None:
    key_file = write_key(tmp_path, master)
    async with open_store(StoreOptions(url=url), master, clock=now) as store:
        workspace = await store.access.create_workspace(a_workspace())
        writers = [await start("create:40", url, key_file, workspace.id) for _ in range(3)]
        outputs = [output for output, _ in await asyncio.gather(*(writer.communicate() for writer in writers))]
        assert [writer.returncode for writer in writers] == [0, 0, 0]
        made = {line for output in outputs for line in output.decode().split() if line != "ready"}
        assert len(made) == 120
        shown = (await store.snapshots.refresh()).configs[workspace.id]
        assert made == {config.id for config in shown}


@pytest.mark.parametrize("writes", [1, 25])
async def test_the_revision_counts_the_writes_that_the_snapshot_shows(
    url: Secret, master: Keyring, writes: int
) -> None:
    async with open_store(StoreOptions(url=url), master, clock=now) as store:
        before = store.snapshots.current().revision
        await asyncio.gather(*(store.access.create_workspace(a_workspace()) for _ in range(writes)))
        await store.vault.seal(next(iter(store.snapshots.current().workspaces)), "cfg_1", "key", Secret("x"))
        assert (await store.snapshots.refresh()).revision == before + writes


async def test_a_read_sees_one_state_whatever_is_written_meanwhile(url: Secret, master: Keyring) -> None:
    async with open_store(StoreOptions(url=url), master, clock=now) as store:
        count = select(func.count()).select_from(workspaces)
        async with store.database.read() as connection:
            before = (await connection.execute(count)).scalar_one()
            await store.access.create_workspace(a_workspace())
            assert (await connection.execute(count)).scalar_one() == before == 0
        assert len(await store.access.list_workspaces()) == 1
