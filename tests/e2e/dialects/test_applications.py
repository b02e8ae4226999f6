"""What applications do with an SDK besides asking: many streams at once, time limits, retries, members of their own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.e2e.dialects.conftest import MODELS
from tests.e2e.stack import Stack
from tests.support.matrix import PROVIDERS
from tests.support.wires import WireServer
from tests.support.wires.embeddings import vector

pytestmark = pytest.mark.e2e

STREAMS = 100
COUNTED = " ".join(str(n) for n in range(50))


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


async def test_a_hundred_streams_of_openais_async_client(gateway: Stack, model: str) -> None:
    """Each stream of many is whole and its own."""

    async def one(client: openai.AsyncOpenAI) -> str:
        stream = await client.chat.completions.create(model=model, messages=[user("count")], stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    key = gateway.keys["member"]
    async with openai.AsyncOpenAI(base_url=f"{gateway.envoy.url}/v1", api_key=key, max_retries=0) as client:
        assert await asyncio.gather(*(one(client) for _ in range(STREAMS))) == [COUNTED] * STREAMS


async def test_a_hundred_streams_of_anthropics_async_client(gateway: Stack, model: str) -> None:
    """Each stream of many is whole and its own."""

    async def one(client: anthropic.AsyncAnthropic) -> str:
        async with client.messages.stream(model=model, max_tokens=99, messages=[user("count")]) as stream:
            return "".join([text async for text in stream.text_stream])

    key = gateway.keys["member"]
    async with anthropic.AsyncAnthropic(base_url=gateway.envoy.url, api_key=key, max_retries=0) as client:
        assert await asyncio.gather(*(one(client) for _ in range(STREAMS))) == [COUNTED] * STREAMS


@pytest.mark.parametrize("name", ["openai", "gemini", "bedrock"])
async def test_a_hundred_embeddings_of_openais_async_client(gateway: Stack, name: str) -> None:
    """Each call of many gets its own vectors, in order."""
    provider = PROVIDERS[name]

    async def one(client: openai.AsyncOpenAI, number: int) -> list[list[float]]:
        texts = ["x" * (number + 1), "two words"]
        found = await client.embeddings.create(model=f"{provider.slug}/{provider.embeds}", input=texts)
        return [item.embedding for item in found.data]

    key = gateway.keys["member"]
    async with openai.AsyncOpenAI(base_url=f"{gateway.envoy.url}/v1", api_key=key, max_retries=0) as client:
        answers = await asyncio.gather(*(one(client, number) for number in range(STREAMS)))
    assert answers == [[vector("x" * (number + 1)), vector("two words")] for number in range(STREAMS)]


def test_a_time_limit_of_the_application(
    openai_sdk: openai.OpenAI, anthropic_sdk: anthropic.Anthropic, wires: WireServer, model: str
) -> None:
    """An answer that takes longer than the application allows is the SDK's timeout, and the provider is left too."""
    with pytest.raises(openai.APITimeoutError):
        openai_sdk.with_options(timeout=0.5).chat.completions.create(model=model, messages=[user("silence")])
    assert wires.hangups.acquire(timeout=10)
    with pytest.raises(anthropic.APITimeoutError):
        anthropic_sdk.with_options(timeout=0.5).messages.create(model=model, max_tokens=9, messages=[user("silence")])
    assert wires.hangups.acquire(timeout=10)


@pytest.mark.parametrize(("status", "times"), [(500, 2), (400, 1), (401, 1)])
def test_retries_by_the_sdk(
    openai_sdk: openai.OpenAI, anthropic_sdk: anthropic.Anthropic, wires: WireServer, status: int, times: int
) -> None:
    """The SDKs try again what may succeed, and nothing else."""
    before = len(wires.seen)
    with pytest.raises(openai.APIStatusError):
        openai_sdk.with_options(max_retries=1).chat.completions.create(
            model=MODELS["gemini"], messages=[user(f"fail {status}")]
        )
    assert len(wires.seen) - before == times
    before = len(wires.seen)
    with pytest.raises(anthropic.APIStatusError):
        anthropic_sdk.with_options(max_retries=1).messages.create(
            model=MODELS["gemini"], max_tokens=9, messages=[user(f"fail {status}")]
        )
    assert len(wires.seen) - before == times


# --- members that the gateway has no use for --------------------------------------------------------------------------


