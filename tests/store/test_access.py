"""Workspaces and callers' keys are stored whole, and a revoked key stays on record."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from server.core.access import Role, Workspace
from server.core.errors import AlreadyExists, NotFound
from server.store.store import Store
from tests.store.examples import a_key, a_workspace

MOMENT = datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


async def test_workspaces_come_back_as_they_were_stored_oldest_first(store: Store) -> None:
    made = [
        await store.access.create_workspace(a_workspace(default_model="openai/gpt-4o", enabled_models=("a/b", "c/d"))),
        await store.access.create_workspace(a_workspace(name="Ünï ☃")),
    ]
    assert await store.access.list_workspaces() == made


async def test_a_workspaces_id_and_its_name_in_the_organisation_are_unique(store: Store, workspace: Workspace) -> None:
    for taken in (a_workspace(id=workspace.id, name="other"), a_workspace(name=workspace.name)):
        with pytest.raises(AlreadyExists):
            await store.access.create_workspace(taken)
    await store.access.create_workspace(a_workspace(name=workspace.name, org_id="org_2"))


async def test_default_and_enabled_models_are_set_and_unset(store: Store, workspace: Workspace) -> None:
    await store.access.set_default_model(workspace.id, "demo/demo")
    changed = await store.access.set_enabled_models(workspace.id, ["b", "a"])
    assert changed == msgspec.structs.replace(workspace, default_model="demo/demo", enabled_models=("b", "a"))
    await store.access.set_enabled_models(workspace.id, [])
    assert await store.access.set_default_model(workspace.id, None) == workspace


@pytest.mark.parametrize("role", list(Role))
async def test_keys_of_every_role_come_back_as_they_were_stored(store: Store, workspace: Workspace, role: Role) -> None:
    scope = None if role is Role.ORG_ADMIN else workspace.id
    key = await store.access.create_key(a_key(scope, role=role, expires_at=MOMENT))
    assert await store.access.list_keys() == [key]
    assert await store.access.list_keys(workspace.id) == ([key] if scope else [])


async def test_a_key_that_is_there_already_is_refused(store: Store, workspace: Workspace) -> None:
    key = await store.access.create_key(a_key(workspace.id))
    for again in (key, a_key(workspace.id, digest=key.digest)):
        with pytest.raises(AlreadyExists):
            await store.access.create_key(again)


async def test_a_revoked_key_stays_on_record_and_revoked_since_the_first_time(
    store: Store, workspace: Workspace
) -> None:
    key = await store.access.create_key(a_key(workspace.id))
    revoked = await store.access.revoke_key(key.id)
    assert revoked.revoked_at is not None
    assert revoked.revoked_at >= key.created_at
    assert msgspec.structs.replace(revoked, revoked_at=None) == key
    assert await store.access.revoke_key(key.id) == revoked
    assert await store.access.list_keys() == [revoked]


async def test_what_is_not_there_cannot_be_changed(store: Store) -> None:
    for attempt in (
        store.access.revoke_key("key_none"),
        store.access.set_default_model("ws_none", None),
        store.access.set_enabled_models("ws_none", []),
        store.access.create_key(a_key("ws_none")),
    ):
        with pytest.raises(NotFound):
            await attempt
