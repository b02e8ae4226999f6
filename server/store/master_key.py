"""Where the master keys come from: a file, a text from the environment, or a command that gives them out."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path

import msgspec

from server.core.secret import Secret
from server.core.setup import SetupError
from server.store.cipher import KEY_BYTES, Key, Keyring
from server.store.key_command import run_key_command

_MAX_FILE_BYTES = 64 * 1024
_LEAST_DISTINCT_BYTES = 12  # 32 random bytes have fewer than 12 distinct ones less than once in 10**15


class MasterKeySource(msgspec.Struct, frozen=True, kw_only=True):
    """text or file: the keys, or, with a command, what it gets on its standard input (keys that a KMS has wrapped, for
    example). command: argument list, empty for none. seconds: how long it may take. shared: see `read_keyring`."""

    text: Secret | None = None
    file: Path | None = None
    shared: bool = False
    command: tuple[str, ...] = ()
    seconds: float = 10.0

    @property
    def changes(self) -> bool:
        """Whether a running process can find other keys there: not in its own environment."""
        return self.file is not None or bool(self.command)

    def read(self) -> Keyring:
        """The keys, as they are there now. Blocks for as long as the command takes. Raises SetupError."""
        if not self.command:
            if self.file is not None:
                return read_keyring(self.file, allow_shared=self.shared)
            return parse_keyring(self.text or Secret(""))
        given = None if self.text is None else self.text.reveal().encode()
        if self.file is not None:
            # Others may read what the command has yet to unwrap.
            given = _read_file(self.file, allow_shared=True)
        try:
            return parse_keyring(run_key_command(self.command, given=given, seconds=self.seconds))
        except SetupError as exc:
            raise SetupError(f"From DRAGOMAN_MASTER_KEY_COMMAND: {exc.message}", mend=exc.mend) from None


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
    content = _read_file(path, allow_shared=allow_shared)
    try:
        return parse_keyring(Secret(content.decode("ascii")))
    except UnicodeDecodeError:
        raise SetupError(f"The file {path} holds no text.", mend=_MEND_FORMAT) from None
    except SetupError as exc:
        raise SetupError(f"{path}: {exc.message}", mend=exc.mend) from None


def _read_file(path: Path, *, allow_shared: bool) -> bytes:
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
    return content


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
        sync_directory(path.parent)
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


def sync_directory(path: Path) -> None:
    """Make a new name in a directory as durable as the file that it names."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
