"""Both event loops for every asynchronous test here, a transport, and certificates."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from server.providers.transport.client import HttpTransport
from tests.providers.transport.certificates import make_certificates


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The server runs on uvloop, and what holds must hold on both."""
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    made = HttpTransport()
    yield made
    await made.aclose()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem and, signed by it for provider.test, server.pem (key and certificate)."""
    directory = tmp_path_factory.mktemp("tls")
    make_certificates(directory)
    return directory
