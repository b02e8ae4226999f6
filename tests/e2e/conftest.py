"""One Envoy and one echo server for all tests of the edge: what they do is set anew by each test."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.echo import Echo, echo_server
from tests.e2e.envoy import Proxy, proxy
from tests.e2e.stack import Stack, running_stack


@pytest.fixture(scope="session")
def _echo() -> Iterator[Echo]:
    with echo_server() as echo:
        yield echo


@pytest.fixture(scope="session")
def edge(_echo: Echo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Envoy in front of the echo server."""
    with proxy(tmp_path_factory.mktemp("envoy"), _echo.grpc, _echo.edge) as running:
        yield running


@pytest.fixture
def echo(_echo: Echo) -> Echo:
    """The server behind `edge`, with nothing told to it yet."""
    _echo.reset()
    return _echo


@pytest.fixture
def rest(edge: Proxy) -> Iterator[httpx.Client]:
    """A REST client of `edge`."""
    with httpx.Client(base_url=edge.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole gateway, shared by the tests of a worker; what a test adds to it has names of its own."""
    with running_stack(
        tmp_path_factory.mktemp("stack"), first_token_timeout_seconds="2", idle_timeout_seconds="2"
    ) as it:
        yield it
