"""Where the master key comes from: a file or a text from the environment. Read once, at the start."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path

from server.core.secret import Secret
from server.core.setup import SetupError
from server.store.cipher import KEY_BYTES, Key, Keyring

_MAX_FILE_BYTES = 64 * 1024
_LEAST_DISTINCT_BYTES = 12  # 32 random bytes have fewer than 12 distinct ones less than once in 10**15


def parse_keyring(text: Secret) -> Keyring:
    """Master keys, each 32 bytes as base64 (either alphabet) or hex; separated by commas or line ends, `#` comments.

    The first one seals; all open, so that after a rotation the old one stands behind the new one until it is needed no
    more. Raises SetupError, which never repeats the text.
    """
    lines = (line.partition("#")[0] for line in text.reveal().splitlines())
    words = [word.strip() for line in lines for word in line.split(",") if word.strip()]
    if not words:
        raise SetupError("The master key is empty.", mend=_MEND_FORMAT)
    keys = [Key(_parse_key(word, place)) for place, word in enumerate(words, start=1)]
    return Keyring(keys[0], keys[1:])


def read_keyring(path: Path, *, allow_shared: bool = False) -> Keyring:
    """The master keys in a file, as in `parse_keyring`.

    Raises SetupError for a file that is missing, cannot be read, or can be read by others than its owner (unless
    `allow_shared`: some orchestrators mount secrets readable by a group).
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SetupError(f"The master key {path} is not a regular file.", mend="Name a file.")
            if status.st_mode & 0o077 and not allow_shared:
                raise SetupError(
                    f"Others than its owner may read the master key file {path} (mode {status.st_mode & 0o777:04o}).",
                    mend=f"Run 'chmod 600 {path}', or set DRAGOMAN_MASTER_KEY_FILE_SHARED=true to accept it.",
                )
            content = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError as exc:
        raise SetupError(f"There is no master key file {path}.", mend=_MEND_MISSING) from exc
    except OSError as exc:
        raise SetupError(f"The master key file {path} cannot be read ({exc.strerror}).", mend=_MEND_MISSING) from exc
    if len(content) > _MAX_FILE_BYTES:
        raise SetupError(f"The file {path} is too large to be a master key.", mend=_MEND_FORMAT)
    try:
        return parse_keyring(Secret(content.decode("ascii")))
    except UnicodeDecodeError:
        raise SetupError(f"The file {path} holds no text.", mend=_MEND_FORMAT) from None
    except SetupError as exc:
        raise SetupError(f"{path}: {exc.message}", mend=exc.mend) from None


def create_master_key_file(path: Path) -> bool:
    """Make a new random master key in `path` with mode 0600, and its directory with 0700. False when there is a file
    already, which is never touched. Raises SetupError when it cannot be written."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Written whole under another name and then linked: a crash leaves no half a key, and two starts agree on one.
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(base64.b64encode(os.urandom(KEY_BYTES)).decode() + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        _sync_directory(path.parent)
    except OSError as exc:
        raise SetupError(
            f"The master key file {path} cannot be written ({exc.strerror}).", mend="Choose another DRAGOMAN_HOME."
        ) from exc
    return True


_MEND_FORMAT = "It must be 32 random bytes as base64 or hex, for example from 'openssl rand -base64 32'."
_MEND_MISSING = "Set DRAGOMAN_MASTER_KEY_FILE to a file with 32 random bytes as base64, or DRAGOMAN_MASTER_KEY to them."


def _parse_key(word: str, place: int) -> bytes:
    material = _decode(word)
    if material is None or len(material) != KEY_BYTES:
        raise SetupError(f"Master key number {place} is not a key.", mend=_MEND_FORMAT)
    if len(set(material)) < _LEAST_DISTINCT_BYTES:
        raise SetupError(f"Master key number {place} is not random.", mend=_MEND_FORMAT)
    return material


def _decode(word: str) -> bytes | None:
    try:
        if len(word) == 2 * KEY_BYTES:
            return bytes.fromhex(word)
        unpadded = word.rstrip("=").replace("-", "+").replace("_", "/")
        return base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True)
    except (ValueError, binascii.Error):
        return None


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
