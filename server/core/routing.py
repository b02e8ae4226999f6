"""Which configuration and which of its models a caller's words mean: what one workspace can call, as pure look-ups.

How a model is named, in the order in which the rules apply:
1. No model: the workspace's default model. An alias of the workspace, where neither a provider nor a configuration is
   named beside it: what it stands for.
2. A provider or a configuration's name was given beside it: the model is that provider's own name. `provider/` before
   it is dropped if it is the same provider (and not part of the name, as in Groq's `groq/compound`).
3. `provider/model` with a known slug, in any case: that provider, whatever else carries such a name.
4. Anything else is a bare name, slashes included: it must be known, and to one provider of the workspace alone.
Of a provider's configurations the named one is taken, else the oldest active one that is known to serve the model,
else the oldest active one. A model that nobody knows passes through where the provider is named, for providers release
models daily; a bare one is UnknownModel. A model that the workspace disabled, and did not enable by its id, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from server.core.access import Workspace, permits
from server.core.catalog import Catalog, ModelInfo, ModelKind, near
from server.core.errors import (
    AmbiguousModel,
    DragomanError,
    InvalidRequest,
    NotConfigured,
    NotFound,
    PermissionDenied,
    UnknownModel,
)
from server.core.provider_config import ProviderConfig

_E = TypeVar("_E", bound=DragomanError)

_MEMO_ROUTES = 512
"""Most routes that one workspace keeps ready; callers choose the words, so there must be an end."""
_MEMO_CHARS = 200


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where a call goes.

    model: the provider's own name for it, as the caller spelled it (an alias stays one). info: its row of the
    catalogue, None for an unknown one. id: `provider/model`. wire: `ProviderTarget.wire`, "" for its default.
    """

    config: ProviderConfig
    model: str
    info: ModelInfo | None
    id: str
    wire: str = ""

    def ids(self) -> tuple[str, ...]:
        """Every id of the model: as it was named, and as the catalogue has it."""
        return (self.id,) if self.info is None or self.info.id == self.id else (self.id, self.info.id)


class WorkspaceModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model as a workspace sees it. known: whether `info` is from the catalogue (else it has names only, and no
    capability is not a fact). configurations: names of the active ones that serve it, the one that is used first; empty
    for a model that was enabled or made default and that no configuration serves. alias_of: for an alias, which is then
    `info.id`, the id of the model; else ""."""

    info: ModelInfo
    known: bool
    is_default: bool
    configurations: tuple[str, ...]
    alias_of: str = ""

    def ids(self) -> tuple[str, ...]:
        """The ids to hold against a list of allowed models: of an alias those of its model."""
        return (self.alias_of or self.info.id, f"{self.info.provider}/{self.info.model}")


class WorkspaceModels:
    """What one workspace can call, from its configurations (oldest first), its enabled models and the catalogue.

    Immutable but for a memo of routes. Making one costs microseconds; the list of models is made when first asked for.
    """

    def __init__(self, workspace: Workspace, configs: Sequence[ProviderConfig], catalog: Catalog) -> None:
        self.workspace = workspace
        self.configs = tuple(configs)
        self._catalog = catalog
        self._by_name = {config.name: config for config in self.configs}
        self._active: dict[str, tuple[ProviderConfig, ...]] = {}
        for config in self.configs:
            if config.active:
                self._active[config.provider] = (*self._active.get(config.provider, ()), config)
        self._slugs = frozenset(catalog.providers) | {config.provider for config in self.configs}
        self._enabled: dict[str, tuple[str, ...]] = {}
        self._note_enabled(workspace)
        self._routes: dict[tuple[str, str | None, str | None, bool, ModelKind], Route] = {}

    def _note_enabled(self, workspace: Workspace) -> None:
        """Own names that the workspace knows beyond the catalogue, with the slugs that they are known for."""
        for id in dict.fromkeys((*workspace.enabled_models, workspace.default_model or "")):
            slug = self._slug(id)
            if slug and (own := self._own_name(slug, id)) and slug not in self._enabled.get(own, ()):
                self._enabled[own] = (*self._enabled.get(own, ()), slug)

    # --- resolving ----------------------------------------------------------------------------------------------------

    def resolve(
        self,
        model: str,
        provider: str | None = None,
        provider_name: str | None = None,
        *,
        legacy: bool = False,
        kind: ModelKind = "chat",
    ) -> Route:
        """The route that these words mean, by the rules above.

        provider: slug in any case. provider_name: a configuration's name, exactly. legacy: speak the older of a
        provider's protocols (`chat`). kind: what the model is wanted for.
        Raises NotConfigured (no default model, no active configuration of the provider), NotFound (no configuration of
        that name), AmbiguousModel and UnknownModel (bare names; `metadata["candidates"]`, comma-separated),
        PermissionDenied (a disabled model), and InvalidRequest (an unknown provider, words that contradict each other,
        a model of another kind).
        """
        key = (model, provider, provider_name, legacy, kind)
        route = self._routes.get(key)
        if route is None:
            route = self._resolve(model, provider or None, provider_name or None, legacy, kind)
            if self.disables(*route.ids()):
                raise PermissionDenied(
                    f"The model {_short(route.id)} is disabled in this workspace.",
                    action="Use another model, or ask an administrator of the workspace to enable it.",
                    metadata={"model": route.id},
                )
            if len(self._routes) >= _MEMO_ROUTES:
                self._routes.clear()
            if len(model) <= _MEMO_CHARS:
                self._routes[key] = route
        return route

    def locate(self, text: str) -> Route:
        """Where `text` leads as a model, whatever its kind, and though it may be disabled. Raises as `resolve` does."""
        return self._resolve(text, None, None, False, None)

    def disables(self, *ids: str) -> bool:
        """Whether the workspace disabled a model that has these ids."""
        disabled = self.workspace.disabled_models
        return bool(disabled) and permits(disabled, *ids) and not permits(self.workspace.enabled_models, *ids)

    def _resolve(
        self, model: str, provider: str | None, provider_name: str | None, legacy: bool, kind: ModelKind | None
    ) -> Route:
        slug, pinned = self._narrowed(provider, provider_name)
        model = model or self._default(slug)
        if slug is None:
            model = self._unaliased(model)
            slug = self._slug(model) or self._slug_of_bare(model)
        configs = (pinned,) if pinned else self._active.get(slug)
        if not configs:
            raise self._not_configured(slug, model)
        own = self._own_name(slug, model)
        if not own:
            raise InvalidRequest.field("model", f"names the provider {slug!r} and no model")
        if own == model and not any(config.endpoint for config in configs):
            self._refuse_contradiction(slug, model)
        info = self._catalog.find(slug, own)
        serving = _serving(info, configs) if info else ()
        info = info if serving else None
        if info is not None and kind not in (None, info.kind):
            raise InvalidRequest.field("model", f"{info.id} is of kind {info.kind}, and this call needs {kind}")
        config = (serving or configs)[0]
        return Route(config=config, model=own, info=info, id=f"{slug}/{own}", wire="chat" if legacy else "")

    def _narrowed(self, provider: str | None, provider_name: str | None) -> tuple[str | None, ProviderConfig | None]:
        """The slug and the configuration that the caller named beside the model."""
        slug = provider.strip().lower() if provider else None
        if slug is not None and slug not in self._slugs:
            raise InvalidRequest.field("provider", f"one of {', '.join(sorted(self._slugs))}; got {_short(slug)}")
        if provider_name is None:
            return slug, None
        config = self._by_name.get(provider_name)
        if config is None or slug not in (None, config.provider):
            names = [c.name for c in self.configs if c.active and slug in (None, c.provider)]
            whose = f" for the provider {slug!r}" if slug else ""
            listed = f" There are: {', '.join(names)}." if names else ""
            raise NotFound(
                f"No configuration {_short(provider_name)}{whose} in this workspace.{listed}",
                action="Name one of the workspace's configurations, or leave provider_name out.",
                metadata={"candidates": ",".join(names)},
            )
        if not config.active:
            raise NotConfigured(f"The configuration {_short(provider_name)} is not active.")
        return config.provider, config

    def _default(self, slug: str | None) -> str:
        default = self.workspace.default_model
        if not default:
            raise NotConfigured(
                "The call names no model, and the workspace has no default model. "
                "Name a model, or set a default: dragoman models default <id>",
                action="Name a model, or set the default with: dragoman models default <id>",
            )
        default = self._unaliased(default)
        other = self._slug(default)
        if slug and other and slug != other:
            raise InvalidRequest.field("model", f"required here: the default model {default} is not of {slug!r}")
        return default

    def _unaliased(self, name: str) -> str:
        """What an alias stands for in the end; `name` itself where it is none."""
        aliases = self.workspace.aliases
        for _ in range(len(aliases) + 1):
            if name not in aliases:
                return name
            name = aliases[name]
        raise NotConfigured(f"The alias {_short(name)} goes in a circle.")

    def _slug(self, text: str) -> str | None:
        """The provider that `provider/...` names, None for a bare name."""
        head, slash, _ = text.partition("/")
        return slug if slash and (slug := head.lower()) in self._slugs else None

    def _own_name(self, slug: str, text: str) -> str:
        """What `slug` calls the model `text`: as it stands or behind `slug/` where it is known so, else what follows
        `slug/`. So an id always leads back to the model that it was made from."""
        head, slash, rest = text.partition("/")
        if not slash or head.lower() != slug:
            rest = text
        return next((name for name in (text, f"{slug}/{rest}") if self._knows(slug, name)), rest)

    def _knows(self, slug: str, own: str) -> bool:
        return self._catalog.find(slug, own) is not None or slug in self._enabled.get(own, ())

    def _slugs_of_bare(self, name: str) -> tuple[str, ...]:
        """The workspace's providers that know a model of this bare name, sorted."""
        found = {i.provider for i in self._catalog.named(name) if _serving(i, self._active.get(i.provider, ()))}
        return tuple(sorted(found.union(slug for slug in self._enabled.get(name, ()) if slug in self._active)))

    def _slug_of_bare(self, name: str) -> str:
        found = self._slugs_of_bare(name)
        found = tuple(slug for slug in found if not self.disables(f"{slug}/{name}")) or found
        if len(found) == 1:
            return found[0]
        if found:
            candidates = [f"{slug}/{name}" for slug in found]
            raise AmbiguousModel(
                f"{_short(name)} is served by several providers: {', '.join(candidates)}.",
                metadata={"candidates": ",".join(candidates)},
            )
        providers = sorted({info.provider for info in self._catalog.named(name)} - self._active.keys())
        if providers:
            raise self._not_configured(" or ".join(providers), name)
        if not self._active:
            raise NotConfigured("No credential configured: the workspace has no active provider configuration.")
        raise self._unknown(name)

    def _refuse_contradiction(self, slug: str, model: str) -> None:
        """A model id of one provider, with the words to send it to another one's own service, which cannot have it."""
        other = self._slug(model)
        if other and other != slug and self._catalog.find(slug, model) is None and self._catalog.get(model):
            raise InvalidRequest.field("model", f"{_short(model)} is of {other!r}, and the call asks for {slug!r}")

    # --- listing ------------------------------------------------------------------------------------------------------

    @cached_property
    def models(self) -> dict[str, WorkspaceModel]:
        """Every model that the workspace sees, by id, sorted: what the catalogue says that its active configurations
        serve and it did not disable, what it enabled, its default, and its aliases."""
        aliases = self.workspace.aliases
        default = self.workspace.default_model or ""
        default = default if default in aliases else self._canonical(default)
        found: dict[str, WorkspaceModel] = {}
        for slug, configs in self._active.items():
            for info in self._catalog.of(slug):
                if (serving := _serving(info, configs)) and not self.disables(info.id):
                    found[info.id] = _seen(info, serving, default, known=True)
        for id in (*map(self._canonical, self.workspace.enabled_models), default):
            if id and id not in found and id not in aliases:
                found[id] = self._extra(id, default)
        for alias in aliases:
            id = self._canonical(self._unaliased(alias))
            model = found.get(id) or self._extra(id, default)
            found[alias] = msgspec.structs.replace(
                model, info=msgspec.structs.replace(model.info, id=alias), is_default=alias == default, alias_of=id
            )
        return dict(sorted(found.items()))

    def _extra(self, id: str, default: str) -> WorkspaceModel:
        slug = self._slug(id)
        if slug is None:  # a bare name that nobody knows: shown, so that an admin sees what is wrong
            return _seen(ModelInfo(id=id, name=id, provider="", model=id), (), default, known=False)
        own, configs = id.partition("/")[2], self._active.get(slug, ())
        info = self._catalog.find(slug, own)
        if info is None or (configs and not _serving(info, configs)):
            return _seen(ModelInfo(id=id, name=own, provider=slug, model=own), configs, default, known=False)
        return _seen(
            msgspec.structs.replace(info, id=id, model=own, aliases=()), _serving(info, configs), default, known=True
        )

    def _canonical(self, text: str) -> str:
        """The id that `text` means: `provider/own name`, the slug in lower case; `text` itself for an unclear one."""
        slug = self._slug(text)
        if slug is None:
            slugs = self._slugs_of_bare(text) or tuple({info.provider for info in self._catalog.named(text)})
            slug = slugs[0] if len(slugs) == 1 else None
        return f"{slug}/{self._own_name(slug, text)}" if slug else text

    def get(self, text: str) -> WorkspaceModel:
        """The model of this id, alias or bare name. Raises UnknownModel (near names in `metadata["candidates"]`), and
        AmbiguousModel for a bare name of several providers."""
        id = text if text in self.workspace.aliases else self._canonical(text)
        model = self.models.get(id)
        if model is None and (row := self._catalog.get(id)):
            model = self.models.get(row.id)
        if model is None:
            if len(self._slugs_of_bare(text)) > 1:
                self._slug_of_bare(text)
            raise self._unknown(text)
        return model

    # --- near names ---------------------------------------------------------------------------------------------------

    def near(self, name: str, n: int = 3) -> tuple[str, ...]:
        """Ids of models of this workspace with names near `name`, nearest first. Milliseconds: for errors only."""
        return near(name, (model.info for model in self.models.values() if model.configurations), n)

    def _unknown(self, name: str) -> UnknownModel:
        error = UnknownModel(f"No model {_short(name)} in this workspace.")
        if "custom" in self._active:
            error.action += " A model of a custom endpoint is called custom/<model>."
        return with_candidates(error, self.near(name))

    def _not_configured(self, slug: str, model: str) -> NotConfigured:
        """The documented message, and what else of the workspace carries the name."""
        others = [f"{other}/{model}" for other in self._slugs_of_bare(model)]
        return NotConfigured(
            f"No credential configured for {slug.upper()}",
            action="An administrator of the workspace must add an active configuration of the provider.",
            metadata={"provider": slug, "candidates": ",".join(others)},
        )


def with_candidates(error: _E, candidates: Sequence[str]) -> _E:
    """The same error, offering these ids in its message and in `metadata["candidates"]` (comma-separated)."""
    if candidates:
        error.message = f"{error.message} Near names: {', '.join(candidates)}."
        error.args = (error.message,)
        error.metadata["candidates"] = ",".join(candidates)
    return error


def _serving(info: ModelInfo, configs: Sequence[ProviderConfig]) -> tuple[ProviderConfig, ...]:
    """Which of a provider's configurations serve a model: all, or those whose endpoint is on one of its hosts."""
    return tuple(configs) if not info.hosts else tuple(c for c in configs if _host(c.endpoint) in info.hosts)


def _host(endpoint: str | None) -> str | None:
    try:
        return urlsplit(endpoint).hostname if endpoint else None
    except ValueError:
        return None


def _seen(info: ModelInfo, configs: Sequence[ProviderConfig], default: str, *, known: bool) -> WorkspaceModel:
    names = tuple(config.name for config in configs)
    return WorkspaceModel(info=info, known=known, is_default=info.id == default, configurations=names)


def _short(text: str) -> str:
    """A caller's words in an error: quoted, and never more than a name's worth of them."""
    return repr(text if len(text) <= 100 else text[:100] + "...")
