"""What a workspace offers: changes to its default model, enabled and disabled models and aliases, and what they may not
be. Pure; the store calls it within the transaction that writes the outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

import msgspec

from server.core.access import Workspace
from server.core.catalog import Catalog
from server.core.errors import Conflict, DragomanError, InUse, InvalidRequest, LimitExceeded
from server.core.provider_config import ProviderConfig
from server.core.routing import WorkspaceModels

MOST_ALIASES = 500
MOST_LISTED = 2000
"""Enabled models, and disabled ones, of a workspace."""


class ModelSettingsChange(msgspec.Struct, frozen=True, kw_only=True):
    """What to change; what is not named stays. default_model: "" for none. enable, disable: each takes a name off the
    other list; reset: off both. etag: the one that the change is based on, "" to change whatever is stored."""

    default_model: str | None = None
    enable: Sequence[str] = ()
    disable: Sequence[str] = ()
    reset: Sequence[str] = ()
    set_aliases: Mapping[str, str] = {}
    remove_aliases: Sequence[str] = ()
    etag: str = ""


def settings_etag(workspace: Workspace) -> str:
    """Another one for other settings; the same ones have the same."""
    return sha256(msgspec.json.encode(_settings(workspace), order="sorted")).hexdigest()[:16]


def changed_settings(old: Workspace, new: Workspace) -> tuple[str, ...]:
    """Names of the settings that differ."""
    return tuple(name for name, value in _settings(old).items() if value != _settings(new)[name])


def changed(
    workspace: Workspace, configs: Sequence[ProviderConfig], catalog: Catalog, change: ModelSettingsChange
) -> Workspace:
    """The workspace with the change made, names of models written as their ids.

    configs: all of the workspace, oldest first. Raises InvalidRequest (a name that leads nowhere, an alias that is a
    provider or goes in a circle, something that would lead nowhere any more), Conflict (etag), LimitExceeded.
    """
    if change.etag and change.etag != settings_etag(workspace):
        raise Conflict("The model settings changed since you read them.")
    before = WorkspaceModels(workspace, configs, catalog)
    enabled = [_id(before, name, f"enable[{at}]") for at, name in enumerate(change.enable)]
    aliases = {name: to for name, to in workspace.aliases.items() if name not in set(change.remove_aliases)}
    aliases |= _targets(before, {**aliases, **change.set_aliases}, change.set_aliases)
    _refuse_bad_aliases(aliases, change.set_aliases, catalog)
    default = workspace.default_model
    if change.default_model is not None:
        default = change.default_model or None
        if default and default not in aliases:
            default = _id(before, default, "default_model")
    off_enabled, off_disabled = {*change.reset, *change.disable}, {*change.reset, *enabled}
    new = msgspec.structs.replace(
        workspace,
        default_model=default,
        enabled_models=_unique([id for id in workspace.enabled_models if id not in off_enabled] + enabled),
        disabled_models=_unique([p for p in workspace.disabled_models if p not in off_disabled] + list(change.disable)),
        aliases=dict(sorted(aliases.items())),
    )
    _refuse_too_many(new)
    _refuse_dead_ends(before, WorkspaceModels(new, configs, catalog))
    return new


def refuse_delete_in_use(
    workspace: Workspace, configs: Sequence[ProviderConfig], catalog: Catalog, config_id: str
) -> None:
    """Raises InUse, which says by what, where the default model, an alias or an enabled model leads to a configuration
    with this one, and without it nowhere."""
    before = WorkspaceModels(workspace, configs, catalog)
    after = WorkspaceModels(workspace, [config for config in configs if config.id != config_id], catalog)
    used_by = [
        pointer.what
        for pointer in _pointers(workspace)
        if not _dead_end(before, pointer.name) and _dead_end(after, pointer.name)
    ]
    if used_by:
        raise InUse(
            f"The configuration is in use: {', '.join(used_by)} would lead nowhere without it.",
            action="Point these elsewhere first, or remove them.",
            metadata={"used_by": ", ".join(used_by)},
        )


def _settings(workspace: Workspace) -> dict[str, object]:
    return {
        "default_model": workspace.default_model,
        "enabled_models": list(workspace.enabled_models),
        "disabled_models": list(workspace.disabled_models),
        "aliases": dict(workspace.aliases),
    }


def _id(models: WorkspaceModels, name: str, field: str) -> str:
    """The id of the model that `name` leads to. Raises InvalidRequest."""
    try:
        return models.locate(name).id
    except DragomanError as error:
        refused = InvalidRequest.field(field, error.message)
        refused.metadata.update(error.metadata)
        raise refused from error


def _targets(models: WorkspaceModels, aliases: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """What the given aliases stand for: other aliases as they are, models by their ids."""
    return {
        alias: target if target in aliases else _id(models, target, f"set_aliases[{alias}]")
        for alias, target in given.items()
    }


def _refuse_bad_aliases(aliases: Mapping[str, str], given: Mapping[str, str], catalog: Catalog) -> None:
    for alias in given:
        if alias.lower() in catalog.providers:
            raise InvalidRequest.field(f"set_aliases[{alias}]", "is the name of a provider")
    for alias in aliases:
        name, steps = alias, 0
        while name in aliases:
            name, steps = aliases[name], steps + 1
            if steps > len(aliases):
                raise InvalidRequest.field(f"set_aliases[{alias}]", "goes in a circle")


def _refuse_too_many(workspace: Workspace) -> None:
    for limit, count, most in (
        ("aliases", len(workspace.aliases), MOST_ALIASES),
        ("enabled_models", len(workspace.enabled_models), MOST_LISTED),
        ("disabled_models", len(workspace.disabled_models), MOST_LISTED),
    ):
        if count > most:
            raise LimitExceeded(
                f"A workspace has at most {most} {limit.replace('_', ' ')}.",
                action="Remove some first.",
                retryable=False,
                metadata={"limit": limit},
            )


class _Pointer(msgspec.Struct, frozen=True):
    """Something in the settings that names a model. field: which setting; what: in words; name: the name."""

    field: str
    what: str
    name: str


def _pointers(workspace: Workspace) -> Iterator[_Pointer]:
    default = workspace.default_model
    if default:
        yield _Pointer("default_model", f"default model {default}", default)
    for alias in workspace.aliases:
        yield _Pointer(f"aliases[{alias}]", f"alias {alias}", alias)
    for id in workspace.enabled_models:
        yield _Pointer("enabled_models", f"enabled model {id}", id)


def _refuse_dead_ends(before: WorkspaceModels, after: WorkspaceModels) -> None:
    """What is new must lead somewhere, and what did so must do so still; what was a dead end already may stay."""
    old = set(_pointers(before.workspace))
    for pointer in _pointers(after.workspace):
        problem = _dead_end(after, pointer.name)
        if problem and not (pointer in old and _dead_end(before, pointer.name)):
            raise InvalidRequest.field(pointer.field, f"the {pointer.what} would lead nowhere: {problem}")


def _dead_end(models: WorkspaceModels, name: str) -> str:
    """Why a call of `name` could not be sent, "" where it could."""
    try:
        route = models.locate(name)
    except DragomanError as error:
        return error.message
    return f"{route.id} is disabled" if models.disables(*route.ids()) else ""


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
