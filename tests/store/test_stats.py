"""Counts add up exactly, whoever adds and in whatever order."""

from __future__ import annotations

import asyncio

from server.core.access import Workspace
from server.core.provider_config import ConfigStats
from server.store.store import Store
from tests.store.examples import a_config, a_workspace


def counts(config_id: str, factor: int = 1) -> ConfigStats:
    return ConfigStats(
        config_id=config_id,
        calls=factor,
        errors=2 * factor,
        prompt_tokens=3 * factor,
        completion_tokens=4 * factor,
        cached_tokens=5 * factor,
        reasoning_tokens=6 * factor,
    )


async def test_every_count_adds_up_beyond_32_bits(store: Store, workspace: Workspace) -> None:
    config = await store.configs.create(a_config(workspace.id))
    await store.stats.add([counts(config.id), counts(config.id, 2**40)])
    await store.stats.add([counts(config.id, 10)])
    assert await store.stats.read(workspace.id) == [counts(config.id, 2**40 + 11)]


async def test_concurrent_additions_lose_nothing(store: Store, workspace: Workspace) -> None:
    one, other = [(await store.configs.create(a_config(workspace.id))).id for _ in range(2)]
    await asyncio.gather(
        *(store.stats.add([counts(one), counts(other)]) for _ in range(20)),
        *(store.stats.add([counts(other), counts(one)]) for _ in range(20)),
    )
    assert await store.stats.read(workspace.id) == [counts(other, 40), counts(one, 40)]


async def test_a_configuration_without_traffic_has_zeros_and_other_workspaces_do_not_show(
    store: Store, workspace: Workspace
) -> None:
    used, unused = [(await store.configs.create(a_config(workspace.id))).id for _ in range(2)]
    foreign_workspace = await store.access.create_workspace(a_workspace())
    foreign = (await store.configs.create(a_config(foreign_workspace.id))).id
    await store.stats.add([counts(used), counts(foreign)])
    assert await store.stats.read(workspace.id) == [ConfigStats(config_id=unused), counts(used)]
    assert await store.stats.read(workspace.id, used) == [counts(used)]
    assert await store.stats.read(workspace.id, foreign) == []


async def test_counts_of_a_deleted_configuration_do_not_stop_the_others(store: Store, workspace: Workspace) -> None:
    config = await store.configs.create(a_config(workspace.id))
    await store.stats.add([counts("cfg_deleted"), counts(config.id)])
    await store.stats.add([])
    assert await store.stats.read(workspace.id) == [counts(config.id)]
