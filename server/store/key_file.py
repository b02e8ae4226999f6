"""Changing the file that the master keys are in: whole or not at all, by one command at a time."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from server.core.setup import SetupError
from server.store.cipher import Key, Keyring
from server.store.master_key import read_keyring, sync_directory


class KeyFile:
    """The file, held by `editing`. allow_shared: see `read_keyring`."""

    def __init__(self, path: Path, *, allow_shared: bool) -> None:
        self._path = path
        self._allow_shared = allow_shared

    def read(self) -> Keyring:
        """Raises SetupError."""
        return read_keyring(self._path, allow_shared=self._allow_shared)

    def put_first(self, key: Key) -> Keyring:
        """`key` in front of what is there, which stays as it is. Raises SetupError."""
        self.read()
        self._replace(base64.b64encode(key.material()) + b"\n" + self._path.read_bytes())
        return self.read()

    def keep_first(self) -> Keyring:
        """The first key alone. Raises SetupError."""
        self._replace(base64.b64encode(self.read().active.material()) + b"\n")
        return self.read()

    def _replace(self, content: bytes) -> None:
        # Where it is a link (as orchestrators mount secrets), what it points to is replaced, not the link.
        path = self._path.resolve()
        try:
            status = path.stat()
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
                os.fchmod(file.fileno(), status.st_mode & 0o777)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            sync_directory(path.parent)
        except OSError as exc:
            raise SetupError(
                f"The master key file {path} cannot be changed ({exc.strerror}).",
                mend="Change it where it comes from: the new key on the first line, the old one behind it.",
            ) from exc


@contextlib.contextmanager
def editing(path: Path, *, allow_shared: bool) -> Iterator[KeyFile]:
    """Hold the file against every other such command on this machine. Raises SetupError where one runs."""
    lock = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        raise SetupError(
            f"The master key's directory {path.parent} cannot be written ({exc.strerror}).",
            mend="Change the file where it comes from: the new key on the first line, the old one behind it; then run "
            "this without --generate.",
        ) from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise SetupError(f"Another command changes {path} now.", mend="Wait for it to end.") from None
    try:
        yield KeyFile(path, allow_shared=allow_shared)
    finally:
        os.close(descriptor)
