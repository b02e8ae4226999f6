"""Embeddings through the real Envoy: by gRPC, by REST in Runflow's form, and by OpenAI's own SDK, on each wire."""

from __future__ import annotations

import asyncio
import json
import math
import struct
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import httpx
import openai
import pytest
import pytest_asyncio

from dragoman.v1 import embedding_pb2 as pb
from dragoman.v1.llm_service_pb2_grpc import LLMServiceStub
from server.dev.demo.embeddings import unit_vector
from tests.e2e.stack import OWN, Stack, running_stack
from tests.support.ports import free_port
from tests.support.scripted import Reply, ScriptedProvider

pytestmark = pytest.mark.e2e

PATH = "/api/v1/runtime/v1/embeddings"
MODEL = "custom/demo-embedding"
TEXTS = ["The dragoman translates.", "grüezi 👋"]


def near(found: list[float], wanted: list[float]) -> bool:
    """Equal as 32-bit floats are."""
    return len(found) == len(wanted) and all(
        math.isclose(*pair, abs_tol=1e-7) for pair in zip(found, wanted, strict=True)
    )


@pytest.fixture
def sdk(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.envoy.url}/v1", api_key=stack.keys["member"], max_retries=0) as one:
        yield one


# --- against the demo provider ----------------------------------------------------------------------------------------


def test_runflows_form(stack: Stack) -> None:
    """input, model, provider, providerName and dimensions, as documented; vectors in the order of the input."""
    body = {
        "projectId": OWN,
        "input": TEXTS,
        "model": "demo-embedding",
        "provider": "CUSTOM",
        "providerName": "demo",
        "dimensions": 8,
    }
    with stack.rest() as rest:
        answer = rest.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["model"], found["provider"]) == ("demo-embedding", "custom")
    assert found["usage"]["promptTokens"] == found["usage"]["totalTokens"] > 0
    assert [one["index"] for one in found["embeddings"]] == [0, 1]
    for text, one in zip(TEXTS, found["embeddings"], strict=True):
        assert near(one["values"], unit_vector(text, 8))


@pytest.mark.parametrize("through_envoy", [False, True])
def test_grpc(stack: Stack, through_envoy: bool) -> None:
    address = stack.envoy.url.removeprefix("http://") if through_envoy else f"127.0.0.1:{stack.port}"
    with grpc.insecure_channel(address) as channel:
        request = pb.EmbedRequest(input=TEXTS, model=MODEL, dimensions=8)
        answer = LLMServiceStub(channel).Embed(request, metadata=stack.metadata())
    for text, one in zip(TEXTS, answer.embeddings, strict=True):
        assert near(list(one.values), unit_vector(text, 8))


@pytest.mark.parametrize(
    ("body", "status", "reason", "field"),
    [
        ({"model": MODEL}, 400, "INVALID_REQUEST", "input"),
        ({"model": MODEL, "input": ["x", ""]}, 400, "INVALID_REQUEST", "input[1]"),
        ({"model": MODEL, "input": ["x"], "inputs": []}, 400, "INVALID_REQUEST", "inputs"),
        ({"model": "custom/demo-chat", "input": ["x"]}, 404, "PROVIDER_MODEL_NOT_FOUND", None),
        ({"model": MODEL, "input": ["x"], "dimensions": 9999}, 400, "PROVIDER_INVALID_REQUEST", None),
    ],
)
def test_errors_are_the_houses_own(
    stack: Stack, body: dict[str, Any], status: int, reason: str, field: str | None
) -> None:
    with stack.rest() as rest:
        answer = rest.post(PATH, json=body)
    found = answer.json()
    assert (answer.status_code, found["success"]) == (status, False), answer.text
    details = {detail["@type"].rpartition(".")[2]: detail for detail in found["details"]}
    assert details["ErrorInfo"]["reason"] == reason
    if field is not None:
        assert [violation["field"] for violation in details["BadRequest"]["fieldViolations"]] == [field]


def test_roles(stack: Stack) -> None:
    """A viewer and a stranger may not, whichever way they ask."""
    for key, status in ((None, 401), ("viewer", 403), ("foreign", 403)):
        with stack.rest(key) as rest:
            assert rest.post(PATH, json={"projectId": OWN, "model": MODEL, "input": ["x"]}).status_code == status
            if key != "foreign":
                assert rest.post("/v1/embeddings", json={"model": MODEL, "input": "x"}).status_code == status


@pytest.mark.parametrize("format", [None, "float", "base64"])
def test_openais_sdk(sdk: openai.OpenAI, format: Any) -> None:
    """The SDK gives numbers unless base64 was asked of it, in which case it hands the text over as it is."""
    more: dict[str, Any] = {"encoding_format": format} if format else {}
    answer = sdk.embeddings.create(model=MODEL, input=TEXTS, dimensions=8, **more)
    assert answer.object == "list"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
    assert [one.index for one in answer.data] == [0, 1]
    for text, one in zip(TEXTS, answer.data, strict=True):
        values: Any = one.embedding
        if format == "base64":
            values = list(struct.unpack("<8f", b64decode(values)))
        assert near(values, unit_vector(text, 8))


