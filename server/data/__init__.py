"""The tables that ship with the package. Only the composition root reads them, at start."""

from __future__ import annotations

from importlib import resources


def model_tables() -> list[bytes]:
    """The model catalogue's files, one JSON document a provider, for `server.core.catalog.parse_catalog`."""
    folder = resources.files(__name__) / "models"
    return [file.read_bytes() for file in sorted(folder.iterdir(), key=lambda f: f.name) if file.name.endswith(".json")]