def test_openais_unknown_members_reach_a_provider_of_the_wire(openai_sdk: openai.OpenAI, wires: WireServer) -> None:
    """At the top, in messages, in parts and in tools: each arrives in its place, as it was."""
    part = {"type": "text", "text": "hello", "weight": 0.25}
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {}, "examples": [1]}, "lane": "fast"}
    openai_sdk.chat.completions.create(
        model=MODELS["chat"],
        messages=[{"role": "system", "content": "x", "tag": "s"}, user([part])],  # type: ignore[list-item]
        tools=[tool],
        logit_bias={"50256": -100},
        extra_body={"safety_model": {"name": "guard", "level": 3}},
    )
    body = wires.last
    assert body["logit_bias"] == {"50256": -100}
    assert body["safety_model"] == {"name": "guard", "level": 3}
    assert body["messages"][0]["tag"] == "s"
    assert body["messages"][1]["content"] == [part]
    assert (body["tools"][0]["lane"], body["tools"][0]["function"]["examples"]) == ("fast", [1])


def test_anthropics_unknown_members_reach_a_provider_of_the_wire(
    anthropic_sdk: anthropic.Anthropic, wires: WireServer
) -> None:
    """The same for Anthropic, with the betas of the header, and effort without thinking as it was asked for."""
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}, "context": "c"}
    tool: Any = {"name": "f", "input_schema": {"type": "object"}, "defer_loading": True}
    anthropic_sdk.messages.create(
        model=MODELS["anthropic"],
        max_tokens=99,
        messages=[user([document, {"type": "text", "text": "hello"}])],
        tools=[tool],
        output_config={"effort": "low"},
        service_tier="standard_only",
        extra_headers={"anthropic-beta": "one-2026-01-01,two-2026-02-02"},
    )
    _, headers, body = wires.seen[-1]
    assert body["service_tier"] == "standard_only"
    assert body["messages"][0]["content"][0]["context"] == "c"
    assert body["tools"][0]["defer_loading"] is True
    assert body["output_config"] == {"effort": "low"}
    assert "thinking" not in body
    assert "betas" not in body
    assert headers["anthropic-beta"] == "one-2026-01-01,two-2026-02-02"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_unknown_members_are_told_where_they_cannot_go(gateway: Stack, streamed: bool) -> None:
    """A provider of another wire is not asked, and the caller is told by header and in the answer."""
    body = {"model": MODELS["gemini"], "messages": [user("hello")], "logit_bias": {"1": 1}, "stream": streamed}
    with gateway.rest() as client:
        response = client.post("/v1/chat/completions", json=body)
    assert response.headers["x-dragoman-warning"] == "parameter_stripped logit_bias"
    if streamed:
        assert response.headers["content-type"].startswith("text/event-stream")
        *_, last, done = response.text.strip().split("\n\n")
        assert done == "data: [DONE]"
        answer = json.loads(last.removeprefix("data: "))
    else:
        answer = response.json()
    assert [one["parameter"] for one in answer["x_dragoman"]["warnings"]] == ["logit_bias"]


def test_what_a_server_of_the_wire_says_beyond_it_arrives(
    openai_sdk: openai.OpenAI, anthropic_sdk: anthropic.Anthropic
) -> None:
    """Members of chunks, choices, messages, and whole events that nobody knows; whole and streamed."""
    ask: Any = {"model": MODELS["chat"], "messages": [user("beyond")]}
    answer: Any = openai_sdk.chat.completions.create(**ask)
    assert answer.unheard_of == answer.choices[0].unheard_of == answer.choices[0].message.unheard_of == {"a": 1}
    chunks: list[Any] = list(openai_sdk.chat.completions.create(**ask, stream=True))
    assert {"a": 1} in [getattr(chunk, "unheard_of", None) for chunk in chunks]
    assert {"a": 1} in [getattr(chunk.choices[0].delta, "unheard_of", None) for chunk in chunks]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello"
    ask = {"model": MODELS["anthropic"], "max_tokens": 9, "messages": [user("beyond")]}
    message: Any = anthropic_sdk.messages.create(**ask)
    assert message.unheard_of == {"a": 1}
    raw = anthropic_sdk.messages.with_raw_response.create(**ask, stream=True).http_response.read().decode()
    assert 'event: unheard_of\ndata: {"type":"unheard_of","unheard_of":{"a":1}}\n\n' in raw
    assert '"type":"message_delta","delta":{"unheard_of":{"a":1},' in raw


def test_what_another_wire_says_beyond_it_does_not(openai_sdk: openai.OpenAI) -> None:
    """It would mean nothing there."""
    answer = openai_sdk.chat.completions.create(model=MODELS["anthropic"], messages=[user("beyond")])
    assert "unheard_of" not in answer.to_dict()


