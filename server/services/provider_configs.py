"""Provider configurations: what an admin may do with them, with credentials sealed before anything is written."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec

from server.core.access import Principal, Workspace
from server.core.audit import AuditEntry, AuditObject, audit_entry
from server.core.catalog import Catalog
from server.core.endpoint import EndpointPolicy
from server.core.errors import Conflict, DragomanError, Fault, InvalidRequest, NotFound
from server.core.ids import ID_ENTROPY_BYTES, sortable_id
from server.core.model_settings import refuse_delete_in_use
from server.core.ports import CallTimeouts, ConfigStore, Providers, StatsStore, Vault
from server.core.provider_config import (
    DEFAULT_PROVIDER,
    FLAVORS,
    AiType,
    ConfigStats,
    ProviderConfig,
    SecretField,
)
from server.core.secret import Secret, mask
from server.services.access import utc_now
from server.services.targets import Targets

VALIDATION_TIMEOUTS = CallTimeouts(connect=5.0, first_token=15.0, idle=15.0, total=20.0)
"""Seconds: an admin waits for a validation, so it is bounded tighter than a call of a model."""


class ConfigDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration to be made. provider: slug, None for the one that ai_type means. flavor: one of FLAVORS
    for a custom one, "" for none."""

    name: str
    ai_type: AiType
    provider: str | None = None
    endpoint: str | None = None
    key: Secret | None = None
    secret: Secret | None = None
    flavor: str = ""


class ConfigChange(msgspec.Struct, frozen=True, kw_only=True):
    """What to change; None leaves a field as it is, an empty endpoint or credential removes it.

    etag: the one that the change is based on, None to change whatever is stored.
    """

    name: str | None = None
    ai_type: AiType | None = None
    provider: str | None = None
    endpoint: str | None = None
    key: Secret | None = None
    secret: Secret | None = None
    active: bool | None = None
    etag: str | None = None
    flavor: str | None = None


class ConfigPage(msgspec.Struct, frozen=True):
    """Some configurations, newest first. next_page_token: "" on the last page."""

    configs: Sequence[ProviderConfig]
    next_page_token: str


class Validation(msgspec.Struct, frozen=True):
    """How a validation ended. message: for people, without secrets."""

    ok: bool
    message: str


class ProviderConfigs:
    """Use cases on configurations. Callers are authorised by role before they come here; the workspace is checked
    here."""

    def __init__(
        self,
        store: ConfigStore,
        stats: StatsStore,
        vault: Vault,
        targets: Targets,
        providers: Providers,
        endpoints: EndpointPolicy,
        catalog: Catalog,
        *,
        now: Callable[[], datetime] = utc_now,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._store = store
        self._stats = stats
        self._vault = vault
        self._targets = targets
        self._providers = providers
        self._endpoints = endpoints
        self._catalog = catalog
        self._now = now
        self._entropy = entropy

    async def create(self, caller: Principal, workspace_id: str, draft: ConfigDraft) -> ProviderConfig:
        """Seal and store. Raises InvalidRequest (endpoint, name), AlreadyExists (name), LimitExceeded, Unavailable."""
        now = self._now()
        id = sortable_id("cfg", now, self._entropy(ID_ENTROPY_BYTES))
        config = ProviderConfig(
            id=id,
            org_id=caller.org_id,
            workspace_id=workspace_id,
            user_id=caller.user_id,
            name=_name(draft.name),
            ai_type=draft.ai_type,
            provider=_provider(draft.ai_type, draft.provider),
            endpoint=self._endpoints.check_url(draft.endpoint) if draft.endpoint else None,
            sealed_key=await self._seal(workspace_id, id, "key", draft.key),
            sealed_secret=await self._seal(workspace_id, id, "secret", draft.secret),
            key_mask=_mask(draft.key),
            secret_mask=_mask(draft.secret),
            active=True,
            etag=secrets.token_hex(8),
            created_at=now,
            updated_at=now,
            flavor=draft.flavor,
        )
        _check_flavor(config)
        return await self._store.create(config, audit=self._entry(caller, "create", config, _where(config)))

    async def get(self, caller: Principal, config_id: str) -> ProviderConfig:
        """One configuration that the caller may see. Raises NotFound, also for one of another workspace."""
        config = await self._store.get(config_id)
        if config is None or config.org_id != caller.org_id or caller.workspace_id not in (None, config.workspace_id):
            raise NotFound("No such configuration.", action="List the workspace's configurations.")
        return config

    async def list(
        self, workspace_id: str, *, available_only: bool = False, page_size: int = 0, page_token: str = ""
    ) -> ConfigPage:
        """A page, newest first; page_size 0 for all. Raises InvalidRequest for a token that is none of ours."""
        after = _after(page_token)
        limit = page_size + 1 if page_size else None
        found = await self._store.list(workspace_id, available_only=available_only, limit=limit, after=after)
        if page_size and len(found) > page_size:
            return ConfigPage(found[:page_size], _token(found[page_size - 1].id))
        return ConfigPage(found, "")

    async def update(self, caller: Principal, config_id: str, change: ConfigChange) -> ProviderConfig:
        """Change what is given. Raises NotFound, InvalidRequest, AlreadyExists, Conflict (etag), Unavailable."""
        old = await self.get(caller, config_id)
        ai_type = change.ai_type or old.ai_type
        provider = old.provider
        if change.provider or ai_type != old.ai_type:
            provider = _provider(ai_type, change.provider)
        endpoint = old.endpoint
        if change.endpoint is not None:
            endpoint = self._endpoints.check_url(change.endpoint) if change.endpoint else None
        if (endpoint, provider) != (old.endpoint, old.provider):
            _need_fresh_credentials(old, change)
        new = msgspec.structs.replace(
            old,
            name=old.name if change.name is None else _name(change.name),
            ai_type=ai_type,
            provider=provider,
            endpoint=endpoint,
            active=old.active if change.active is None else change.active,
            updated_at=self._now(),
            flavor=old.flavor if change.flavor is None else change.flavor,
        )
        _check_flavor(new)
        new = await self._resealed(new, "key", change.key)
        new = await self._resealed(new, "secret", change.secret)
        if (new.endpoint, new.provider, new.sealed_key, new.sealed_secret) != (
            old.endpoint,
            old.provider,
            old.sealed_key,
            old.sealed_secret,
        ):
            new = msgspec.structs.replace(new, valid=None, validated_at=None, validation_message="")
        facts = {"fields": ", ".join(_changed(old, new)), **_where(new)}
        audit = self._entry(caller, "update", new, facts)
        return await self._store.update(new, expected_etag=change.etag or old.etag, audit=audit)

    async def delete(self, caller: Principal, config_id: str) -> None:
        """Remove it with its sealed credential. Raises NotFound, InUse (see `refuse_delete_in_use`), Unavailable."""
        config = await self.get(caller, config_id)

        def check(workspace: Workspace, configs: Sequence[ProviderConfig]) -> None:
            refuse_delete_in_use(workspace, configs, self._catalog, config_id)

        await self._store.delete(config_id, check=check, audit=self._entry(caller, "delete", config))

    async def validate(self, caller: Principal, config_id: str) -> Validation:
        """Ask the provider, by its cheapest call, and note the outcome. A refusal is an outcome, not an error.

        Where this gateway fails, a credential that does not open say, nothing was learnt of the configuration: that is
        raised, and what the last validation said stays. Raises NotFound, InternalError, Unavailable.
        """
        config = await self.get(caller, config_id)
        try:
            target = self._targets.open(config)
            await self._providers.get(config.provider).validate(target, VALIDATION_TIMEOUTS)
        except DragomanError as error:
            if error.fault is Fault.GATEWAY:
                raise
            outcome = Validation(False, error.message)
        else:
            outcome = Validation(True, "AI LLM configuration validated successfully")
        try:
            await self._store.record_validation(
                config.id,
                valid=outcome.ok,
                message=outcome.message,
                expected_etag=config.etag,
                audit=self._entry(caller, "validate", config, {"valid": "true" if outcome.ok else "false"}),
            )
        except Conflict:
            return Validation(False, "The configuration changed while it was validated; validate it again.")
        return outcome

    async def stats(self, caller: Principal, workspace_id: str, config_id: str | None) -> Sequence[ConfigStats]:
        """Counts of one configuration, or of all of the workspace. Raises NotFound."""
        if config_id is not None:
            workspace_id = (await self.get(caller, config_id)).workspace_id
        return await self._stats.read(workspace_id, config_id)

    def _entry(
        self, caller: Principal, verb: str, config: ProviderConfig, details: Mapping[str, str] | None = None
    ) -> AuditEntry:
        return audit_entry(
            caller,
            f"provider_config.{verb}",
            AuditObject("provider_config", config.id, config.name),
            workspace_id=config.workspace_id,
            now=self._now(),
            entropy=self._entropy(ID_ENTROPY_BYTES),
            details=details,
        )

    async def _seal(self, workspace_id: str, config_id: str, field: SecretField, value: Secret | None) -> bytes | None:
        if value is None or not value.reveal():
            return None
        return await self._vault.seal(workspace_id, config_id, field, value)

    async def _resealed(self, config: ProviderConfig, field: SecretField, value: Secret | None) -> ProviderConfig:
        if value is None:
            return config
        sealed = await self._seal(config.workspace_id, config.id, field, value)
        return msgspec.structs.replace(config, **{f"sealed_{field}": sealed, f"{field}_mask": _mask(value)})


def _where(config: ProviderConfig) -> dict[str, str]:
    """Where the credential goes, for the audit log. An endpoint holds no credential: the policy refuses user info and
    queries."""
    facts = {"provider": config.provider}
    return facts if config.endpoint is None else {**facts, "endpoint": config.endpoint}


_LOGGED = ("name", "ai_type", "provider", "endpoint", "active", "flavor")


def _changed(old: ProviderConfig, new: ProviderConfig) -> list[str]:
    """Names of the fields that an update changes; a credential that is given anew counts, whatever it is."""
    names = [name for name in _LOGGED if getattr(old, name) != getattr(new, name)]
    return names + [name for name in ("key", "secret") if _sealed(old, name) != _sealed(new, name)]


def _sealed(config: ProviderConfig, field: str) -> bytes | None:
    return config.sealed_key if field == "key" else config.sealed_secret


def _name(name: str) -> str:
    if not name.strip():
        raise InvalidRequest.field("name", "must not be blank")
    return name.strip()


def _provider(ai_type: AiType, named: str | None) -> str:
    """The slug: the one that was named if it fits the type, else the one that the type means."""
    meant = DEFAULT_PROVIDER[ai_type]
    if not named:
        return meant
    slug = named.lower()
    own_types = {type_ for type_, provider in DEFAULT_PROVIDER.items() if provider == slug} or {"OTHER"}
    if ai_type not in own_types:
        raise InvalidRequest.field("provider", f"{slug} needs ai_type {' or '.join(sorted(own_types))}, not {ai_type}")
    return slug


def _check_flavor(config: ProviderConfig) -> None:
    if config.flavor and config.provider != "custom":
        raise InvalidRequest.field("flavor", f"is for custom configurations; this one is {config.provider}")
    if config.flavor and config.flavor not in FLAVORS:
        raise InvalidRequest.field("flavor", f"must be one of {', '.join(FLAVORS)}")


def _need_fresh_credentials(old: ProviderConfig, change: ConfigChange) -> None:
    """A stored credential never goes to a host that its owner did not give it for."""
    for field, sealed, given in (
        ("key", old.sealed_key, change.key),
        ("secret", old.sealed_secret, change.secret),
    ):
        if sealed is not None and given is None:
            raise InvalidRequest.field(field, "must be given anew when the endpoint or the provider changes")


def _mask(value: Secret | None) -> str | None:
    return None if value is None or not value.reveal() else mask(value.reveal())


def _token(config_id: str) -> str:
    return base64.urlsafe_b64encode(config_id.encode()).decode()


def _after(token: str) -> str | None:
    if not token:
        return None
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode("ascii")
    except ValueError:  # not ASCII, not base64
        raise InvalidRequest.field("page_token", "is not one that this service gave out") from None
