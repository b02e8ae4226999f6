"""An issuer with real keys, and what takes its tokens, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from server.core.endpoint import EndpointPolicy
from server.providers.transport.client import HttpTransport
from server.providers.transport.guard import GuardedResolver
from tests.identity.taker import Taker
from tests.support.issuer import Issuer, SigningKey, serving


@pytest.fixture(scope="session")
def rsa_key() -> SigningKey:
    return SigningKey("rsa-1", "RS256")


@pytest.fixture(scope="session")
def ec_key() -> SigningKey:
    return SigningKey("ec-1", "ES256")


@pytest.fixture
async def issuer(rsa_key: SigningKey, ec_key: SigningKey) -> AsyncIterator[Issuer]:
    async with serving(Issuer(rsa_key, ec_key)) as running:
        yield running


@pytest.fixture
async def taker(issuer: Issuer) -> AsyncIterator[Taker]:
    policy = EndpointPolicy(frozenset({("127.0.0.1", issuer.port)}))
    transport = HttpTransport(GuardedResolver(policy))
    yield Taker(issuer, transport, policy)
    await transport.aclose()
