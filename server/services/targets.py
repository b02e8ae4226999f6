"""From a stored configuration to where and as whom a provider is called."""

from __future__ import annotations

from server.core.endpoint import EndpointPolicy
from server.core.errors import InvalidRequest, NotConfigured
from server.core.ports import ProviderTarget, Vault
from server.core.provider_config import ProviderConfig, needs_credential, needs_endpoint

_MOST_CHECKED = 4096


class Targets:
    """Opens configurations for one call at a time. Keeps no credential."""

    def __init__(self, vault: Vault, endpoints: EndpointPolicy) -> None:
        self._vault = vault
        self._endpoints = endpoints
        self._checked: set[tuple[str, str | None]] = set()

    def open(self, config: ProviderConfig, *, wire: str = "") -> ProviderTarget:
        """The target, credentials in clear: for one call, then to be dropped. wire: see `ProviderTarget.wire`.

        Raises NotConfigured where the configuration lacks what its provider needs, or has an endpoint that this gateway
        may not connect to (any more).
        """
        open_sealed, workspace_id, config_id = self._vault.open, config.workspace_id, config.id
        sealed_key, sealed_secret = config.sealed_key, config.sealed_secret
        has_credential = sealed_key is not None or sealed_secret is not None
        if not has_credential or (config.provider, config.endpoint) not in self._checked:
            self._require(config)
        key = None if sealed_key is None else open_sealed(workspace_id, config_id, "key", sealed_key)
        secret = None if sealed_secret is None else open_sealed(workspace_id, config_id, "secret", sealed_secret)
        if secret is None:
            key, secret = None, key
        return ProviderTarget(
            provider=config.provider,
            config_id=config.id,
            endpoint=config.endpoint,
            secret=secret,
            key=key,
            wire=config.flavor or wire,
        )

    def _require(self, config: ProviderConfig) -> None:
        if config.sealed_secret is None and config.sealed_key is None and needs_credential(config.provider):
            raise _lacking(config, "credential", "Store a secret in")
        if config.endpoint is None:
            if needs_endpoint(config.provider):
                raise _lacking(config, "endpoint", "Set the endpoint of")
        else:
            try:
                self._endpoints.check_url(config.endpoint)
            except InvalidRequest as error:
                raise NotConfigured(
                    f"The provider configuration cannot be used: {error.message}", metadata=_facts(config)
                ) from error
        if len(self._checked) >= _MOST_CHECKED:
            self._checked.clear()
        self._checked.add((config.provider, config.endpoint))


def _lacking(config: ProviderConfig, what: str, mend: str) -> NotConfigured:
    """The documented message."""
    return NotConfigured(
        f"No {what} configured for {config.provider.upper()}",
        action=f"{mend} the provider configuration {config.name!r}.",
        metadata=_facts(config),
    )


def _facts(config: ProviderConfig) -> dict[str, str]:
    return {"provider": config.provider, "provider_config": config.name}
