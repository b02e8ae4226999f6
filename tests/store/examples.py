"""Things to store, with what matters to a test given and the rest made up."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from server.core.access import ApiKey, Origin, Role, Workspace
from server.core.ids import ID_ENTROPY_BYTES, sortable_id
from server.core.provider_config import ProviderConfig
from server.store.rotation_log import RotationLog

WITHIN_SECONDS = 20.0


def now() -> datetime:
    return datetime.now(UTC)


LOG = RotationLog(now, Origin(command_by="ann@gateway-1"))


def new_id(prefix: str) -> str:
    return sortable_id(prefix, datetime.now(UTC), secrets.token_bytes(ID_ENTROPY_BYTES))


def a_workspace(**fields: Any) -> Workspace:
    id = fields.pop("id", new_id("ws"))
    return Workspace(**{"id": id, "org_id": "org_1", "name": id, "created_at": datetime.now(UTC), **fields})


def a_key(workspace_id: str | None, **fields: Any) -> ApiKey:
    defaults: dict[str, Any] = {
        "id": new_id("key"),
        "org_id": "org_1",
        "workspace_id": workspace_id,
        "role": Role.MEMBER,
        "name": "a key",
        "digest": secrets.token_bytes(32),
        "hint": "wxyz",
        "created_at": datetime.now(UTC),
    }
    return ApiKey(**{**defaults, **fields})


def a_config(workspace_id: str, **fields: Any) -> ProviderConfig:
    id = fields.pop("id", new_id("cfg"))
    defaults: dict[str, Any] = {
        "id": id,
        "org_id": "org_1",
        "workspace_id": workspace_id,
        "user_id": "key_1",
        "name": id,
        "ai_type": "OPENAI",
        "provider": "openai",
        "endpoint": None,
        "sealed_key": None,
        "sealed_secret": b"\x00sealed\xff",
        "key_mask": None,
        "secret_mask": "****wxyz",
        "active": True,
        "etag": "",
        "created_at": datetime.now(UTC),
        "updated_at": datetime.now(UTC),
    }
    return ProviderConfig(**{**defaults, **fields})


async def until(condition: Callable[[], bool], what: str, *, within: float = WITHIN_SECONDS) -> float:
    """Seconds until `condition` held. Raises AssertionError where it does not in time."""
    clock = asyncio.get_running_loop().time
    start = clock()
    while not condition():
        assert clock() - start < within, f"not within {within} s: {what}"
        await asyncio.sleep(0.005)
    return clock() - start
