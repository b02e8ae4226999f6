"""What model calls are served from: an immutable picture of the store in memory, so that no call waits for a
database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from server.core.access import ApiKey, Workspace
from server.core.provider_config import ProviderConfig


class Snapshot(msgspec.Struct, frozen=True):
    """revision: the store's counter that this picture shows. keys: by digest. configs: by workspace id, oldest
    first."""

    revision: int
    workspaces: Mapping[str, Workspace]
    keys: Mapping[bytes, ApiKey]
    configs: Mapping[str, tuple[ProviderConfig, ...]]


class SnapshotSource(Protocol):
    """Keeps a Snapshot current: own writes at once, other processes' within a second."""

    def current(self) -> Snapshot:
        """The newest picture. No I/O. Raises Unavailable while there never was one."""
        ...

    @property
    def stale(self) -> bool:
        """Whether the store could not be reached for the last refresh, so that the picture may be old."""
        ...

    async def refresh(self) -> Snapshot:
        """Read the store now if its revision moved. Raises Unavailable when the store cannot be reached."""
        ...
