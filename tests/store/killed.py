"""Processes to be killed: `python -m tests.store.killed URL HOME`, which forks one for each line that it reads.

A line is a role; the answer is the process's id. `server` makes configurations and changes and deletes them without
end, `master` and `data` rotate those keys without end; all note in HOME/acknowledged what was done.
`reap` waits for all of them and answers with their exit statuses.

Forked from a process that has everything imported, and no thread nor loop yet: so fifty starts take no minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import msgspec

import server.app
import server.store.key_file  # noqa: F401
from server.cli.rotation import rotate_master_keys
from server.core.errors import Unavailable
from server.core.provider_config import ProviderConfig
from server.core.secret import Secret
from server.core.setup import SetupError
from server.settings import Settings
from server.store.db import open_database
from server.store.master_key import MasterKeySource, read_keyring
from server.store.rotation import rotate_data_key
from server.store.store import Store, StoreOptions, open_store
from server.store.url import parse_url
from tests.store.examples import LOG, a_config, now

MASTER_KEY = "master.key"
ACKNOWLEDGED = "acknowledged"
WORKSPACE = "ws_killed"
LANES = 3


def credential(config_id: str, version: int) -> str:
    """What a configuration's secret is after `version` updates."""
    return f"sk-canary-of-{config_id}-{version}"


class Notes:
    """Lines that are in the file once `write` returned, whatever becomes of the process."""

    def __init__(self, home: Path) -> None:
        self._file = os.open(home / ACKNOWLEDGED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._operations = itertools.count()

    def write(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())

    @contextlib.contextmanager
    def operation(self, kind: str) -> Iterator[None]:
        """Notes its beginning and its end; of one that a kill interrupted there is no end."""
        name = (kind, os.getpid(), next(self._operations))
        self.write("began", *name)
        try:
            yield
        finally:
            self.write("ended", *name)


async def serve(url: Secret, home: Path) -> None:
    """Create, update twice, and delete every third one, in lanes that overlap."""
    source = MasterKeySource(file=home / MASTER_KEY)
    notes = Notes(home)
    options = StoreOptions(url=url, max_configs_per_workspace=1_000_000)
    async with open_store(options, source.read(), clock=now, reread=source.read) as store:
        await asyncio.gather(*(_lane(store, notes) for _ in range(LANES)))


async def _lane(store: Store, notes: Notes) -> None:
    for count in itertools.count():
        with notes.operation("create"):
            config = await _store(store, a_config(WORKSPACE), 0)
        notes.write("stored", config.id, 0)
        for version in (1, 2):
            with notes.operation("update"):
                config = await _store(store, config, version)
            notes.write("stored", config.id, version)
        if count % 3 == 0:
            notes.write("deleting", config.id)
            with notes.operation("delete"):
                await store.configs.delete(config.id)
            notes.write("deleted", config.id)


async def _store(store: Store, config: ProviderConfig, version: int) -> ProviderConfig:
    """With the credential of that version; repeated as a client would where a key was just replaced."""
    while True:
        try:
            secret = await store.vault.seal(WORKSPACE, config.id, "secret", Secret(credential(config.id, version)))
            sealed = msgspec.structs.replace(config, sealed_secret=secret)
            if version == 0:
                return await store.configs.create(sealed)
            return await store.configs.update(sealed, expected_etag=config.etag)
        except Unavailable:
            await asyncio.sleep(0.05)


async def rotate_masters(url: Secret, home: Path) -> None:
    """One after the other, each with both steps of an operator."""
    settings = Settings(home=home, database_url=url, master_key_file=home / MASTER_KEY)
    notes = Notes(home)
    while True:
        with notes.operation("rotate"):
            done, _ = await rotate_master_keys(settings, generate=True, drop_old=False)
        notes.write("master", done.key_id)
        with notes.operation("rotate"):
            await rotate_master_keys(settings, generate=False, drop_old=True)


async def rotate_data_keys(url: Secret, home: Path) -> None:
    """One after the other; a run that has the master key from before is repeated as an operator would."""
    notes = Notes(home)
    database = open_database(parse_url(url))
    while True:
        ring = read_keyring(home / MASTER_KEY)
        try:
            with notes.operation("rotate"):
                done = await rotate_data_key(database, ring, WORKSPACE, LOG, settle_seconds=0.1)
        except SetupError:
            continue
        if done.key_id is not None:
            notes.write("data", done.key_id)


def main(url: Secret, home: Path) -> None:
    roles = {"server": serve, "master": rotate_masters, "data": rotate_data_keys}
    children: list[int] = []
    print("ready", flush=True)
    for line in sys.stdin:
        role = line.strip()
        if role == "reap":
            print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children), flush=True)
            children.clear()
            continue
        child = os.fork()
        if child == 0:
            _run(roles[role](url, home))
        children.append(child)
        print(child, flush=True)


def _run(work: object) -> NoReturn:
    try:
        asyncio.run(work)  # type: ignore[arg-type]
    finally:
        os._exit(1)


if __name__ == "__main__":
    main(Secret(sys.argv[1]), Path(sys.argv[2]))
