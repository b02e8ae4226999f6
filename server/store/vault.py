"""Seals and opens credentials with each workspace's data key, and hashes callers' keys with the pepper.

Unwrapped data keys and the pepper stay in memory as long as the process lives, so that opening a credential takes no
I/O; a credential in clear is handed to who asked and kept nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from server.core.errors import InternalError
from server.core.provider_config import SecretField
from server.core.secret import Secret
from server.core.setup import SetupError
from server.store.cipher import CipherError, Key, Keyring, Purpose, UnknownKey
from server.store.db import Database
from server.store.wrapped_keys import WrappedKey, ensure_key, unwrap

_log = logging.getLogger("dragoman.store")


class DatabaseVault:
    """The Vault port over wrapped keys in the database."""

    def __init__(self, database: Database, master: Keyring, *, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._master = master
        self._clock = clock
        self._data_keys: dict[str, Keyring] = {}
        self._unreadable: set[str] = set()

    async def seal(self, workspace_id: str, config_id: str, field: SecretField, value: Secret) -> bytes:
        ring = self._data_keys.get(workspace_id)
        if ring is None:
            row = await ensure_key(self._database, self._master, Purpose.DATA_KEY, workspace_id, now=self._clock())
            self.learn([row])
            ring = self._ring(workspace_id)
        return ring.seal(value.reveal().encode(), Purpose.CREDENTIAL, workspace_id, config_id, field)

    def open(self, workspace_id: str, config_id: str, field: SecretField, sealed: bytes) -> Secret:
        try:
            value = self._ring(workspace_id).open(sealed, Purpose.CREDENTIAL, workspace_id, config_id, field)
        except CipherError as exc:
            raise InternalError("A stored credential cannot be opened.") from exc
        return Secret(value.decode())

    def learn(self, rows: Sequence[WrappedKey]) -> None:
        """Unwrap the data keys that are new here. One that does not unwrap is logged once, and its credentials do not
        open; every other workspace's do. Where a workspace has several, the last one that is not retired seals."""
        for row in rows:
            ring = self._data_keys.get(row.workspace_id or "")
            known = ring is not None and row.id in ring.ids()
            if known and ring is not None and (row.retired or ring.active.id == row.id):
                continue
            try:
                self._add(row, ring, unwrap(self._master, row))
            except CipherError as exc:
                if row.id not in self._unreadable:
                    self._unreadable.add(row.id)
                    _log.error("the data key %s of workspace %s cannot be unwrapped: %s", row.id, row.workspace_id, exc)

    def _add(self, row: WrappedKey, ring: Keyring | None, key: Key) -> None:
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
        self._pepper = pepper

    def digest(self, key: str) -> bytes:
        return hmac.digest(self._pepper.material(), key.encode("utf-8", "surrogatepass"), hashlib.sha256)


async def open_hasher(database: Database, master: Keyring, *, now: datetime) -> PepperedHasher:
    """The hasher with the installation's pepper, made on the first start.

    The pepper is random and wrapped like a data key, not derived from the master key, so callers' keys outlive a
    rotation of it. Raises SetupError where the master key is not the one that this database was made with; Unavailable.
    """
    row = await ensure_key(database, master, Purpose.CALLER_KEY_PEPPER, None, now=now)
    try:
        return PepperedHasher(unwrap(master, row))
    except UnknownKey as exc:
        raise SetupError(
            f"This database was made with the master key {exc.key_id}; the one given is {master.active.id}.",
            mend="Give the master key that belongs to it (both, new one first, during a rotation).",
        ) from None
    except CipherError as exc:
        raise SetupError(f"The database's keys do not unwrap: {exc}.", mend="Restore the database.") from exc
