"""Rows to core's structs and back, for the repositories and the snapshot alike."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import RowMapping

from server.core.access import ApiKey, Role, Workspace
from server.core.audit import AuditEntry
from server.core.provider_config import ProviderConfig


def config_from_row(row: RowMapping) -> ProviderConfig:
    """A row of provider_configs."""
    return ProviderConfig(**row)


def config_to_row(config: ProviderConfig) -> dict[str, Any]:
    """Every column of provider_configs."""
    return msgspec.structs.asdict(config)


def key_from_row(row: RowMapping) -> ApiKey:
    """A row of api_keys, with `last_used_at` of key_uses where it was asked for."""
    return ApiKey(**{**row, "role": Role[row["role"].upper()], "allowed_models": tuple(row["allowed_models"] or ())})


def key_to_row(key: ApiKey) -> dict[str, Any]:
    """Every column of api_keys. Roles are stored by name: their numbers may change."""
    row = {**msgspec.structs.asdict(key), "role": key.role.name.lower(), "allowed_models": list(key.allowed_models)}
    del row["last_used_at"]
    return row


def workspace_from_row(row: RowMapping) -> Workspace:
    """A row of workspaces."""
    return Workspace(
        **{
            **row,
            "enabled_models": tuple(row["enabled_models"]),
            "disabled_models": tuple(row["disabled_models"] or ()),
            "aliases": row["aliases"] or {},
        }
    )


def workspace_to_row(workspace: Workspace) -> dict[str, Any]:
    """Every column of workspaces."""
    return {
        **msgspec.structs.asdict(workspace),
        "enabled_models": list(workspace.enabled_models),
        "disabled_models": list(workspace.disabled_models),
        "aliases": dict(workspace.aliases),
    }


def audit_from_row(row: RowMapping) -> AuditEntry:
    """A row of audit_entries."""
    return AuditEntry(**row)


def audit_to_row(entry: AuditEntry) -> dict[str, Any]:
    """Every column of audit_entries."""
    return {**msgspec.structs.asdict(entry), "details": dict(entry.details)}
