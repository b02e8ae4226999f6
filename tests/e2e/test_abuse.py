"""Limits against abuse, through Envoy and by gRPC: failed authentications of an address, calls in flight of a key or a
workspace, and how much of each thing there may be. On both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import grpc
import httpx
import pytest

from dragoman.v1 import chat_pb2 as pb
from dragoman.v1 import model_service_pb2
from dragoman.v1.llm_service_pb2_grpc import LLMServiceStub
from server.core.caller_key import KEY_ENTROPY_BYTES, caller_key
from server.core.secret import Secret
from tests.e2e.errors import detail, error_of
from tests.e2e.stack import FOREIGN, Stack, running_stack

pytestmark = pytest.mark.e2e

MOST_FAILURES, PER_KEY, PER_WORKSPACE, MOST = 3, 2, 4, 6
MOST_BYTES = 100_000
WRONG = caller_key(b"w" * KEY_ENTROPY_BYTES).reveal()
LIST = "/api/v1/ai/models"


@pytest.fixture(scope="module")
def strict(shared_database_url: Secret, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway with low limits."""
    with running_stack(
        tmp_path_factory.mktemp("strict"),
        database_url=shared_database_url.reveal(),
        max_failed_authentications=str(MOST_FAILURES),
        failed_authentications_seconds="3600",
        max_calls_in_flight_per_key=str(PER_KEY),
        max_calls_in_flight_per_workspace=str(PER_WORKSPACE),
        max_configs_per_workspace=str(MOST),
        max_keys_per_workspace=str(MOST),
        max_workspaces_per_organisation=str(MOST),
        max_message_bytes=str(MOST_BYTES),
    ) as it:
        yield it


