"""SIGKILL in the middle of creates, updates, deletions and rotations loses nothing that was acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import sys
from collections import Counter
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
from tests.store.examples import LOG, a_workspace, now, until
from tests.store.killed import ACKNOWLEDGED, MASTER_KEY, WORKSPACE, credential
from tests.support.postgres import PostgresCluster
from tests.support.process import PROJECT

KILLS = 50
"""How many times each role is killed in the middle of what it does. Rounds go on until that: in each, all three are at
work at once, and each is killed at a moment of its own; every fifth time that may be one before it began to work."""

OPERATIONS = {"server": {"create", "update"}, "master": {"rotate"}, "data": {"rotate"}}
"""What the roles of `tests.store.killed` do that a kill is to interrupt."""
DONE = {"stored", "deleted", "master", "data"}
"""What must have come to its end, too, and have been acknowledged."""


class Nursery:
    """Makes the processes; see `tests.store.killed`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n".encode())
        return (await self._process.stdout.readline()).decode().strip()

    async def kill(self, pid: int, home: Path, dice: random.Random) -> None:
        """At a random moment, mostly one after it began to work."""
        if dice.random() < 0.8:
            await until(lambda: any(line[::2] == ["began", str(pid)] for line in notes(home)), "at work")
        await asyncio.sleep(dice.uniform(0, 0.5))
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
    dice, killed = random.Random(50), Counter[str]()
    async with nursery(url, tmp_path) as children:
        while min(killed[role] for role in OPERATIONS) < KILLS or DONE - {line[0] for line in notes(tmp_path)}:
            pids = {role: int(await children.ask(role)) for role in OPERATIONS}
            await asyncio.gather(*(children.kill(pid, tmp_path, dice) for pid in pids.values()))
            assert await children.ask("reap") == "-9 -9 -9"
            killed.update(role for role, pid in pids.items() if OPERATIONS[role] & interrupted(tmp_path, pid))
            await look(url, tmp_path, digest)
    lines = notes(tmp_path)
    settings = Settings(home=tmp_path, database_url=url, master_key_file=key_file)
    done, others = await rotate_master_keys(settings, generate=False, drop_old=True)
    assert (done.still_needed, done.unreadable, others) == ((), (), frozenset())
    async with open_store(StoreOptions(url=url), read_keyring(key_file), clock=now) as store:
        ring = read_keyring(key_file)
        turned = await rotate_data_key(store.database, ring, WORKSPACE, LOG, settle_seconds=0)
        assert (turned.still_used, turned.unreadable) == ((), ())
        await look_at_log(store, first_master, lines)
    await look(url, tmp_path, digest)
    count = {word: sum(line[0] == word for line in lines) for word in sorted(DONE)}
    print(f"killed in the middle: {dict(killed)}; acknowledged: {count}")


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
    """What the processes noted, in words. Each line was one write: it is whole or not there."""
    path = home / ACKNOWLEDGED
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def interrupted(home: Path, pid: int) -> set[str]:
    """Kinds of operations that the process had begun when it was killed, and not ended."""
    running = {}
    for word, *rest in notes(home):
        if word in ("began", "ended") and rest[1] == str(pid):
            kind, _, number = rest
            running[number] = kind if word == "began" else ""
    return set(running.values()) - {""}


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
