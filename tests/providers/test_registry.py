"""Adapters by slug, each imported when it is first asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from buf.validate import validate_pb2
from dragoman.v1.chat_pb2 import ChatRequest
from server.core.errors import InvalidRequest
from server.core.provider_config import PROVIDERS
from server.providers.registry import ENTRIES, ProviderRegistry
from server.providers.transport.fake import FakeTransport
from tests.support.process import PROJECT


def contract_slugs() -> list[str]:
    """The words that ChatRequest.provider takes."""
    options = ChatRequest.DESCRIPTOR.fields_by_name["provider"].GetOptions()
    pattern = options.Extensions[validate_pb2.field].string.pattern
    return pattern.removeprefix("^(?i:").removesuffix(")$").split("|")


def test_contract_configurations_and_catalogue_know_the_same_slugs() -> None:
    """One list of providers, wherever one is named."""
    tables = [path.stem for path in (PROJECT / "server" / "data" / "models").glob("*.json")]
    assert sorted(contract_slugs()) == sorted(PROVIDERS) == sorted(tables)


@pytest.mark.parametrize("slug", ENTRIES)
def test_every_row_is_a_provider_of_the_contract_with_a_name_and_an_adapter(slug: str) -> None:
    """A name for people, and a port that can be called."""
    registry = ProviderRegistry(FakeTransport())
    assert slug in contract_slugs()
    assert registry.slugs()[slug]
    assert {"chat", "list_models", "validate"} <= {*dir(registry.get(slug))}


@pytest.mark.parametrize("slug", ENTRIES)
def test_an_adapter_is_made_once(slug: str) -> None:
    """The same instance for every call."""
    registry = ProviderRegistry(FakeTransport())
    assert registry.get(slug) is registry.get(slug)


@pytest.mark.parametrize("slug", ["", "OPENAI", "cohere", "os:system"])
def test_an_unknown_slug_is_an_invalid_request(slug: str) -> None:
    """And the error lists the known ones."""
    with pytest.raises(InvalidRequest) as caught:
        ProviderRegistry(FakeTransport()).get(slug)
    assert all(slug in caught.value.message for slug in ENTRIES)


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
