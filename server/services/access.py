"""Who calls: from a presented key to a principal, and from a principal to the workspace it may act in."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from server.core.access import ApiKey, Principal, Role, Workspace
from server.core.caller_key import KEY_ENTROPY_BYTES, caller_key, is_caller_key
from server.core.errors import InvalidRequest, NotFound, PermissionDenied, Unauthenticated, Unavailable
from server.core.ids import ID_ENTROPY_BYTES, sortable_id
from server.core.ports import AccessStore, KeyHasher
from server.core.secret import Secret
from server.core.snapshot import SnapshotSource


def utc_now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


class Access:
    """Authentication and workspaces for calls, from memory; and the management of keys and workspaces, in the store."""

    def __init__(
        self,
        snapshot: SnapshotSource,
        hasher: KeyHasher,
        store: AccessStore,
        *,
        now: Callable[[], datetime] = utc_now,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._snapshot = snapshot
        self._hasher = hasher
        self._store = store
        self._now = now
        self._entropy = entropy

    # --- for every call -----------------------------------------------------------------------------------------------

    async def authenticate(self, presented: str) -> Principal:
        """Whose key this is. Waits for the store only for a well-formed key that memory does not know: it may be new.

        Raises Unauthenticated for an unknown, revoked or expired key, Unavailable where the store must be asked and
        cannot be reached (never Unauthenticated for want of a database).
        """
        if not is_caller_key(presented):
            raise Unauthenticated("The key is not valid.")
        digest = self._hasher.digest(presented)
        key = self._snapshot.current().keys.get(digest)
        if key is None:
            key = (await self._snapshot.refresh()).keys.get(digest)
        if key is None and self._snapshot.stale:
            raise Unavailable("Keys cannot be checked now.")
        if key is None or key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= self._now()):
            raise Unauthenticated("The key is not valid.")
        return key.principal()

    def workspace(self, caller: Principal, named: str, field: str = "workspace_id") -> str:
        """The id of the workspace that a call acts in, where the request named `named` ("" for none).

        Raises PermissionDenied for another workspace than the key's, InvalidRequest (naming `field`) where an
        organisation key names none, NotFound where it names one that does not exist.
        """
        if caller.workspace_id is not None:
            if named not in ("", caller.workspace_id):
                raise PermissionDenied("The key does not belong to that workspace.")
            return caller.workspace_id
        if not named:
            raise InvalidRequest.field(field, "an organisation key must name a workspace")
        workspace = self._snapshot.current().workspaces.get(named)
        if workspace is None or workspace.org_id != caller.org_id:
            raise NotFound("No such workspace.")
        return named

    # --- management ---------------------------------------------------------------------------------------------------

    async def create_workspace(self, name: str, *, org_id: str, id: str | None = None) -> Workspace:
        """A new workspace. Raises AlreadyExists for a taken id."""
        now = self._now()
        return await self._store.create_workspace(
            Workspace(id=id or self._id("ws", now), org_id=org_id, name=name, created_at=now)
        )

    async def create_key(
        self, *, workspace: Workspace | None, org_id: str, role: Role, name: str, expires_at: datetime | None = None
    ) -> tuple[ApiKey, Secret]:
        """A new key and its clear value, which is nowhere else and cannot be had again.

        workspace: None for an organisation key, which has role ORG_ADMIN and no other. Raises InvalidRequest where role
        and workspace do not fit, or it would have expired already.
        """
        if (workspace is None) != (role is Role.ORG_ADMIN):
            raise InvalidRequest.field("role", "a key has a workspace, or is an organisation admin key")
        now = self._now()
        if expires_at is not None and expires_at <= now:
            raise InvalidRequest.field("expires_at", "must be in the future")
        clear = caller_key(self._entropy(KEY_ENTROPY_BYTES))
        key = ApiKey(
            id=self._id("key", now),
            org_id=org_id,
            workspace_id=workspace.id if workspace else None,
            role=role,
            name=name,
            digest=self._hasher.digest(clear.reveal()),
            hint=clear.reveal()[-4:],
            created_at=now,
            expires_at=expires_at,
        )
        return await self._store.create_key(key), clear

    async def list_keys(self, workspace_id: str | None = None) -> Sequence[ApiKey]:
        """The keys of a workspace, or all, oldest first; never their clear values, which nobody has."""
        return await self._store.list_keys(workspace_id)

    async def revoke_key(self, key_id: str) -> ApiKey:
        """End a key now. Raises NotFound."""
        return await self._store.revoke_key(key_id)

    async def enable_model(self, workspace: Workspace, model: str) -> Workspace:
        """Let the workspace see a model beyond what the catalogue says of its configurations."""
        if model in workspace.enabled_models:
            return workspace
        return await self._store.set_enabled_models(workspace.id, (*workspace.enabled_models, model))

    async def set_default_model(self, workspace: Workspace, model: str | None) -> Workspace:
        """Set where calls go that name no model; None for nowhere."""
        return await self._store.set_default_model(workspace.id, model)

    def _id(self, prefix: str, now: datetime) -> str:
        return sortable_id(prefix, now, self._entropy(ID_ENTROPY_BYTES))
