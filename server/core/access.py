"""Who calls, from where, and what a role or a key's list of models allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


class Origin(msgspec.Struct, frozen=True):
    """Where a call came from, for the audit log. address: the caller's, as the proxy saw it, or without a proxy the
    peer's; peer: who was connected to this server; command_by: of a command on the store itself, `user@host` as the
    machine says. All are empty where nobody knows."""

    address: str = ""
    peer: str = ""
    request_id: str = ""
    command_by: str = ""


class Principal(msgspec.Struct, frozen=True):
    """The authenticated caller. workspace_id: its key's workspace; None for an organisation admin key, which names the
    workspace with each call. user_id: shown as the creator of what it makes (the key's id). allowed_models: the only
    models that it may call, as patterns of `permits`; () for all. origin: known where the audit log needs it."""

    key_id: str
    org_id: str
    workspace_id: str | None
    role: Role
    user_id: str
    allowed_models: tuple[str, ...] = ()
    origin: Origin = Origin()


def operator(org_id: str, origin: Origin | None = None) -> Principal:
    """Whoever works on the store itself, by the command line: database and master key in hand, it may do everything."""
    return Principal("operator", org_id, None, Role.ORG_ADMIN, "operator", origin=origin or Origin())


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A caller's key as stored: never the key itself. digest: keyed hash of it. hint: its last four characters.
    allowed_models: as in Principal. last_used_at: to the minute; None also where it was not asked for."""

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
    allowed_models: tuple[str, ...] = ()
    last_used_at: datetime | None = None

    def principal(self) -> Principal:
        return Principal(self.id, self.org_id, self.workspace_id, self.role, self.id, self.allowed_models)


class Workspace(msgspec.Struct, frozen=True, kw_only=True):
    """The one tenant: Flashback's workspace, Flowra's and Runflow's project. default_model: id or alias, None if not
    set. enabled_models: ids that an admin enabled beyond what the catalogue says its configurations serve.
    disabled_models: patterns of `permits` for what is neither offered nor called unless it is enabled. aliases: further
    names, each for a model id or another alias."""

    id: str
    org_id: str
    name: str
    default_model: str | None = None
    enabled_models: tuple[str, ...] = ()
    disabled_models: tuple[str, ...] = ()
    aliases: Mapping[str, str] = {}
    created_at: datetime


def permits(patterns: Iterable[str], *ids: str) -> bool:
    """Whether one of `ids`, which name one model, is among `patterns`: ids, or beginnings of ids with `*` after
    them."""
    return any(
        id.startswith(pattern[:-1]) if pattern.endswith("*") else id == pattern for pattern in patterns for id in ids
    )


def covers(patterns: Iterable[str], narrower: str) -> bool:
    """Whether `patterns` permit every model that the pattern `narrower` permits."""
    beginning = narrower.removesuffix("*")
    return any(
        beginning.startswith(pattern[:-1]) if pattern.endswith("*") else narrower == pattern for pattern in patterns
    )
