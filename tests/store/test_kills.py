"""SIGKILL in the middle of creates, updates, deletions and rotations loses nothing that was acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.cli.rotation import rotate_master_keys
from server.core.audit import AuditFilter
from server.core.secret import Secret
from server.settings import Settings
from server.store.master_key import create_master_key_file, read_keyring
from server.store.rotation import rotate_data_key
from server.store.schema import migrate
from server.store.store import Store, StoreOptions, open_store
from tests.store.examples import LOG, a_workspace, now
from tests.store.killed import ACKNOWLEDGED, MASTER_KEY, WORKSPACE, credential
from tests.support.postgres import PostgresCluster
from tests.support.process import PROJECT

KILLS = {"sqlite": 50, "postgres": 15}
"""Rounds. In each a server and both rotations are at work at once, and each is killed at a moment of its own."""


class Nursery:
    """Makes the processes; see `tests.store.killed`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n".encode())
        return (await self._process.stdout.readline()).decode().strip()

    async def kill_after(self, pid: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        os.kill(pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def nursery(url: Secret, home: Path) -> AsyncIterator[Nursery]:
    command = [sys.executable, "-m", "tests.store.killed", url.reveal(), str(home)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=PROJECT, stdin=pipe, stdout=pipe)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield Nursery(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_what_was_acknowledged_is_there_and_everything_opens(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """After each kill, with the master key file as the kill left it: what was stored has its value or a newer one,
    what was deleted is gone, and every credential in the database opens. At last both rotations come to their end."""
    url = Secret(f"sqlite:///{tmp_path}/dragoman.db")
    if kind == "postgres":
        cluster: PostgresCluster = request.getfixturevalue("postgres_cluster")
        url = Secret(cluster.create_database())
    key_file = tmp_path / MASTER_KEY
    create_master_key_file(key_file)
    await migrate(url)
    async with open_store(StoreOptions(url=url), read_keyring(key_file), clock=now) as store:
        await store.access.create_workspace(a_workspace(id=WORKSPACE))
        digest = store.hasher.digest("dgm_a")
        first_master = read_keyring(key_file).active.id
    dice = random.Random(50)
    async with nursery(url, tmp_path) as children:
        for _ in range(KILLS[kind]):
            pids = [int(await children.ask(role)) for role in ("server", "master", "data")]
            await asyncio.gather(*(children.kill_after(pid, dice.uniform(0.05, 1.2)) for pid in pids))
            assert await children.ask("reap") == "-9 -9 -9"
            await look(url, tmp_path, digest)
    lines = notes(tmp_path)
    assert {line[0] for line in lines} == {"stored", "deleting", "deleted", "master", "data"}
    settings = Settings(home=tmp_path, database_url=url, master_key_file=key_file)
    done, others = await rotate_master_keys(settings, generate=False, drop_old=True)
    assert (done.still_needed, done.unreadable, others) == ((), (), frozenset())
    async with open_store(StoreOptions(url=url), read_keyring(key_file), clock=now) as store:
        ring = read_keyring(key_file)
        turned = await rotate_data_key(store.database, ring, WORKSPACE, LOG, settle_seconds=0)
        assert (turned.still_used, turned.unreadable) == ((), ())
        await look_at_log(store, first_master, lines)
    await look(url, tmp_path, digest)
    count = {word: sum(line[0] == word for line in lines) for word in ("stored", "deleted", "master", "data")}
    print(f"{KILLS[kind]} rounds, {3 * KILLS[kind]} kills, acknowledged: {count}")


async def look_at_log(store: Store, first_master: str, lines: list[list[str]]) -> None:
    """Each rotation that was acknowledged is in the audit log, and once; each key replaced the one before it."""
    entries = await store.audit.list(AuditFilter(org_id="org_1", outcome="ok"), limit=10_000, oldest_first=True)
    for kind in ("master", "data"):
        rotated = [entry for entry in entries if entry.action == f"{kind}_key.rotate"]
        ids = [entry.object_id for entry in rotated]
        assert len(set(ids)) == len(ids)
        assert {line[1] for line in lines if line[0] == kind} - {first_master} <= set(ids)
        replaced = [entry.details["replaced"] for entry in rotated]
        assert replaced[1:] == ids[:-1]


def notes(home: Path) -> list[list[str]]:
    return [line.split() for line in (home / ACKNOWLEDGED).read_text().splitlines()]


async def look(url: Secret, home: Path, digest: bytes) -> None:
    stored: dict[str, int] = {}
    deleting, deleted = set[str](), set[str]()
    for word, id, *rest in notes(home):
        if word == "stored":
            stored[id] = max(stored.get(id, 0), int(rest[0]))
        elif word in {"deleting", "deleted"}:
            (deleting if word == "deleting" else deleted).add(id)
    async with open_store(StoreOptions(url=url), read_keyring(home / MASTER_KEY), clock=now) as store:
        assert store.hasher.digest("dgm_a") == digest
        found = {config.id: config for config in store.snapshots.current().configs.get(WORKSPACE, ())}
        assert stored.keys() - deleting <= found.keys()
        assert not deleted & found.keys()
        for id, config in found.items():
            assert config.sealed_secret is not None
            opened = store.vault.open(WORKSPACE, id, "secret", config.sealed_secret).reveal()
            version = re.fullmatch(re.escape(credential(id, 0)[:-1]) + r"(\d)", opened)
            assert version is not None
            assert int(version[1]) >= stored.get(id, 0)
