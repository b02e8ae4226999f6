"""From a stored configuration to where and as whom a provider is called."""

from __future__ import annotations

from server.core.endpoint import EndpointPolicy
from server.core.errors import InvalidRequest, NotConfigured
from server.core.ports import ProviderTarget, Vault
from server.core.provider_config import ProviderConfig, SecretField, needs_credential, needs_endpoint
from server.core.secret import Secret

_MOST_CHECKED = 4096


class Targets:
    """Opens configurations for one call at a time. Keeps no credential."""

    def __init__(self, vault: Vault, endpoints: EndpointPolicy) -> None:
        self._vault = vault
        self._endpoints = endpoints
        self._checked: set[str] = set()

    def open(self, config: ProviderConfig, *, wire: str = "") -> ProviderTarget:
        """The target, credentials in clear: for one call, then to be dropped. wire: see `ProviderTarget.wire`.

        Raises NotConfigured where the configuration lacks what its provider needs, or has an endpoint that this gateway
        may not connect to (any more).
        """
        self._require(config)
        key = self._open(config, "key", config.sealed_key)
        secret = self._open(config, "secret", config.sealed_secret)
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
        elif config.endpoint not in self._checked:
            try:
                self._endpoints.check_url(config.endpoint)
            except InvalidRequest as error:
                raise NotConfigured(
                    f"The provider configuration cannot be used: {error.message}", metadata=_facts(config)
                ) from error
            if len(self._checked) >= _MOST_CHECKED:
                self._checked.clear()
            self._checked.add(config.endpoint)

    def _open(self, config: ProviderConfig, field: SecretField, sealed: bytes | None) -> Secret | None:
        return None if sealed is None else self._vault.open(config.workspace_id, config.id, field, sealed)


def _lacking(config: ProviderConfig, what: str, mend: str) -> NotConfigured:
    """The documented message."""
    return NotConfigured(
        f"No {what} configured for {config.provider.upper()}",
        action=f"{mend} the provider configuration {config.name!r}.",
        metadata=_facts(config),
    )


def _facts(config: ProviderConfig) -> dict[str, str]:
    return {"provider": config.provider, "provider_config": config.name}
