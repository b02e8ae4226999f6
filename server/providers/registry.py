"""All adapters by slug. An adapter's module is imported when it is first asked for, so an unused one costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Final

import msgspec

from server.core.errors import InvalidRequest
from server.core.ports import Provider
from server.providers.http import Transport


class Entry(msgspec.Struct, frozen=True):
    """One slug. name: for people. adapter: `module:function`, where function(slug, transport) -> Provider."""

    name: str
    adapter: str


ENTRIES: Final[Mapping[str, Entry]] = MappingProxyType(
    {
        "openai": Entry("OpenAI", "server.providers.openai_responses:adapter"),
        "anthropic": Entry("Anthropic", "server.providers.anthropic:adapter"),
        "bedrock": Entry("Amazon Bedrock", "server.providers.bedrock:adapter"),
        "groq": Entry("Groq", "server.providers.openai_chat:adapter"),
        "gemini": Entry("Google Gemini", "server.providers.gemini:adapter"),
        "xai": Entry("xAI", "server.providers.openai_responses:adapter"),
        "custom": Entry("OpenAI-compatible endpoint", "server.providers.openai_chat:adapter"),
    }
)
"""Every provider that a configuration can name. A new one is a row here and its module."""


class ProviderRegistry:
    """core's `Providers` over one transport. entries: for tests, else all."""

    def __init__(self, transport: Transport, entries: Mapping[str, Entry] = ENTRIES) -> None:
        self._transport = transport
        self._entries = entries
        self._adapters: dict[str, Provider] = {}

    def get(self, slug: str) -> Provider:
        """The slug's adapter, made on first use and kept. Raises InvalidRequest for a slug that is none."""
        found = self._adapters.get(slug)
        if found is None:
            entry = self._entries.get(slug)
            if entry is None:
                raise InvalidRequest.field("provider", f"must be one of {', '.join(sorted(self._entries))}")
            module, _, function = entry.adapter.partition(":")
            found = self._adapters[slug] = getattr(import_module(module), function)(slug, self._transport)
        return found

    def slugs(self) -> Mapping[str, str]:
        """Every slug, with its name for people."""
        return {slug: entry.name for slug, entry in self._entries.items()}
