"""A provider configuration: which provider, where, and with which sealed credential."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

AiType = Literal["OPENAI", "GOOGLE", "ANTHROPIC", "AWS", "OTHER"]

DEFAULT_PROVIDER: dict[str, str] = {
    "OPENAI": "openai",
    "GOOGLE": "gemini",
    "ANTHROPIC": "anthropic",
    "AWS": "bedrock",
    "OTHER": "custom",
}
"""The provider slug that an aiType means when none is given."""

PROVIDERS = ("openai", "anthropic", "bedrock", "groq", "gemini", "xai", "custom")
"""The slugs that a configuration can name."""


FLAVORS = ("vllm", "ollama", "llamacpp", "lmstudio", "deepseek", "mistral", "openrouter", "azure")
"""Servers that speak OpenAI's wire with quirks of their own; what a `custom` configuration can say that it calls."""


def needs_credential(provider: str) -> bool:
    """Whether the provider answers nobody without a credential; a custom server may."""
    return provider != "custom"


def needs_endpoint(provider: str) -> bool:
    """Whether the provider has no address of its own."""
    return provider == "custom"


SecretField = Literal["key", "secret"]


class ProviderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration as stored, credentials sealed.

    sealed_key, sealed_secret: cipher bytes that only the vault opens, None where not given. key_mask, secret_mask: what
    may be shown of them. etag: changes with every update. validated_at: when the last validation ended, valid: how;
    validation_message: what it said. flavor: one of FLAVORS for a custom configuration that says so, else "".

    """

    id: str
    org_id: str
    workspace_id: str
    user_id: str
    name: str
    ai_type: AiType
    provider: str
    endpoint: str | None
    sealed_key: bytes | None
    sealed_secret: bytes | None
    key_mask: str | None
    secret_mask: str | None
    active: bool
    etag: str
    created_at: datetime
    updated_at: datetime
    validated_at: datetime | None = None
    valid: bool | None = None
    validation_message: str = ""
    flavor: str = ""


class ConfigStats(msgspec.Struct, frozen=True, kw_only=True):
    """Exact counts of a configuration's real traffic since it was made."""

    config_id: str
    calls: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def plus(self, other: ConfigStats) -> ConfigStats:
        """The sum of two counts of one configuration."""
        return ConfigStats(
            config_id=self.config_id,
            calls=self.calls + other.calls,
            errors=self.errors + other.errors,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )
