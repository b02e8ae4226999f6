"""Workspaces and callers' keys are stored whole, and a revoked key stays on record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from server.core.access import Role, Workspace
from server.core.audit import AuditEntry
from server.core.errors import AlreadyExists, LimitExceeded, NotFound
from server.core.ports import ModelsChange
from server.core.provider_config import ProviderConfig
from server.core.secret import Secret
from server.store.cipher import Keyring
from server.store.store import Store, StoreOptions, open_store
from tests.store.examples import a_config, a_key, a_workspace, now

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


async def test_model_settings_are_what_the_change_made_of_the_stored_ones(store: Store, workspace: Workspace) -> None:
    config = await store.configs.create(a_config(workspace.id))
    seen: list[tuple[Workspace, Sequence[ProviderConfig]]] = []
    settings = {
        "default_model": "a/b",
        "enabled_models": ("b", "a"),
        "disabled_models": ("*",),
        "aliases": {"x": "a/b"},
    }

    def change(old: Workspace, configs: Sequence[ProviderConfig]) -> tuple[Workspace, AuditEntry | None]:
        seen.append((old, configs))
        return msgspec.structs.replace(old, **settings), None

    changed = await store.access.change_models(workspace.id, change)
    assert seen == [(workspace, [config])]
    assert changed == msgspec.structs.replace(workspace, **settings)
    assert await store.access.list_workspaces() == [changed]
    assert await store.access.change_models(workspace.id, lambda _old, _: (workspace, None)) == workspace


async def test_changes_of_model_settings_at_once_all_happen(store: Store, workspace: Workspace) -> None:
    """Each is made of what the one before it stored."""

    def adding(id: str) -> ModelsChange:
        return lambda old, _: (msgspec.structs.replace(old, enabled_models=(*old.enabled_models, id)), None)

    ids = [f"custom/{number}" for number in range(20)]
    await asyncio.gather(*(store.access.change_models(workspace.id, adding(id)) for id in ids))
    assert sorted(store.snapshots.current().workspaces[workspace.id].enabled_models) == sorted(ids)


@pytest.mark.parametrize("role", list(Role))
async def test_keys_of_every_role_come_back_as_they_were_stored(store: Store, workspace: Workspace, role: Role) -> None:
    scope = None if role is Role.ORG_ADMIN else workspace.id
    key = await store.access.create_key(a_key(scope, role=role, expires_at=MOMENT, allowed_models=("a/*", "b/c")))
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
        store.access.change_models("ws_none", lambda old, _: (old, None)),
        store.access.create_key(a_key("ws_none")),
    ):
        with pytest.raises(NotFound):
            await attempt


async def test_keys_are_paged_newest_first_by_workspace_or_organisation(store: Store, workspace: Workspace) -> None:
    own = [await store.access.create_key(a_key(workspace.id)) for _ in range(3)]
    organisations = await store.access.create_key(a_key(None, role=Role.ORG_ADMIN))
    await store.access.create_key(a_key(None, role=Role.ORG_ADMIN, org_id="org_2"))
    page = store.access.page_keys
    assert await page("org_1", workspace.id) == own[::-1]
    assert await page("org_1", None, limit=2) == [organisations, own[2]]
    assert await page("org_1", None, after=own[2].id) == [own[1], own[0]]
    assert await page("org_2", workspace.id) == []


async def test_the_last_use_of_a_key_is_the_latest_that_was_noted(store: Store, workspace: Workspace) -> None:
    key, unused = [await store.access.create_key(a_key(workspace.id)) for _ in range(2)]
    revision = store.snapshots.current().revision
    for moment in (MOMENT, MOMENT + timedelta(seconds=5), MOMENT - timedelta(days=1)):
        await store.key_uses.note({key.id: moment, "key_gone": moment})
    await store.key_uses.note({})
    shown = {found.id: found.last_used_at for found in await store.access.list_keys(workspace.id)}
    assert shown == {key.id: MOMENT + timedelta(seconds=5), unused.id: None}
    assert store.snapshots.current().revision == revision


async def test_limits_on_keys_and_workspaces_hold_also_for_creates_at_once(url: Secret, master: Keyring) -> None:
    """Keys that have ended make room."""
    options = StoreOptions(url=url, max_keys_per_workspace=3, max_workspaces_per_organisation=2)
    async with open_store(options, master, clock=now) as store:
        one, _ = [await store.access.create_workspace(a_workspace()) for _ in range(2)]
        with pytest.raises(LimitExceeded):
            await store.access.create_workspace(a_workspace())
        await store.access.create_workspace(a_workspace(org_id="org_2"))
        await store.access.create_key(a_key(one.id, expires_at=now() - timedelta(seconds=1)))
        outcomes = await asyncio.gather(
            *(store.access.create_key(a_key(one.id)) for _ in range(10)), return_exceptions=True
        )
        made = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert len(made) == 3
        assert all(isinstance(outcome, LimitExceeded) for outcome in outcomes if outcome not in made)
        await store.access.revoke_key(made[0].id)
        await store.access.create_key(a_key(one.id))
        await store.access.create_key(a_key(None, role=Role.ORG_ADMIN))