@pytest.mark.parametrize("proxied", [True, False], ids=["through Envoy", "directly"])
@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip], ids=["plain", "gzip"])
async def test_a_message_over_the_limit_is_refused_as_it_is_and_compressed(
    strict: Stack, proxied: bool, compression: grpc.Compression
) -> None:
    """A zip bomb counts by what it unpacks to. The server goes on: a message within the limit passes."""
    target = strict.envoy.target if proxied else f"127.0.0.1:{strict.port}"
    async with grpc.aio.insecure_channel(target, compression=compression) as channel:
        stub = LLMServiceStub(channel)

        async def complete(size: int) -> pb.ChatResponse:
            request = pb.ChatRequest(messages=[pb.Message(role="user", content="x" * size)])
            answer: pb.ChatResponse = await stub.Complete(request, metadata=strict.metadata(), timeout=20)
            return answer

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await complete(MOST_BYTES + 1)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await complete(MOST_BYTES // 2)).finish_reason == "stop"


@pytest.mark.parametrize("proxied", [True, False], ids=["through Envoy", "directly"])
async def test_bytes_that_are_no_message_are_the_callers_fault(strict: Stack, proxied: bool) -> None:
    target = strict.envoy.target if proxied else f"127.0.0.1:{strict.port}"
    async with grpc.aio.insecure_channel(target) as channel:
        complete: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/dragoman.v1.LLMService/Complete"
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await complete(b"\xff", metadata=strict.metadata(), timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_address_that_guesses_keys_has_to_wait_while_valid_keys_pass_from_it(strict: Stack) -> None:
    """Whatever the caller writes into headers that speak of addresses: only the proxy is believed."""
    with strict.rest(None) as client:

        def guess(number: int) -> httpx.Response:
            lies = {
                "x-forwarded-for": f"198.51.100.{number}",
                "x-envoy-external-address": f"198.51.100.{number}",
                "x-dragoman-transport": "rest",
            }
            return client.get(LIST, headers={"x-api-key": WRONG, **lies})

        responses = [guess(number) for number in range(MOST_FAILURES + 3)]
        assert [response.status_code for response in responses] == [401] * MOST_FAILURES + [429] * 3
        response = responses[-1]
        error = error_of(response, 429, "RESOURCE_EXHAUSTED")
        told = detail(error, "ErrorInfo")
        assert told["reason"] == "LIMIT_EXCEEDED"
        assert told["metadata"]["limit"] == "failed_authentications_per_address"
        assert 0 < int(response.headers["retry-after"]) <= 3600 / MOST_FAILURES
        assert WRONG not in response.text
        assert client.get(LIST, headers=strict.headers()).status_code == 200
        assert client.get(LIST).status_code == 401, "no key is no guess"


async def test_a_direct_caller_that_guesses_has_to_wait_too(strict: Stack) -> None:
    async with strict.grpc() as stubs:
        codes = []
        for _ in range(MOST_FAILURES + 1):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stubs.models.ListModels(model_service_pb2.ListModelsRequest(), metadata=[("x-api-key", WRONG)])
            codes.append(caught.value.code())
        assert codes[-1] is grpc.StatusCode.RESOURCE_EXHAUSTED
        answer = await stubs.models.ListModels(model_service_pb2.ListModelsRequest(), metadata=strict.metadata())
        assert answer.data


async def test_a_key_has_its_most_calls_in_flight_and_hanging_up_makes_room(strict: Stack) -> None:
    endless = pb.ChatRequest(model="custom/demo-endless", messages=[pb.Message(role="user", content="hi")])
    body = {"model": "custom/demo-chat", "messages": [{"role": "user", "content": "hi"}]}
    async with strict.grpc() as stubs, httpx.AsyncClient(base_url=strict.envoy.url, timeout=30) as client:
        running = [stubs.llm.Chat(endless, metadata=strict.metadata()) for _ in range(PER_KEY)]
        for call in running:
            await call.read()
        refused = await client.post("/api/v1/ai/llm/chat", json=body, headers=strict.headers())
        error = error_of(refused, 429, "RESOURCE_EXHAUSTED")
        assert detail(error, "ErrorInfo")["metadata"]["limit"] == "calls_in_flight_per_key"
        assert refused.headers["retry-after"] == "1"
        other = await client.post("/api/v1/ai/llm/chat", json=body, headers=strict.headers("admin"))
        assert other.status_code == 200
        for call in running:
            call.cancel()
        async with asyncio.timeout(10):
            while (await client.post("/api/v1/ai/llm/chat", json=body, headers=strict.headers())).status_code != 200:
                await asyncio.sleep(0.02)


async def test_the_keys_of_a_workspace_share_its_most_calls_in_flight(strict: Stack) -> None:
    """Another workspace is not touched by that."""
    endless = pb.ChatRequest(model="custom/demo-endless", messages=[pb.Message(role="user", content="hi")])
    async with strict.grpc() as stubs, httpx.AsyncClient(base_url=strict.envoy.url, timeout=30) as client:
        body = {"role": "member", "name": "one more"}
        made = (await client.post("/api/v1/access/keys", json=body, headers=strict.headers("admin"))).json()
        running = [stubs.llm.Chat(endless, metadata=strict.metadata(who)) for who in ("member", "admin") * PER_KEY]
        assert len(running) == PER_WORKSPACE
        for call in running:
            await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.llm.Complete(endless, metadata=(("x-api-key", made["secret"]),))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        chat = {"model": "custom/demo-chat", "messages": [{"role": "user", "content": "hi"}]}
        refused = await client.post("/api/v1/ai/llm/chat", json=chat, headers={"x-api-key": made["secret"]})
        error = error_of(refused, 429, "RESOURCE_EXHAUSTED")
        assert detail(error, "ErrorInfo")["metadata"]["limit"] == "calls_in_flight_per_workspace"
        foreign = await client.get("/api/v1/ai/models", headers=strict.headers("foreign"))
        assert foreign.status_code == 200
        for call in running:
            call.cancel()
        revoke = f"/api/v1/access/keys/{made['key']['id']}/revoke"
        await client.post(revoke, headers=strict.headers("admin"))
        async with asyncio.timeout(10):
            while (await client.post("/api/v1/ai/llm/chat", json=chat, headers=strict.headers())).status_code != 200:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("who", "path", "body", "limit"),
    [
        ("foreign", "/ai/llm", {"aiType": "OPENAI", "workspaceId": FOREIGN}, "configs_per_workspace"),
        ("foreign", "/api/v1/access/keys", {"role": "viewer"}, "keys"),
        ("organisation", "/api/v1/access/workspaces", {}, "workspaces_per_organisation"),
    ],
)
def test_there_is_a_most_of_each_thing(strict: Stack, who: str, path: str, body: dict[str, str], limit: str) -> None:
    """The refusal says which limit it is, and one that is refused counts for nothing."""
    with strict.rest(who) as client:
        responses = [client.post(path, json={**body, "name": f"{limit} {count}"}) for count in range(MOST + 2)]
        made = [response.status_code for response in responses].count(200)
        assert [response.status_code for response in responses] == [200] * made + [429] * (MOST + 2 - made)
        assert 0 < made <= MOST
        for response in responses[made:]:
            error = error_of(response, 429, "RESOURCE_EXHAUSTED")
            assert detail(error, "ErrorInfo")["metadata"]["limit"] == limit
