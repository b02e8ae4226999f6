"""dev.env: the dev profile's caller key and workspace, for shells and scripts to read."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from server.core.secret import Secret


class DevEnv(msgspec.Struct, frozen=True):
    """key: an admin key of the workspace, in clear."""

    key: Secret
    workspace: str


def read_env_file(path: Path) -> DevEnv | None:
    """What the file says; None where there is none, or it lacks a line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    values = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    key, workspace = values.get("DRAGOMAN_API_KEY"), values.get("DRAGOMAN_WORKSPACE")
    return DevEnv(Secret(key), workspace) if key and workspace else None


def write_env_file(path: Path, env: DevEnv) -> None:
    """Replace the file, mode 0600."""
    write_private(path, f"DRAGOMAN_API_KEY={env.key.reveal()}\nDRAGOMAN_WORKSPACE={env.workspace}\n")


def close_env_file(path: Path) -> None:
    """Take the file back from others whom somebody let read it."""
    path.chmod(0o600)


def write_private(path: Path, text: str) -> None:
    """Replace a file by one that its owner alone may read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
