"""Tokens of an issuer beside keys, through Envoy and by gRPC: whose they are, what they may, an issuer that is down."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest

from dragoman.v1 import model_service_pb2
from server.core.secret import Secret
from tests.e2e.errors import detail, error_of
from tests.e2e.stack import FOREIGN, OWN, Stack, running_stack
from tests.e2e.test_access import CALLERS, SURFACES, status_of
from tests.support.issuer import AUDIENCE, Issuer, SigningKey, serving

pytestmark = pytest.mark.e2e

GENERATE = "/api/v1/ai/llm/generate"


@contextmanager
def running_issuer(issuer: Issuer) -> Iterator[Issuer]:
    """The issuer, on a loop of its own beside the test's."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    server = serving(issuer)
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
        yield issuer
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey("rsa-1", "RS256")


@pytest.fixture(scope="module")
def issuer(key: SigningKey) -> Iterator[Issuer]:
    with running_issuer(Issuer(key)) as it:
        yield it


def oidc(issuer: Issuer) -> dict[str, str]:
    """The server's settings for it."""
    return {
        "oidc_issuer": issuer.url,
        "oidc_audience": AUDIENCE,
        "oidc_roles": "gateway-guest=viewer,gateway-user=member,gateway-admin=admin,gateway-owner=org_admin",
        "oidc_organisation": "org_1",
    }


@pytest.fixture(scope="module")
def trusting(issuer: Issuer, shared_database_url: Secret, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway that takes the issuer's tokens."""
    with running_stack(
        tmp_path_factory.mktemp("oidc"),
        allowed=[f"127.0.0.1:{issuer.port}"],
        database_url=shared_database_url.reveal(),
        **oidc(issuer),
    ) as stack:
        yield stack


def bearer(issuer: Issuer, key: SigningKey, **claims: Any) -> dict[str, str]:
    """Headers with a token of the own workspace's user."""
    token = issuer.token(key, **({"workspace": OWN, "role": "gateway-user"} | claims))
    return {"authorization": f"Bearer {token}"}


def test_a_token_calls_models_of_its_workspace_and_keys_still_do(
    trusting: Stack, issuer: Issuer, key: SigningKey
) -> None:
    with trusting.rest(None) as client:
        for headers in (
            bearer(issuer, key),
            {"x-api-key": bearer(issuer, key)["authorization"][7:]},
            trusting.headers(),
        ):
            answer = client.post(GENERATE, json={"prompt": "hi"}, headers=headers)
            assert answer.status_code == 200, answer.text


BY_TOKEN: list[tuple[dict[str, Any], str | int]] = [
    ({"role": "gateway-guest"}, "viewer"),
    ({"role": "gateway-user"}, "member"),
    ({"role": "gateway-admin"}, "admin"),
    ({"role": "gateway-owner", "workspace": None}, "organisation"),
    ({"role": "gateway-admin", "workspace": FOREIGN}, "foreign"),
    ({"role": "gateway-admin", "workspace": "ws_none"}, 403),
    ({"role": "admin"}, 403),
    ({"role": "gateway-admin", "exp": 1}, 401),
    ({"role": "gateway-admin", "aud": "another"}, 401),
    ({"role": "gateway-admin", "iss": "https://another.test"}, 401),
]
"""Claims, and as which caller by key they end, or how they all do."""


@pytest.mark.parametrize(
    ("verb", "path", "body", "statuses"),
    SURFACES,
    ids=[f"{verb} {path.partition('?')[0]}" for verb, path, _, _ in SURFACES],
)
def test_each_surface_lets_in_by_token_whom_it_lets_in_by_key(
    trusting: Stack,
    issuer: Issuer,
    key: SigningKey,
    verb: str,
    path: str,
    body: dict[str, Any],
    statuses: tuple[int, ...],
) -> None:
    by_key: dict[str | None, int] = dict(zip(CALLERS, statuses, strict=True))
    public = by_key[None] == 200
    expected, found = [], []
    for claims, ends in BY_TOKEN:
        expected.append(200 if public else by_key[ends] if isinstance(ends, str) else ends)
        with trusting.rest(None) as client:
            client.headers.update(bearer(issuer, key, **claims))
            found.append(status_of(client, verb, path, body))
    assert found == expected


def test_role_and_workspace_of_a_token_bind_it(trusting: Stack, issuer: Issuer, key: SigningKey) -> None:
    config = {"name": "by-token", "aiType": "OPENAI", "workspaceId": OWN, "secret": "sk-canary-of-token-test"}
    with trusting.rest(None) as client:
        refused = client.post("/ai/llm", json=config, headers=bearer(issuer, key))
        error_of(refused, 403, "PERMISSION_DENIED")
        admin = bearer(issuer, key, role=["x", "gateway-admin"])
        refused = client.post("/ai/llm", json=config | {"workspaceId": FOREIGN}, headers=admin)
        error_of(refused, 403, "PERMISSION_DENIED")
        made = client.post("/ai/llm", json=config, headers=admin)
        assert made.status_code == 200, made.text
        listed = client.get("/ai/llm", params={"workspaceId": OWN}, headers=admin).json()["aiLlms"]
        assert [each["userId"] for each in listed if each["name"] == "by-token"] == ["jwt:alice"]
        error_of(
            client.get("/ai/llm", params={"workspaceId": OWN}, headers=bearer(issuer, key, role="x")),
            403,
            "PERMISSION_DENIED",
        )


@pytest.mark.parametrize("claims", [{"aud": "another"}, {"exp": 1}, {"iss": "https://another.test"}])
async def test_a_token_that_is_not_valid_is_401_and_nothing_says_why(
    trusting: Stack, issuer: Issuer, key: SigningKey, claims: dict[str, Any]
) -> None:
    headers = bearer(issuer, key, **claims)
    with trusting.rest(None) as client:
        error = error_of(client.post(GENERATE, json={"prompt": "hi"}, headers=headers), 401, "UNAUTHENTICATED")
    assert error["message"] == "The token is not valid."
    assert set(detail(error, "ErrorInfo")["metadata"]) == {"fault", "retryable", "action", "request_id"}
    async with trusting.grpc() as stubs:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.models.ListModels(model_service_pb2.ListModelsRequest(), metadata=tuple(headers.items()))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_tokens_are_in_no_log(trusting: Stack, issuer: Issuer, key: SigningKey) -> None:
    headers = bearer(issuer, key, sub="log-canary")
    with trusting.rest(None) as client:
        assert client.post(GENERATE, json={"prompt": "hi"}, headers=headers).status_code == 200
    # Lines are written behind the answers.
    trusting.server.wait_for_line('"key_id":"jwt:log-canary"')
    assert headers["authorization"].rpartition(".")[2] not in trusting.server.output


def test_a_server_that_never_saw_the_issuers_keys_says_unavailable_and_keys_still_work(
    tmp_path: Path, key: SigningKey
) -> None:
    with running_issuer(Issuer(key)) as issuer:
        issuer.status = 503
        running = running_stack(tmp_path, allowed=[f"127.0.0.1:{issuer.port}"], **oidc(issuer))
        with running as stack, stack.rest(None) as client:
            down = client.post(GENERATE, json={"prompt": "hi"}, headers=bearer(issuer, key))
            error_of(down, 503, "UNAVAILABLE")
            assert int(down.headers["retry-after"]) > 0
            assert client.post(GENERATE, json={"prompt": "hi"}, headers=stack.headers()).status_code == 200
