"""The audit log: who did what to which thing, from where, when, and how it ended. Never what a secret was."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

from server.core.access import Principal
from server.core.ids import sortable_id

Outcome = Literal["ok", "denied", "failed"]

ObjectKind = Literal[
    "provider_config", "key", "workspace", "model_settings", "audit_log", "model", "master_key", "data_key"
]


class AuditObject(msgspec.Struct, frozen=True):
    """What something was done to. id, name: "" where there is none; the name is the one at that time."""

    kind: ObjectKind
    id: str = ""
    name: str = ""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log. workspace_id: where it was done, None for no workspace. key_id, role: who did it. action:
    `object.verb`. reason: of the error where the outcome is not ok. details: facts by name, e.g. `fields`."""

    id: str
    at: datetime
    org_id: str
    workspace_id: str | None
    key_id: str
    role: str
    action: str
    object_kind: ObjectKind
    object_id: str
    object_name: str
    address: str
    request_id: str
    outcome: Outcome = "ok"
    reason: str = ""
    details: Mapping[str, str] = {}


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries are wanted: all that is given must hold. workspace_id None: the whole organisation. start is
    within, end is not. action: one, or all of a kind with `.*` at the end."""

    org_id: str
    workspace_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    action: str = ""
    object_id: str = ""
    key_id: str = ""
    outcome: str = ""


def audit_entry(
    caller: Principal,
    action: str,
    subject: AuditObject,
    *,
    workspace_id: str | None,
    now: datetime,
    entropy: bytes,
    outcome: Outcome = "ok",
    reason: str = "",
    details: Mapping[str, str] | None = None,
) -> AuditEntry:
    """What `caller` did. entropy: ID_ENTROPY_BYTES for the entry's id."""
    origin = caller.origin
    facts = dict(details or {})
    if origin.peer and origin.peer != origin.address:
        facts["peer"] = origin.peer
    if origin.command_by:
        facts["by"] = origin.command_by
    return AuditEntry(
        id=sortable_id("aud", now, entropy),
        at=now,
        org_id=caller.org_id,
        workspace_id=workspace_id,
        key_id=caller.key_id,
        role=caller.role.name.lower(),
        action=action,
        object_kind=subject.kind,
        object_id=subject.id,
        object_name=subject.name,
        address=origin.address,
        request_id=origin.request_id,
        outcome=outcome,
        reason=reason,
        details=facts,
    )
