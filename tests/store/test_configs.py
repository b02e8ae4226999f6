"""Configurations: stored whole, unique by name, changed by one at a time, listed newest first."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from server.core.access import Workspace
from server.core.errors import AlreadyExists, Conflict, LimitExceeded, NotFound
from server.core.provider_config import ConfigStats, ProviderConfig
from server.core.secret import Secret
from server.store.cipher import Keyring
from server.store.store import Store, StoreOptions, open_store
from tests.store.examples import a_config, a_workspace, now

MOMENT = datetime(2025, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)
FULL: dict[str, Any] = {
    "endpoint": "https://llm.example/v1",
    "sealed_key": b"\x00\x01\xfe",
    "sealed_secret": None,
    "key_mask": "****wxyz",
    "secret_mask": None,
    "active": False,
    "created_at": MOMENT,
    "updated_at": MOMENT + timedelta(days=1),
    "validated_at": MOMENT + timedelta(days=2),
    "valid": False,
    "validation_message": "Nö: 'quotes' \"and\" \n lines",
    "name": "Ünïcode 名前 ☃",
}


async def test_a_configuration_comes_back_as_it_was_stored(store: Store, workspace: Workspace) -> None:
    created = await store.configs.create(a_config(workspace.id, **FULL))
    assert await store.configs.get(created.id) == created
    assert msgspec.structs.replace(created, etag="") == a_config(workspace.id, id=created.id, **FULL)
    assert created.etag


async def test_moments_of_any_zone_come_back_in_utc(store: Store, workspace: Workspace) -> None:
    local = MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    created = await store.configs.create(a_config(workspace.id, created_at=local))
    found = await store.configs.get(created.id)
    assert found is not None
    assert (found.created_at, found.created_at.tzinfo) == (MOMENT, UTC)


async def test_an_unknown_id_is_none(store: Store) -> None:
    assert await store.configs.get("cfg_none") is None


async def test_a_taken_name_is_refused_in_its_workspace_alone(store: Store, workspace: Workspace) -> None:
    other = await store.access.create_workspace(a_workspace())
    await store.configs.create(a_config(workspace.id, name="main"))
    await store.configs.create(a_config(other.id, name="main"))
    with pytest.raises(AlreadyExists, match="'main'"):
        await store.configs.create(a_config(workspace.id, name="main"))
    second = await store.configs.create(a_config(workspace.id, name="second"))
    with pytest.raises(AlreadyExists):
        await store.configs.update(msgspec.structs.replace(second, name="main"), expected_etag=second.etag)
    assert await store.configs.get(second.id) == second


async def test_of_fifty_concurrent_creates_of_one_name_one_wins(store: Store, workspace: Workspace) -> None:
    creates = [store.configs.create(a_config(workspace.id, name="main")) for _ in range(50)]
    outcomes = await asyncio.gather(*creates, return_exceptions=True)
    won = [outcome for outcome in outcomes if isinstance(outcome, ProviderConfig)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, AlreadyExists)]
    assert (len(won), len(lost)) == (1, 49)
    assert await store.configs.list(workspace.id) == won


async def test_of_concurrent_updates_on_one_etag_one_wins(store: Store, workspace: Workspace) -> None:
    config = await store.configs.create(a_config(workspace.id))
    updates = [
        store.configs.update(msgspec.structs.replace(config, name=f"name {count}"), expected_etag=config.etag)
        for count in range(10)
    ]
    outcomes = await asyncio.gather(*updates, return_exceptions=True)
    won = [outcome for outcome in outcomes if isinstance(outcome, ProviderConfig)]
    assert [type(outcome) for outcome in outcomes].count(Conflict) == 9
    assert [await store.configs.get(config.id)] == won


async def test_an_update_changes_the_etag_and_nothing_that_never_changes(store: Store, workspace: Workspace) -> None:
    config = await store.configs.create(a_config(workspace.id))
    wanted = msgspec.structs.replace(
        config, name="new", active=False, sealed_key=b"k", org_id="org_2", workspace_id="ws_2", created_at=MOMENT
    )
    updated = await store.configs.update(wanted, expected_etag=config.etag)
    assert updated.etag != config.etag
    assert updated == msgspec.structs.replace(config, name="new", active=False, sealed_key=b"k", etag=updated.etag)
    assert await store.configs.get(config.id) == updated


async def test_what_is_not_there_cannot_be_changed(store: Store, workspace: Workspace) -> None:
    config = a_config(workspace.id)
    for attempt in (
        store.configs.update(config, expected_etag="x"),
        store.configs.delete(config.id),
        store.configs.record_validation(config.id, valid=True, message=""),
        store.configs.create(a_config("ws_none")),
    ):
        with pytest.raises(NotFound):
            await attempt


async def test_a_deleted_configuration_is_gone_with_its_counts(store: Store, workspace: Workspace) -> None:
    config = await store.configs.create(a_config(workspace.id, name="main"))
    await store.stats.add([ConfigStats(config_id=config.id, calls=1)])
    await store.configs.delete(config.id)
    assert await store.configs.get(config.id) is None
    assert await store.stats.read(workspace.id) == []
    await store.configs.create(a_config(workspace.id, name="main"))


async def test_a_validation_is_noted_and_changes_nothing_else(store: Store, workspace: Workspace) -> None:
    config = await store.configs.create(a_config(workspace.id))
    await store.configs.record_validation(config.id, valid=True, message="it holds", expected_etag=config.etag)
    found = await store.configs.get(config.id)
    assert found is not None
    assert found.validated_at is not None
    assert (found.valid, found.validation_message) == (True, "it holds")
    unnoted = msgspec.structs.replace(found, valid=None, validated_at=None, validation_message="")
    assert unnoted == config


async def test_a_validation_of_a_state_that_changed_meanwhile_is_not_noted(store: Store, workspace: Workspace) -> None:
    config = await store.configs.create(a_config(workspace.id))
    await store.configs.update(msgspec.structs.replace(config, sealed_key=b"other"), expected_etag=config.etag)
    with pytest.raises(Conflict):
        await store.configs.record_validation(config.id, valid=True, message="", expected_etag=config.etag)
    found = await store.configs.get(config.id)
    assert found is not None
    assert found.valid is None


async def test_an_update_keeps_a_validation_that_ended_meanwhile_or_clears_it(
    store: Store, workspace: Workspace
) -> None:
    config = await store.configs.create(a_config(workspace.id))
    await store.configs.record_validation(config.id, valid=True, message="first")
    read = await store.configs.get(config.id)
    assert read is not None
    await store.configs.record_validation(config.id, valid=False, message="second")
    renamed = await store.configs.update(msgspec.structs.replace(read, name="new"), expected_etag=read.etag)
    assert (renamed.valid, renamed.validation_message) == (False, "second")
    cleared = await store.configs.update(msgspec.structs.replace(renamed, valid=None), expected_etag=renamed.etag)
    assert (cleared.valid, cleared.validated_at, cleared.validation_message) == (None, None, "")


async def test_pages_are_newest_first_and_whole_even_when_their_end_is_deleted(
    store: Store, workspace: Workspace
) -> None:
    made = [await store.configs.create(a_config(workspace.id)) for _ in range(7)]
    await store.configs.create(a_config((await store.access.create_workspace(a_workspace())).id))
    newest_first = made[::-1]
    assert await store.configs.list(workspace.id) == newest_first
    page = await store.configs.list(workspace.id, limit=3)
    assert page == newest_first[:3]
    await store.configs.delete(page[-1].id)
    assert await store.configs.list(workspace.id, limit=3, after=page[-1].id) == newest_first[3:6]
    assert await store.configs.list(workspace.id, after=made[0].id) == []


async def test_available_are_the_active_ones_whose_last_validation_held(store: Store, workspace: Workspace) -> None:
    available = await store.configs.create(a_config(workspace.id, valid=True, validated_at=MOMENT))
    await store.configs.create(a_config(workspace.id, valid=True, active=False))
    await store.configs.create(a_config(workspace.id, valid=False))
    await store.configs.create(a_config(workspace.id))
    assert await store.configs.list(workspace.id, available_only=True) == [available]


async def test_a_workspace_has_no_more_than_its_most_even_at_once(url: Secret, master: Keyring) -> None:
    async with open_store(StoreOptions(url=url, max_configs_per_workspace=3), master, clock=now) as store:
        workspace = await store.access.create_workspace(a_workspace())
        creates = [store.configs.create(a_config(workspace.id)) for _ in range(10)]
        outcomes = await asyncio.gather(*creates, return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, LimitExceeded)]
        assert len(refused) == 7
        assert refused[0].metadata == {"limit": "configs_per_workspace"}
        assert len(await store.configs.list(workspace.id)) == 3
