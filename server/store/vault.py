"""Seals and opens credentials with each workspace's data key, and hashes callers' keys with the pepper.

Unwrapped data keys and the pepper stay in memory as long as the process lives, so that opening a credential takes no
I/O; a credential in clear is handed to who asked and kept nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from server.core.errors import DragomanError, InternalError, Unavailable
from server.core.provider_config import SecretField
from server.core.secret import Secret
from server.core.setup import SetupError
from server.store.cipher import CipherError, Key, Keyring, Purpose, UnknownKey
from server.store.db import Database
from server.store.wrapped_keys import WrappedKey, ensure_data_key, ensure_pepper, load_data_keys, unwrap

_log = logging.getLogger("dragoman.store")

_RETRY_SECONDS = 5.0
"""How soon the master keys are read again while one is missing."""

_READS_IN_A_ROW = 3

_PATIENCE_SECONDS = 1.0
"""How long a snapshot waits for master keys to be read, so that it does not show credentials before their key."""


class DatabaseVault:
    """The Vault port over wrapped keys in the database.

    reread: reads the master keys again, from where `master` came from; called in a thread, raises SetupError. With it
    a process that runs through a rotation finds the new master key when it first meets it. None: they never change.
    """

    def __init__(
        self,
        database: Database,
        master: Keyring,
        *,
        clock: Callable[[], datetime],
        reread: Callable[[], Keyring] | None = None,
    ) -> None:
        self._database = database
        self._master = master
        self._clock = clock
        self._reread = reread
        self._rereading: asyncio.Task[None] | None = None
        self._again: asyncio.TimerHandle | None = None
        self._data_keys: dict[str, Keyring] = {}
        self._missing: set[str] = set()
        self._logged: set[str] = set()

    async def seal(self, workspace_id: str, config_id: str, field: SecretField, value: Secret) -> bytes:
        ring = self._data_keys.get(workspace_id)
        if ring is None:
            await self.learn([await self._ensure_data_key(workspace_id)])
            ring = self._ring(workspace_id)
        return ring.seal(value.reveal().encode(), Purpose.CREDENTIAL, workspace_id, config_id, field)

    def open(self, workspace_id: str, config_id: str, field: SecretField, sealed: bytes) -> Secret:
        ring = self._data_keys.get(workspace_id) or self._ring(workspace_id)
        try:
            value = ring.open(sealed, Purpose.CREDENTIAL, workspace_id, config_id, field)
        except CipherError as exc:
            raise InternalError("A stored credential cannot be opened.") from exc
        return Secret(value.decode())

    async def learn(self, rows: Sequence[WrappedKey]) -> None:
        """Unwrap the data keys that are new here. One that does not unwrap is logged once, and its credentials do not
        open; every other workspace's do. Where a workspace has several, the last one that is not retired seals."""
        before = len(self._missing)
        self._unwrap(rows, final=self._reread is None)
        if self._reread is not None and len(self._missing) > before:
            await asyncio.wait([self._start_rereading()], timeout=_PATIENCE_SECONDS)

    def reread_master(self) -> None:
        """Read the master keys again, soon: their file was changed. Needs a running loop."""
        if self._reread is not None:
            self._start_rereading()

    async def aclose(self) -> None:
        """Stop reading master keys."""
        if self._again is not None:
            self._again.cancel()
        if self._rereading is not None:
            self._rereading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._rereading

    async def _ensure_data_key(self, workspace_id: str) -> WrappedKey:
        """Raises Unavailable where new keys are wrapped by a master key that is not to be had."""
        missing = ""
        for _ in range(_READS_IN_A_ROW):
            try:
                return await ensure_data_key(self._database, self._master, workspace_id, now=self._clock())
            except UnknownKey as exc:
                if self._reread is None or exc.key_id == missing:
                    missing = exc.key_id
                    break
                missing = exc.key_id
                await asyncio.wait([self._start_rereading()], timeout=_RETRY_SECONDS)
        _log.error("new keys are to be wrapped by the master key %s, which is not at hand", missing)
        raise Unavailable(
            "The master key is being changed, and this server does not have the new one yet.",
            action="Try again; if it stays so, the operator has to give it the new one.",
        )

    def _start_rereading(self) -> asyncio.Task[None]:
        if self._rereading is None or self._rereading.done():
            self._rereading = asyncio.create_task(self._read_master(), name="master-keys")
            self._rereading.add_done_callback(self._after_reading)
        return self._rereading

    def _after_reading(self, task: asyncio.Task[None]) -> None:
        """As long as something is missing, try again: the new key may be on its way here."""
        if task.cancelled():
            return
        if (defect := task.exception()) is not None:
            _log.error("the master keys were not read again", exc_info=defect)
        if self._missing:
            self._again = task.get_loop().call_later(_RETRY_SECONDS, self._start_rereading)

    async def _read_master(self) -> None:
        """Once more where that brought other keys: what the database names may be newer than what was just read."""
        changed = True
        for _ in range(_READS_IN_A_ROW):
            before = self._master.ids()
            self._master = await self._newly_read()
            changed = self._master.ids() != before
            if changed:
                _log.info("the master keys were read again: %s", ", ".join(sorted(self._master.ids())))
            with contextlib.suppress(DragomanError):
                async with self._database.read() as connection:
                    rows = await load_data_keys(connection)
                self._missing &= {row.id for row in rows}
                self._unwrap(rows, final=not changed)
            if not (self._missing and changed):
                return

    async def _newly_read(self) -> Keyring:
        assert self._reread is not None  # noqa: S101 - no task is started without it
        try:
            return await asyncio.to_thread(self._reread)
        except SetupError as exc:
            _log.error("the master keys cannot be read again, so the ones from before stay: %s", exc)
            return self._master

    def _unwrap(self, rows: Sequence[WrappedKey], *, final: bool) -> None:
        """final: whether a master key that is missing now is worth a line in the log."""
        for row in rows:
            ring = self._data_keys.get(row.workspace_id or "")
            known = ring is not None and row.id in ring.ids()
            if known and ring is not None and (row.retired or ring.active.id == row.id):
                continue
            try:
                self._add(row, ring, unwrap(self._master, row))
            except CipherError as exc:
                missing = isinstance(exc, UnknownKey)
                if missing:
                    self._missing.add(row.id)
                if row.id not in self._logged and (final or not missing):
                    self._logged.add(row.id)
                    _log.error("the data key %s of workspace %s cannot be unwrapped: %s", row.id, row.workspace_id, exc)

    def _add(self, row: WrappedKey, ring: Keyring | None, key: Key) -> None:
        self._missing.discard(row.id)
        if row.workspace_id is None:
            return
        if ring is None:
            self._data_keys[row.workspace_id] = Keyring(key)
        else:
            self._data_keys[row.workspace_id] = ring.with_key(key, active=not row.retired)

    def _ring(self, workspace_id: str) -> Keyring:
        ring = self._data_keys.get(workspace_id)
        if ring is None:
            raise InternalError("The workspace's data key is not at hand.")
        return ring


class PepperedHasher:
    """The KeyHasher port: HMAC-SHA256 with the pepper. Finding a digest in a dict compares no key byte by byte."""

    def __init__(self, pepper: Key) -> None:
        self._pepper = pepper.material()

    def digest(self, key: str) -> bytes:
        return hmac.digest(self._pepper, key.encode("utf-8", "surrogatepass"), "sha256")


async def open_hasher(database: Database, master: Keyring, *, now: datetime) -> PepperedHasher:
    """The hasher with the installation's pepper, made on the first start.

    The pepper is random and wrapped like a data key, not derived from the master key, so callers' keys outlive a
    rotation of it. Raises SetupError where the master key is not the one that this database was made with; Unavailable.
    """
    row = await ensure_pepper(database, master, now=now)
    try:
        return PepperedHasher(unwrap(master, row))
    except UnknownKey as exc:
        raise SetupError(
            f"This database was made with the master key {exc.key_id}; the one given is {master.active.id}.",
            mend="Give the master key that belongs to it (both, new one first, during a rotation).",
        ) from None
    except CipherError as exc:
        raise SetupError(f"The database's keys do not unwrap: {exc}.", mend="Restore the database.") from exc
