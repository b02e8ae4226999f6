"""A workspace's default model, enabled and disabled models, and aliases: read from memory, changed in the store."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

from server.core.access import Principal, Workspace
from server.core.audit import AuditEntry, AuditObject, audit_entry
from server.core.catalog import Catalog
from server.core.errors import NotFound
from server.core.ids import ID_ENTROPY_BYTES
from server.core.model_settings import ModelSettingsChange, changed, changed_settings
from server.core.ports import AccessStore
from server.core.provider_config import ProviderConfig
from server.core.snapshot import SnapshotSource
from server.services.access import utc_now


class ModelSettings:
    """Use cases on model settings. Callers are authorised, for their workspace too, before they come here."""

    def __init__(
        self,
        snapshot: SnapshotSource,
        store: AccessStore,
        catalog: Catalog,
        *,
        now: Callable[[], datetime] = utc_now,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._snapshot = snapshot
        self._store = store
        self._catalog = catalog
        self._now = now
        self._entropy = entropy

    def get(self, workspace_id: str) -> Workspace:
        """The workspace, which holds them. Raises NotFound, Unavailable while there is no snapshot."""
        workspace = self._snapshot.current().workspaces.get(workspace_id)
        if workspace is None:
            raise NotFound("No such workspace.")
        return workspace

    async def update(self, by: Principal, workspace_id: str, change: ModelSettingsChange) -> Workspace:
        """Raises as `server.core.model_settings.changed` does, NotFound, Unavailable."""

        def apply(workspace: Workspace, configs: Sequence[ProviderConfig]) -> tuple[Workspace, AuditEntry | None]:
            new = changed(workspace, configs, self._catalog, change)
            fields = ", ".join(changed_settings(workspace, new))
            return new, audit_entry(
                by,
                "model_settings.update",
                AuditObject("model_settings", workspace.id, workspace.name),
                workspace_id=workspace.id,
                now=self._now(),
                entropy=self._entropy(ID_ENTROPY_BYTES),
                details={"fields": fields},
            )

        return await self._store.change_models(workspace_id, apply)
