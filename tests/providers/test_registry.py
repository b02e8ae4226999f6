"""Adapters by slug, each imported when it is first asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from server.core.errors import InvalidRequest
from server.providers.registry import ENTRIES, ProviderRegistry
from server.providers.transport.fake import FakeTransport


def test_the_seven_slugs_have_names() -> None:
    """Every slug of the contract, with a name for people."""
    slugs = ProviderRegistry(FakeTransport()).slugs()
    assert set(slugs) == {"openai", "anthropic", "bedrock", "groq", "gemini", "xai", "custom"}
    assert all(slugs.values())


@pytest.mark.parametrize("slug", ["groq", "xai", "custom"])
def test_an_adapter_is_made_once(slug: str) -> None:
    """The same instance for every call."""
    registry = ProviderRegistry(FakeTransport())
    assert registry.get(slug) is registry.get(slug)


@pytest.mark.parametrize("slug", ["", "OPENAI", "cohere", "os:system"])
def test_an_unknown_slug_is_an_invalid_request(slug: str) -> None:
    """And the error lists the known ones."""
    with pytest.raises(InvalidRequest) as caught:
        ProviderRegistry(FakeTransport()).get(slug)
    assert "anthropic" in caught.value.message


def test_no_adapter_is_imported_before_it_is_asked_for() -> None:
    """Importing the registry and making one brings in no adapter; asking for one brings in that one."""
    rooms = sorted({entry.adapter.partition(":")[0] for entry in ENTRIES.values()})
    code = (
        "import sys\n"
        "from server.providers.registry import ProviderRegistry\n"
        "registry = ProviderRegistry(None)\n"
        f"assert not [name for name in {rooms!r} if name in sys.modules]\n"
        "registry.get('custom')\n"
        f"print([name for name in {rooms!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['server.providers.openai_chat']"
