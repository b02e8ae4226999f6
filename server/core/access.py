"""Who calls, and what a role may do."""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum

import msgspec


class Role(IntEnum):
    """Each role may do all that the ones below it may."""

    VIEWER = 1
    """Reads models, configurations (masked) and statistics."""
    MEMBER = 2
    """Calls models too."""
    ADMIN = 3
    """Manages configurations, keys and models of its workspace too."""
    ORG_ADMIN = 4
    """Everything in every workspace of the organisation."""


class Principal(msgspec.Struct, frozen=True):
    """The authenticated caller. workspace_id: its key's workspace; None for an organisation admin key, which names the
    workspace with each call. user_id: shown as the creator of what it makes (the key's id)."""

    key_id: str
    org_id: str
    workspace_id: str | None
    role: Role
    user_id: str


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A caller's key as stored: never the key itself. digest: keyed hash of it. hint: its last four characters."""

    id: str
    org_id: str
    workspace_id: str | None
    role: Role
    name: str
    digest: bytes
    hint: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def principal(self) -> Principal:
        return Principal(self.id, self.org_id, self.workspace_id, self.role, self.id)


class Workspace(msgspec.Struct, frozen=True, kw_only=True):
    """The one tenant: Flashback's workspace, Flowra's and Runflow's project. default_model: id, None if not set.
    enabled_models: ids that an admin enabled beyond what the catalogue says its configurations serve."""

    id: str
    org_id: str
    name: str
    default_model: str | None = None
    enabled_models: tuple[str, ...] = ()
    created_at: datetime
