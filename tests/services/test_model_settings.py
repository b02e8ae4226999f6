"""What an admin may make of a workspace's models, and what refuses to lead nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from server.core.access import Workspace, covers, permits
from server.core.audit import AuditEntry
from server.core.catalog import Catalog, ModelInfo
from server.core.errors import Conflict, InUse, InvalidRequest, LimitExceeded
from server.core.model_settings import (
    MOST_ALIASES,
    ModelSettingsChange,
    changed,
    changed_settings,
    refuse_delete_in_use,
    settings_etag,
)
from server.core.ports import ModelsChange
from server.core.provider_config import PROVIDERS, ProviderConfig
from server.services.model_settings import ModelSettings
from tests.services.fakes import NOW, WORKSPACE, provider_config, snapshot_of
from tests.services.test_access import MEMBER

CATALOG = Catalog(
    [
        ModelInfo(id=f"openai/{name}", name=name, provider="openai", model=name, aliases=(f"{name}-2024",))
        for name in ("gpt-4o", "gpt-4o-mini")
    ],
    providers=dict.fromkeys(PROVIDERS, ()),
)
CUSTOM = provider_config()
OPENAI = provider_config(id="cfg_2", name="openai", provider="openai", ai_type="OPENAI", endpoint=None)
BOTH = (CUSTOM, OPENAI)
PLAIN = msgspec.structs.replace(WORKSPACE, default_model=None)


def change(workspace: Workspace = PLAIN, configs: Sequence[ProviderConfig] = BOTH, **fields: Any) -> Workspace:
    return changed(workspace, configs, CATALOG, ModelSettingsChange(**fields))


STORED = change(
    default_model="fast",
    enable=["custom/demo", "gpt-4o"],
    disable=["openai/*", "groq/llama"],
    set_aliases={"fast": "quick", "quick": "gpt-4o", "mine": "custom/x"},
)


def test_names_are_stored_as_ids_and_aliases_as_they_are() -> None:
    assert (
        msgspec.structs.replace(
            PLAIN,
            default_model="fast",
            enabled_models=("custom/demo", "openai/gpt-4o"),
            disabled_models=("openai/*", "groq/llama"),
            aliases={"fast": "quick", "mine": "custom/x", "quick": "openai/gpt-4o"},
        )
        == STORED
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"default_model": ""}, {"default_model": None}),
        ({"default_model": "GPT-4o-mini".lower(), "enable": ["gpt-4o-mini"]},
         {"default_model": "openai/gpt-4o-mini", "enabled_models": (*STORED.enabled_models, "openai/gpt-4o-mini")}),
        ({"reset": ["custom/demo", "groq/llama"]},
         {"enabled_models": ("openai/gpt-4o",), "disabled_models": ("openai/*",)}),
        ({"disable": ["custom/demo"]},
         {"enabled_models": ("openai/gpt-4o",), "disabled_models": ("openai/*", "groq/llama", "custom/demo")}),
        ({"enable": ["custom/demo"]}, {}),
        ({"remove_aliases": ["mine", "none"]}, {"aliases": {"fast": "quick", "quick": "openai/gpt-4o"}}),
        ({"set_aliases": {"quick": "custom/y"}},
         {"aliases": {"fast": "quick", "mine": "custom/x", "quick": "custom/y"}}),
    ],
)  # fmt: skip
def test_a_change_changes_what_it_names(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    new = change(STORED, **fields)
    assert new == msgspec.structs.replace(STORED, **expected)
    assert set(changed_settings(STORED, new)) == expected.keys()
    assert (settings_etag(new) == settings_etag(STORED)) is (not expected)


@pytest.mark.parametrize(
    ("workspace", "fields", "field"),
    [
        (PLAIN, {"default_model": "nobody"}, "default_model"),
        (PLAIN, {"default_model": "groq/llama"}, "default_model"),
        (PLAIN, {"default_model": "openai/gpt-4o", "disable": ["openai/*"]}, "default_model"),
        (PLAIN, {"enable": ["openai/gpt-4o", "groq/llama"]}, "enable[1]"),
        (PLAIN, {"set_aliases": {"a": "nobody"}}, "set_aliases[a]"),
        (PLAIN, {"set_aliases": {"OpenAI": "custom/x"}}, "set_aliases[OpenAI]"),
        (PLAIN, {"set_aliases": {"a": "a"}}, "set_aliases[a]"),
        (PLAIN, {"set_aliases": {"a": "b", "b": "c", "c": "a"}}, "set_aliases[a]"),
        (STORED, {"set_aliases": {"quick": "fast"}}, "set_aliases[fast]"),
        (STORED, {"remove_aliases": ["quick"]}, "default_model"),
        (STORED, {"remove_aliases": ["fast"]}, "default_model"),
        (STORED, {"reset": ["openai/gpt-4o"]}, "default_model"),
        (STORED, {"disable": ["*"]}, "aliases[mine]"),
    ],
)
def test_what_would_lead_nowhere_is_refused_by_the_name_of_its_field(
    workspace: Workspace, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        change(workspace, **fields)
    assert [violation.field for violation in caught.value.violations] == [field]


def test_a_mistyped_model_is_refused_with_near_names() -> None:
    with pytest.raises(InvalidRequest) as caught:
        change(default_model="gpt-4o-mimi")
    assert "openai/gpt-4o-mini" in caught.value.metadata["candidates"]


def test_what_led_nowhere_already_does_not_stop_other_changes() -> None:
    """A configuration was switched off meanwhile: its aliases stay, and may be mended one by one."""
    new = change(STORED, [CUSTOM], disable=["custom/z"])
    assert new.default_model == "fast"
    assert change(STORED, [CUSTOM], set_aliases={"quick": "custom/y"}).aliases["quick"] == "custom/y"


def test_a_change_that_is_based_on_other_settings_is_a_conflict() -> None:
    assert change(STORED, default_model="", etag=settings_etag(STORED)).default_model is None
    with pytest.raises(Conflict):
        change(STORED, default_model="", etag=settings_etag(PLAIN))


def test_there_is_an_end_to_aliases() -> None:
    many = {f"a{number}": "custom/x" for number in range(MOST_ALIASES)}
    full = change(set_aliases=many)
    with pytest.raises(LimitExceeded):
        change(full, set_aliases={"one-more": "custom/x"})


# --- deletes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workspace", "configs", "used_by"),
    [
        (PLAIN, BOTH, ""),
        (msgspec.structs.replace(PLAIN, default_model="custom/demo"), BOTH, "default model custom/demo"),
        (msgspec.structs.replace(PLAIN, aliases={"a": "b", "b": "custom/x"}), BOTH, "alias a, alias b"),
        (msgspec.structs.replace(PLAIN, enabled_models=("custom/x",)), BOTH, "enabled model custom/x"),
        (msgspec.structs.replace(PLAIN, default_model="openai/gpt-4o", aliases={"a": "openai/gpt-4o"}), BOTH, ""),
        (WORKSPACE, (*BOTH, provider_config(id="cfg_3", name="second")), ""),
        (WORKSPACE, (*BOTH, provider_config(id="cfg_3", name="second", active=False)), "default model custom/demo"),
        (WORKSPACE, (provider_config(active=False), OPENAI), ""),
    ],
    ids=["nothing", "default", "aliases", "enabled", "others", "another serves", "another is off", "is off itself"],
)
def test_a_delete_refuses_what_alone_keeps_something_going_and_says_what(
    workspace: Workspace, configs: Sequence[ProviderConfig], used_by: str
) -> None:
    if not used_by:
        refuse_delete_in_use(workspace, configs, CATALOG, "cfg_1")
        return
    with pytest.raises(InUse) as caught:
        refuse_delete_in_use(workspace, configs, CATALOG, "cfg_1")
    assert caught.value.metadata["used_by"] == used_by
    assert used_by in caught.value.message


# --- patterns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "ids", "expected"),
    [
        ((), ("openai/gpt-4o",), False),
        (("openai/gpt-4o",), ("openai/gpt-4o",), True),
        (("openai/gpt-4o",), ("openai/gpt-4o-mini",), False),
        (("openai/gpt-4o",), ("openai/gpt-4o-2024", "openai/gpt-4o"), True),
        (("openai/*",), ("openai/gpt-4o",), True),
        (("openai/*",), ("openaix/gpt-4o",), False),
        (("groq/a", "*"), ("openai/gpt-4o",), True),
    ],
)
def test_patterns_are_ids_or_beginnings_of_them(patterns: Sequence[str], ids: Sequence[str], expected: bool) -> None:
    assert permits(patterns, *ids) is expected


@pytest.mark.parametrize("narrower", ["openai/gpt-4o", "openai/gpt-*", "openai/*", "*"])
def test_what_covers_a_pattern_permits_all_that_it_permits(narrower: str) -> None:
    assert covers(["*"], narrower)
    assert covers(["openai/*"], narrower) is (narrower != "*")
    assert covers(["openai/gpt-4o"], narrower) is (narrower == "openai/gpt-4o")


# --- the use case -----------------------------------------------------------------------------------------------------


class OneWorkspace:
    """The part of the store that is used: changes are made of STORED."""

    def __init__(self) -> None:
        self.audit: AuditEntry | None = None

    async def change_models(self, workspace_id: str, apply: ModelsChange) -> Workspace:
        new, self.audit = apply(STORED, BOTH)
        return new


async def test_an_update_is_logged_by_the_names_of_what_it_changed() -> None:
    store = OneWorkspace()
    service = ModelSettings(snapshot_of(*BOTH), store, CATALOG, now=lambda: NOW)  # type: ignore[arg-type]
    await service.update(MEMBER, "ws_1", ModelSettingsChange(default_model="", remove_aliases=["mine"]))
    assert store.audit is not None
    assert (store.audit.action, store.audit.object_id, store.audit.at) == ("model_settings.update", "ws_1", NOW)
    assert store.audit.details == {"fields": "default_model, aliases"}
    assert service.get("ws_1") == WORKSPACE