# --- both dialects on one listener ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/chat/completions", 405), ("HEAD", "/v1/messages", 405), ("POST", "/v1/nothing", 404)],
)
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_the_proxys_own_refusals(gateway: Stack, dialect: str, method: str, path: str, status: int) -> None:
    """What no server hears of is refused in the dialect too: by path, and by Anthropic's header elsewhere."""
    headers = {"anthropic-version": "2023-06-01"} if dialect == "anthropic" else {}
    with gateway.rest() as client:
        response = client.request(method, path, headers=headers)
    assert response.status_code == status
    if method != "HEAD":
        error(response, dialect)


def error(response: httpx.Response, dialect: str) -> dict[str, Any]:
    """The error in a body of the dialect."""
    body: dict[str, Any] = response.json()
    assert body["error"]["message"]
    if dialect == "openai":
        assert set(body) == {"error"}
        assert {"message", "type", "param", "code"} <= set(body["error"])
    else:
        assert (body["type"], body["request_id"]) == ("error", response.headers["request-id"])
    return body["error"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(("path", "dialect"), [("/v1/chat/completions", "openai"), ("/v1/messages", "anthropic")])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"messages": 5}', b"\xff\xfe", b"[" * 100_000])
def test_bad_bodies(gateway: Stack, path: str, dialect: str, content: bytes) -> None:
    """Anything that is no request is a 400 that says so and quotes nothing."""
    with gateway.rest() as client:
        response = client.post(path, content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert error(response, dialect)["type"] == "invalid_request_error"


@pytest.mark.parametrize(("path", "dialect"), [("/v1/chat/completions", "openai"), ("/v1/messages", "anthropic")])
def test_a_body_that_is_too_large(gateway: Stack, path: str, dialect: str) -> None:
    """413, in the dialect, before the server hears of it."""
    with gateway.rest() as client:
        response = client.post(path, content=b" " * (20 * 1024 * 1024 + 1))
    assert response.status_code == 413
    error(response, dialect)


def test_headers_that_are_too_large(openai_sdk: openai.OpenAI, anthropic_sdk: anthropic.Anthropic) -> None:
    """431 by its status in both SDKs. The proxy does not know the path yet, and so the API: its body is the general
    one."""
    headers = {"x-long": "x" * 70_000}
    ask: Any = {"model": MODELS["chat"], "messages": [user("hello")], "extra_headers": headers}
    with pytest.raises(openai.APIStatusError) as by_openai:
        openai_sdk.chat.completions.create(**ask)
    with pytest.raises(anthropic.APIStatusError) as by_anthropic:
        anthropic_sdk.messages.create(**ask, max_tokens=9)
    for caught in (by_openai.value, by_anthropic.value):
        assert caught.status_code == 431
        assert caught.response.json()["details"][0]["reason"] == "HEADERS_TOO_LARGE"
        assert "the headers are larger" in str(caught)


def test_keys_by_either_header(gateway: Stack) -> None:
    """Both headers are taken by both dialects, and a viewer may list and not ask."""
    key = gateway.keys["viewer"]
    with httpx.Client(base_url=gateway.envoy.url) as client:
        for headers in ({"x-api-key": key}, {"authorization": f"Bearer {key}"}):
            assert client.get("/v1/models", headers=headers).status_code == 200
            body = {"model": MODELS["chat"], "messages": [user("hello")]}
            response = client.post("/v1/chat/completions", json=body, headers=headers)
            assert response.status_code == 403
            assert error(response, "openai")["type"] == "permission_error"
        assert client.get("/v1/models").status_code == 401


def test_an_organisation_key_names_its_workspace_as_the_sdk_does(gateway: Stack) -> None:
    """OpenAI's `project` is the workspace for a key that has none; a workspace's own key does not mind it."""
    url = f"{gateway.envoy.url}/v1"
    with openai.OpenAI(base_url=url, api_key=gateway.keys["organisation"], project="ws_own", max_retries=0) as client:
        assert client.models.list().data
    with openai.OpenAI(base_url=url, api_key=gateway.keys["member"], project="proj_x", max_retries=0) as client:
        assert client.models.list().data
    with (
        openai.OpenAI(base_url=url, api_key=gateway.keys["organisation"], max_retries=0) as client,
        pytest.raises(openai.BadRequestError, match="workspace"),
    ):
        client.models.list()
