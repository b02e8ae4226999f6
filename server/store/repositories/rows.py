"""Rows to core's structs and back, for the repositories and the snapshot alike."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import RowMapping

from server.core.access import ApiKey, Role, Workspace
from server.core.provider_config import ProviderConfig


def config_from_row(row: RowMapping) -> ProviderConfig:
    """A row of provider_configs."""
    return ProviderConfig(**row)


def config_to_row(config: ProviderConfig) -> dict[str, Any]:
    """Every column of provider_configs."""
    return msgspec.structs.asdict(config)


def key_from_row(row: RowMapping) -> ApiKey:
    """A row of api_keys."""
    return ApiKey(**{**row, "role": Role[row["role"].upper()]})


def key_to_row(key: ApiKey) -> dict[str, Any]:
    """Every column of api_keys. Roles are stored by name: their numbers may change."""
    return {**msgspec.structs.asdict(key), "role": key.role.name.lower()}


def workspace_from_row(row: RowMapping) -> Workspace:
    """A row of workspaces."""
    return Workspace(**{**row, "enabled_models": tuple(row["enabled_models"])})


def workspace_to_row(workspace: Workspace) -> dict[str, Any]:
    """Every column of workspaces."""
    return {**msgspec.structs.asdict(workspace), "enabled_models": list(workspace.enabled_models)}