def test_openais_sdk_gets_its_own_errors(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        sdk.embeddings.create(model=MODEL, input=["x", ""])
    assert bad.value.param == "input[1]"
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.embeddings.create(model="no-such-model", input="x")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        sdk.with_options(api_key="sk-nonsense").embeddings.create(model=MODEL, input="x")


# --- on the other wires -----------------------------------------------------------------------------------------------

ONE, TWO = [0.5, -1.0], [0.25, 2.0]
SECRET = "sk-canary-embeddings-0123456789"


@pytest.fixture(scope="module")
def peer_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def peers(peer_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway whose configurations of every kind call one address."""
    with running_stack(tmp_path_factory.mktemp("peers"), allowed=[f"127.0.0.1:{peer_port}"]) as it:
        endpoint = f"http://127.0.0.1:{peer_port}"
        with it.rest("admin") as rest:
            for ai_type, more in (
                ("OPENAI", {"endpoint": f"{endpoint}/v1"}),
                ("GOOGLE", {"endpoint": endpoint}),
                ("AWS", {"endpoint": endpoint, "key": "AKIACANARY0123456789"}),
                ("ANTHROPIC", {"endpoint": endpoint}),
            ):
                body = {
                    "name": ai_type,
                    "aiType": ai_type,
                    "workspaceId": OWN,
                    "secret": SECRET,
                    **more,
                }
                assert rest.post("/ai/llm", json=body).status_code == 200
        yield it


@pytest_asyncio.fixture
async def peer(peer_port: int) -> AsyncIterator[ScriptedProvider]:
    provider = ScriptedProvider()
    await provider.start(peer_port)
    yield provider
    await provider.stop()


def _json(value: object, **headers: str) -> Reply:
    return Reply([json.dumps(value).encode()], headers={"content-type": "application/json", **headers})


OPENAI_ANSWER = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [
        {"object": "embedding", "index": 0, "embedding": "AAAAPwAAgL8="},
        {"object": "embedding", "index": 1, "embedding": "AACAPgAAAEA="},
    ],
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}
ROWS: list[tuple[str, list[Reply], str]] = [
    ("openai/text-embedding-3-small", [_json(OPENAI_ANSWER)], "/v1/embeddings"),
    (
        "gemini/gemini-embedding-001",
        [_json({"embeddings": [{"values": ONE}, {"values": TWO}], "usageMetadata": {"promptTokenCount": 4}})],
        "/v1beta/models/gemini-embedding-001:batchEmbedContents",
    ),
    (
        "bedrock/amazon.titan-embed-text-v2:0",
        [_json({"embedding": one, "inputTextTokenCount": 2}) for one in (ONE, ONE)],
        "/model/amazon.titan-embed-text-v2%3A0/invoke",
    ),
    (
        "bedrock/cohere.embed-v4:0",
        [_json({"embeddings": {"float": [ONE, TWO]}}, **{"x-amzn-bedrock-input-token-count": "4"})],
        "/model/cohere.embed-v4%3A0/invoke",
    ),
]


@pytest.mark.parametrize(("model", "replies", "path"), ROWS, ids=[row[0] for row in ROWS])
@pytest.mark.parametrize("way", ["rest", "sdk"])
async def test_every_wire(
    peers: Stack, peer: ScriptedProvider, model: str, replies: list[Reply], path: str, way: str
) -> None:
    """The same vectors and counts by REST and by OpenAI's SDK, whichever provider serves."""
    peer.reply(*replies)
    if way == "rest":
        async with httpx.AsyncClient(base_url=peers.envoy.url, headers=peers.headers(), timeout=30) as client:
            response = await client.post(PATH, json={"model": model, "input": TEXTS})
        assert response.status_code == 200, response.text
        found = response.json()
        vectors, tokens = [one["values"] for one in found["embeddings"]], found["usage"]["promptTokens"]
    else:
        async with openai.AsyncOpenAI(
            base_url=f"{peers.envoy.url}/v1", api_key=peers.keys["member"], max_retries=0
        ) as client:
            answer = await client.embeddings.create(model=model, input=TEXTS)
        vectors, tokens = [one.embedding for one in answer.data], answer.usage.prompt_tokens
    # Two requests of one call arrive in either order: both are answered alike.
    assert vectors == ([ONE, ONE] if len(replies) > 1 else [ONE, TWO])
    assert tokens == 4
    assert [exchange.path for exchange in peer.exchanges] == [path] * len(replies)


async def test_a_large_answer_arrives_whole(peers: Stack, peer: ScriptedProvider) -> None:
    """As many numbers as a call may ask of OpenAI's largest model: 25 MB as they are, 80 MB as JSON."""
    vector = b64encode(struct.pack("<3072f", *range(3072))).decode()
    data = [{"object": "embedding", "index": at, "embedding": vector} for at in range(2048)]
    peer.reply(*(_json(OPENAI_ANSWER | {"data": data}) for _ in range(2)))
    call = {"model": "openai/text-embedding-3-large", "input": ["x"] * 2048}
    async with httpx.AsyncClient(base_url=peers.envoy.url, headers=peers.headers(), timeout=60) as client:
        plain = await client.post(PATH, json=call)
        packed = await client.post("/v1/embeddings", json=call | {"encoding_format": "base64"})
    assert plain.status_code == packed.status_code == 200
    assert {tuple(one["values"]) for one in plain.json()["embeddings"]} == {tuple(range(3072))}
    assert packed.json()["data"] == data


async def test_what_was_decided_for_the_caller_is_told_in_a_header(peers: Stack, peer: ScriptedProvider) -> None:
    peer.reply(_json({"embeddings": {"float": [ONE]}}))
    async with httpx.AsyncClient(base_url=peers.envoy.url, headers=peers.headers(), timeout=30) as client:
        response = await client.post("/v1/embeddings", json={"model": "bedrock/cohere.embed-v4:0", "input": "x"})
    assert response.headers["x-dragoman-warning"] == "parameter_approximated provider_options.input_type"
    assert response.json()["usage"] is None


async def test_tokens_go_to_openai_as_they_are_and_to_nobody_else(peers: Stack, peer: ScriptedProvider) -> None:
    """As frameworks send them that count tokens beforehand."""
    peer.reply(_json(OPENAI_ANSWER))
    async with openai.AsyncOpenAI(
        base_url=f"{peers.envoy.url}/v1", api_key=peers.keys["member"], max_retries=0
    ) as client:
        await client.embeddings.create(model="openai/text-embedding-3-small", input=[[1, 2], [3]])
        assert peer.exchanges[0].json()["input"] == [[1, 2], [3]]
        with pytest.raises(openai.BadRequestError) as refused:
            await client.embeddings.create(model="gemini/gemini-embedding-001", input=[[1, 2], [3]])
    assert (refused.value.param, refused.value.code) == ("input", "unsupported_parameter")
    assert len(peer.exchanges) == 1


async def test_a_provider_without_embeddings_is_said_to_have_none(peers: Stack, peer: ScriptedProvider) -> None:
    async with httpx.AsyncClient(base_url=peers.envoy.url, headers=peers.headers(), timeout=30) as client:
        response = await client.post(PATH, json={"model": "anthropic/embeds", "input": ["x"]})
    assert response.status_code == 400
    assert "anthropic makes no embeddings" in response.json()["message"]
    assert peer.exchanges == []


@pytest.mark.parametrize("path", [PATH, "/v1/embeddings"])
async def test_a_refusal_that_repeats_text_and_key_gives_neither_away(
    peers: Stack, peer: ScriptedProvider, path: str
) -> None:
    text = "canary text 4f1d that nobody but the provider may see"
    said = {"error": {"message": f"Bad input: {text} (key {SECRET})", "code": "x", "type": "invalid_request_error"}}
    peer.reply(Reply([json.dumps(said).encode()], status=400))
    async with httpx.AsyncClient(base_url=peers.envoy.url, headers=peers.headers(), timeout=30) as client:
        response = await client.post(path, json={"model": "openai/text-embedding-3-small", "input": [text]})
    assert response.status_code == 400
    log = (peers.home.parent / "server.log").read_text()
    for secret in ("canary text", SECRET):
        assert secret not in response.text
        assert secret not in log


async def test_calls_are_counted(peers: Stack, peer: ScriptedProvider, peer_port: int) -> None:
    """A call is one call, however many requests it took, and its tokens are the sum."""
    peer.reply(*(_json({"embedding": ONE, "inputTextTokenCount": 5}) for _ in range(3)))
    async with httpx.AsyncClient(base_url=peers.envoy.url, headers=peers.headers("admin"), timeout=30) as client:
        config = {"aiType": "AWS", "workspaceId": OWN, "endpoint": f"http://127.0.0.1:{peer_port}", "secret": SECRET}
        id = (await client.post("/ai/llm", json={"name": "counted", **config})).json()["aiLlmId"]
        call = {"model": "amazon.titan-embed-text-v2:0", "providerName": "counted", "input": ["a", "b", "c"]}
        assert (await client.post(PATH, json=call)).status_code == 200
        async with asyncio.timeout(15):
            while True:  # counts are written at intervals
                (stats,) = (await client.get("/ai/llm/stats", params={"aiLlmId": id})).json()["stats"]
                if stats["totalApiCalls"] != "0":
                    break
                await asyncio.sleep(0.05)
    assert (stats["totalApiCalls"], stats["totalTokensIn"], stats["totalTokensOut"]) == ("1", "15", "0")
