"""An issuer's keys: found where it says, read again in time and not too often, kept while it is down."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from server.core.endpoint import EndpointPolicy
from server.core.errors import InvalidRequest, Unauthenticated, Unavailable
from server.identity.keys import RETRY_SECONDS
from server.providers.transport.client import HttpTransport
from server.providers.transport.documents import MOST_BYTES, HttpDocuments, trusting
from server.providers.transport.guard import GuardedResolver
from tests.identity.taker import Taker
from tests.support.issuer import SigningKey

DISCOVERY, JWKS = "/.well-known/openid-configuration", "/jwks"


async def test_keys_are_where_the_discovery_document_says(taker: Taker, ec_key: SigningKey) -> None:
    await taker.tokens.authenticate(taker.issuer.token(ec_key))
    assert taker.issuer.asked == [DISCOVERY, JWKS]


async def test_or_where_the_settings_say(taker: Taker, ec_key: SigningKey) -> None:
    tokens = taker.configure(jwks_url=f"{taker.issuer.url}/elsewhere")
    await tokens.authenticate(taker.issuer.token(ec_key))
    assert taker.issuer.asked == ["/elsewhere"]


async def test_a_new_key_is_taken_at_once_and_a_withdrawn_one_no_longer(taker: Taker, ec_key: SigningKey) -> None:
    """Also for tokens that were verified before: what is remembered goes with the key."""
    old = taker.issuer.token(ec_key)
    await taker.tokens.authenticate(old)
    new = SigningKey("ec-2")
    taker.issuer.publish(new)
    taker.clock.now += RETRY_SECONDS
    assert (await taker.tokens.authenticate(old)).key_id == "jwt:alice", "nobody has looked yet"
    assert (await taker.tokens.authenticate(taker.issuer.token(new))).key_id == "jwt:alice"
    with pytest.raises(Unauthenticated):
        await taker.tokens.authenticate(old)


async def test_unknown_key_ids_make_it_look_again_but_not_often(taker: Taker, ec_key: SigningKey) -> None:
    await taker.keys.read()
    asked = len(taker.issuer.asked)
    stranger = SigningKey("stranger")
    for round_ in range(3):
        for _ in range(20):
            with pytest.raises(Unauthenticated):
                await taker.tokens.authenticate(taker.issuer.token(stranger))
        assert len(taker.issuer.asked) == asked + 2 * round_
        taker.clock.now += RETRY_SECONDS


async def test_from_memory_the_issuer_is_not_asked(taker: Taker, ec_key: SigningKey) -> None:
    token = taker.issuer.token(ec_key)
    with pytest.raises(Unauthenticated):
        await taker.tokens.authenticate(token, from_memory=True)
    assert taker.issuer.asked == []
    await taker.keys.read()
    assert (await taker.tokens.authenticate(token, from_memory=True)).key_id == "jwt:alice"


async def test_all_who_wait_share_one_reading_and_one_that_goes_away_does_not_end_it(
    taker: Taker, ec_key: SigningKey
) -> None:
    token = taker.issuer.token(ec_key)
    waiting = [asyncio.create_task(taker.tokens.authenticate(token)) for _ in range(50)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert len({str(result) for result in results[1:]}) == 1
    assert not isinstance(results[1], BaseException)
    assert taker.issuer.asked == [DISCOVERY, JWKS]


def break_issuer(taker: Taker, how: str) -> None:
    match how:
        case "error":
            taker.issuer.status = 500
        case "redirect":
            taker.issuer.status = 302
        case "another issuer":
            taker.issuer.discovery = {"issuer": "https://elsewhere.test"}
        case "no jwks_uri":
            taker.issuer.discovery = {"jwks_uri": None}
        case "jwks inside":
            taker.issuer.discovery = {"jwks_uri": "http://169.254.169.254/latest"}
        case "jwks by file":
            taker.issuer.discovery = {"jwks_uri": "file:///etc/passwd"}
        case "no object":
            taker.issuer.jwks = ["keys"]
        case "no keys":
            taker.issuer.jwks = {"keys": []}
        case "keys of no use":
            taker.issuer.jwks = {
                "keys": [1, {}, {"kty": "EC"}, {"kty": "RSA", "n": "AQ", "e": "AQAB"}, {"kty": ["EC"]}]
            }
        case _:
            taker.issuer.jwks = {"keys": [], "padding": "x" * MOST_BYTES}


BROKEN = [
    "error",
    "redirect",
    "another issuer",
    "no jwks_uri",
    "jwks inside",
    "jwks by file",
    "no object",
    "no keys",
    "keys of no use",
    "too large",
]


@pytest.mark.parametrize("how", BROKEN)
async def test_an_issuer_that_fails_keeps_its_last_keys_and_without_any_it_is_unavailable(
    taker: Taker, ec_key: SigningKey, how: str
) -> None:
    break_issuer(taker, how)
    token = taker.issuer.token(ec_key)
    with pytest.raises(Unavailable) as caught:
        await taker.tokens.authenticate(token)
    assert caught.value.retry_after == RETRY_SECONDS
    taker.issuer.status, taker.issuer.discovery = 200, {}
    taker.issuer.publish(ec_key)
    taker.clock.now += RETRY_SECONDS
    assert (await taker.tokens.authenticate(token)).key_id == "jwt:alice"

    break_issuer(taker, how)
    await taker.keys.read()
    assert (await taker.tokens.authenticate(taker.issuer.token(ec_key, sub="bob"))).key_id == "jwt:bob"
    with pytest.raises(Unavailable):  # it may be a new key: nobody can know
        await taker.tokens.authenticate(taker.issuer.token(SigningKey("new")))


async def test_that_it_fails_is_logged_once(taker: Taker, ec_key: SigningKey, caplog: pytest.LogCaptureFixture) -> None:
    taker.issuer.status = 503
    with caplog.at_level(logging.INFO, "dragoman.identity"):
        for _ in range(3):
            await taker.keys.read()
        taker.issuer.status = 200
        await taker.keys.read()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "HTTP 503" in caplog.records[0].getMessage()


async def test_nobody_listens(taker: Taker, ec_key: SigningKey) -> None:
    tokens = taker.configure(jwks_url="http://127.0.0.1:1/jwks")
    with pytest.raises(Unavailable):
        await tokens.authenticate(taker.issuer.token(ec_key))


async def test_started_it_reads_by_itself_and_ends_when_it_is_stopped(taker: Taker, ec_key: SigningKey) -> None:
    taker.configure(refresh=0.01)
    taker.keys.start()
    async with asyncio.timeout(5):
        while len(taker.issuer.asked) < 6:
            await asyncio.sleep(0.005)
    await taker.keys.stop()
    asked = len(taker.issuer.asked)
    await asyncio.sleep(0.05)
    assert len(taker.issuer.asked) == asked
    assert taker.keys.known(ec_key.kid, "ES256") is not None


# --- which places may be asked ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "allowed", "trusted"),
    [
        ("https://issuer.example.com/realm", (), True),
        ("https://keycloak.internal/realm", (), True),
        ("https://10.0.0.7:8443", (), True),
        ("http://keycloak.internal:8080", (), False),
        ("http://keycloak.internal:8080", (("keycloak.internal", 8080),), True),
        ("ftp://issuer.example.com", (), False),
        ("issuer.example.com", (), False),
        ("https://user:word@issuer.example.com", (), False),
        ("https://issuer.example.com/keys?p=policy", (), True),
    ],
)
def test_the_operator_names_https_places_anywhere_and_http_ones_that_are_allowed(
    url: str, allowed: tuple[tuple[str, int], ...], trusted: bool
) -> None:
    policy = EndpointPolicy(frozenset(allowed))
    if trusted:
        trusting(policy, url).check_url(url.partition("?")[0])
    else:
        with pytest.raises(InvalidRequest):
            trusting(policy, url)


async def test_what_the_issuer_names_itself_must_be_public_or_at_the_issuers_own_place() -> None:
    policy = trusting(EndpointPolicy(), "https://keycloak.internal")
    transport = HttpTransport(GuardedResolver(policy))
    documents: Any = HttpDocuments(transport, policy)
    for url in ("https://10.0.0.8/jwks", "http://keycloak.internal/jwks", "https://localhost/jwks"):
        with pytest.raises(Unavailable):
            await documents.get(url)
    await transport.aclose()
