"""Who calls: from a presented key to a principal, and from a principal to the workspace it may act in."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from server.core.access import ApiKey, Principal, Role, Workspace, covers, operator
from server.core.audit import AuditObject, audit_entry
from server.core.caller_key import KEY_ENTROPY_BYTES, caller_key, is_caller_key
from server.core.errors import InvalidRequest, NotFound, PermissionDenied, Unauthenticated, Unavailable
from server.core.ids import ID_ENTROPY_BYTES, sortable_id
from server.core.ports import AccessStore, KeyHasher
from server.core.secret import Secret
from server.core.snapshot import SnapshotSource


def utc_now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


class KeyUses(Protocol):
    """Where it is noted that a key was used."""

    def note(self, key_id: str) -> None: ...


class KeyPage(msgspec.Struct, frozen=True):
    """Some keys, newest first. last_id: what the next page begins after, "" on the last page."""

    keys: Sequence[ApiKey]
    last_id: str


class Access:
    """Authentication and workspaces for calls, from memory; and the management of keys and workspaces, in the store."""

    def __init__(
        self,
        snapshot: SnapshotSource,
        hasher: KeyHasher,
        store: AccessStore,
        uses: KeyUses | None = None,
        *,
        now: Callable[[], datetime] = utc_now,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._snapshot = snapshot
        self._hasher = hasher
        self._store = store
        self._uses = uses
        self._now = now
        self._entropy = entropy

    # --- for every call -----------------------------------------------------------------------------------------------

    async def authenticate(self, presented: str, *, from_memory: bool = False) -> Principal:
        """Whose key this is. Waits for the store only for a well-formed key that memory does not know: it may be new.
        from_memory: not even then; it counts as unknown.

        Raises Unauthenticated for an unknown, revoked or expired key, Unavailable where the store must be asked and
        cannot be reached (never Unauthenticated for want of a database).
        """
        if not is_caller_key(presented):
            raise Unauthenticated("The key is not valid.")
        digest = self._hasher.digest(presented)
        key = self._snapshot.current().keys.get(digest)
        if key is None and not from_memory:
            key = (await self._snapshot.refresh()).keys.get(digest)
        if key is None and not from_memory and self._snapshot.stale:
            raise Unavailable("Keys cannot be checked now.")
        if key is None or key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= self._now()):
            raise Unauthenticated("The key is not valid.")
        if self._uses is not None:
            self._uses.note(key.id)
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

    # --- management; `by` is who does it, the operator of this installation unless it is said -------------------------

    def get_workspace(self, caller: Principal, id: str) -> Workspace:
        """A workspace that the caller may act in. Raises as `workspace` does."""
        return self._snapshot.current().workspaces[self.workspace(caller, id, "id")]

    def list_workspaces(self, caller: Principal, *, limit: int | None = None, after: str = "") -> Sequence[Workspace]:
        """The workspaces that the caller may act in, sorted by id, those that follow `after`."""
        found = self._snapshot.current().workspaces.values()
        mine = (w for w in found if w.org_id == caller.org_id and caller.workspace_id in (None, w.id) and w.id > after)
        return sorted(mine, key=lambda workspace: workspace.id)[:limit]

    async def create_workspace(
        self, name: str, *, org_id: str, id: str | None = None, by: Principal | None = None
    ) -> Workspace:
        """A new workspace. Raises AlreadyExists for a taken id or name, LimitExceeded, InvalidRequest."""
        if not name.strip():
            raise InvalidRequest.field("name", "must not be blank")
        now = self._now()
        made = Workspace(id=id or self._id("ws", now), org_id=org_id, name=name.strip(), created_at=now)
        entry = audit_entry(
            by or operator(org_id),
            "workspace.create",
            AuditObject("workspace", made.id, made.name),
            workspace_id=made.id,
            now=now,
            entropy=self._entropy(ID_ENTROPY_BYTES),
        )
        return await self._store.create_workspace(made, audit=entry)

    async def create_key(
        self,
        *,
        workspace: Workspace | None,
        org_id: str,
        role: Role,
        name: str,
        expires_at: datetime | None = None,
        allowed_models: Sequence[str] = (),
        by: Principal | None = None,
    ) -> tuple[ApiKey, Secret]:
        """A new key and its clear value, which is nowhere else and cannot be had again.

        workspace: None for an organisation key, which has role ORG_ADMIN and no other. Raises InvalidRequest where role
        and workspace do not fit, or it would have expired already; PermissionDenied where it may do more than the key
        that makes it; LimitExceeded.
        """
        maker = by or operator(org_id)
        if (workspace is None) != (role is Role.ORG_ADMIN):
            raise InvalidRequest.field("role", "a key has a workspace, or is an organisation admin key")
        now = self._now()
        if expires_at is not None and expires_at <= now:
            raise InvalidRequest.field("expires_at", "must be in the future")
        _refuse_bad_patterns(allowed_models)
        _refuse_more_than(maker, role, allowed_models)
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
            allowed_models=tuple(allowed_models),
        )
        details = {"role": role.name.lower()}
        if expires_at is not None:
            details["expires_at"] = expires_at.astimezone(UTC).isoformat(timespec="seconds")
        if allowed_models:
            details["allowed_models"] = ", ".join(allowed_models)
        entry = audit_entry(
            maker,
            "key.create",
            AuditObject("key", key.id, key.name),
            workspace_id=key.workspace_id,
            now=now,
            entropy=self._entropy(ID_ENTROPY_BYTES),
            details=details,
        )
        return await self._store.create_key(key, audit=entry), clear

    async def list_keys(self, workspace_id: str | None = None) -> Sequence[ApiKey]:
        """The keys of a workspace, or all, oldest first; never their clear values, which nobody has."""
        return await self._store.list_keys(workspace_id)

    async def page_keys(
        self, caller: Principal, workspace_id: str | None, *, page_size: int = 0, after: str | None = None
    ) -> KeyPage:
        """A page of keys of a workspace that the caller may act in, None: of its whole organisation; size 0: all."""
        limit = page_size + 1 if page_size else None
        found = await self._store.page_keys(caller.org_id, workspace_id, limit=limit, after=after)
        if page_size and len(found) > page_size:
            return KeyPage(found[:page_size], found[page_size - 1].id)
        return KeyPage(found, "")

    async def revoke_key(self, key_id: str, *, by: Principal | None = None) -> ApiKey:
        """End a key now. Raises NotFound, also for a key that `by` may not see."""
        key = await self._store.get_key(key_id)
        if key is None or (by is not None and not _sees(by, key)):
            raise NotFound("There is no such key.", action="List the keys.")
        now = self._now()
        entry = audit_entry(
            by or operator(key.org_id),
            "key.revoke",
            AuditObject("key", key.id, key.name),
            workspace_id=key.workspace_id,
            now=now,
            entropy=self._entropy(ID_ENTROPY_BYTES),
        )
        return await self._store.revoke_key(key_id, audit=entry)

    def _id(self, prefix: str, now: datetime) -> str:
        return sortable_id(prefix, now, self._entropy(ID_ENTROPY_BYTES))


def _sees(caller: Principal, key: ApiKey) -> bool:
    return key.org_id == caller.org_id and caller.workspace_id in (None, key.workspace_id)


def _refuse_bad_patterns(patterns: Sequence[str]) -> None:
    """What permits nothing would lock a key out of every model without a word."""
    for at, pattern in enumerate(patterns):
        slug, slash, rest = pattern.partition("/")
        if not (slug and slug == slug.lower() and slash and rest) or "*" in pattern[:-1]:
            raise InvalidRequest.field(f"allowed_models[{at}]", "must be provider/model, or such a beginning and *")


def _refuse_more_than(maker: Principal, role: Role, allowed_models: Sequence[str]) -> None:
    """A key makes none that may do more than itself."""
    if role > maker.role:
        raise PermissionDenied(f"A key of role {maker.role.name.lower()} makes none of role {role.name.lower()}.")
    if not maker.allowed_models:
        return
    wider = [pattern for pattern in allowed_models or ("*",) if not covers(maker.allowed_models, pattern)]
    if wider:
        raise PermissionDenied(
            "A key that may call certain models alone makes none that may call others.",
            action=f"Give allowed_models within {', '.join(maker.allowed_models)}.",
        )
