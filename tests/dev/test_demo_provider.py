"""The demo provider answers as Chat Completions says, the same thing every time, unary and streamed."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from server.dev.demo.scenarios import EMBEDDING_MODEL, ROWS
from server.dev.demo.tokens import count_tokens, split_tokens
from server.dev.demo_provider import DEFAULT_API_KEY, DemoServer, start

ASK = [{"role": "user", "content": "What is the weather in Łódź 🌦 today?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "read_clock"}}
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\x0dIHDR" + struct.pack(">II", 640, 480) + b"\x08\x02\x00\x00\x00"


@pytest_asyncio.fixture
async def client(demo_provider: DemoServer) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {demo_provider.api_key}"}
    async with httpx.AsyncClient(base_url=demo_provider.base_url, headers=headers, timeout=10) as client:
        yield client


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "demo-chat", "messages": ASK, **fields}


async def unary(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    response = await client.post("/chat/completions", json=body(**fields))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def streamed(client: httpx.AsyncClient, **fields: Any) -> list[dict[str, Any]]:
    asked = {"stream": True, "stream_options": {"include_usage": True}, **fields}
    response = await client.post("/chat/completions", json=body(**asked))
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert events.pop() == "[DONE]"
    return [json.loads(event) for event in events]


def folded(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The unary message that a stream amounts to."""
    message: dict[str, Any] = {}
    calls: dict[int, dict[str, Any]] = {}
    finish = None
    for chunk in chunks:
        for choice in chunk["choices"]:
            finish = choice["finish_reason"] or finish
            for key, value in choice["delta"].items():
                if key == "tool_calls":
                    for call in value:
                        whole = calls.setdefault(
                            call["index"], call | {"function": call["function"] | {"arguments": ""}}
                        )
                        whole["function"]["arguments"] += call["function"]["arguments"]
                elif isinstance(value, str) and key != "role":
                    message[key] = (message.get(key) or "") + value
                else:
                    message[key] = message.get(key) or value
    if calls:
        message["tool_calls"] = [{k: v for k, v in calls[at].items() if k != "index"} for at in sorted(calls)]
    return {"message": message, "finish_reason": finish}


SAME = {
    "plain": {},
    "reasoning": {"model": "demo-reasoner"},
    "reasoning cut": {"model": "demo-reasoner", "max_tokens": 5},
    "tool": {"tools": [WEATHER]},
    "parallel tools": {"model": "demo-tools", "tools": [WEATHER, CLOCK]},
    "arguments cut": {"tools": [WEATHER], "max_completion_tokens": 2},
    "named tool": {"tools": [WEATHER, CLOCK], "tool_choice": {"type": "function", "function": {"name": "read_clock"}}},
    "cut": {"max_tokens": 7},
    "stopped": {"stop": ["demo provider"]},
    "refusal": {"model": "demo-refusal"},
    "filtered": {"model": "demo-content-filter"},
    "json": {"response_format": {"type": "json_object"}},
    "slow": {"model": "demo-slow", "max_tokens": 3},
}


@pytest.mark.parametrize("fields", SAME.values(), ids=SAME)
async def test_a_stream_amounts_to_the_unary_answer(client: httpx.AsyncClient, fields: dict[str, Any]) -> None:
    """The same request streamed gives the same message, finish reason, usage and id."""
    whole = await unary(client, **fields)
    chunks = await streamed(client, **fields)
    expected = whole["choices"][0]
    got = folded(chunks)
    assert got["finish_reason"] == expected["finish_reason"]
    assert {k: v for k, v in got["message"].items() if v} == {k: v for k, v in expected["message"].items() if v}
    assert chunks[-1] == {**chunks[-1], "choices": [], "usage": whole["usage"]}
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert {chunk["id"] for chunk in chunks} == {whole["id"]}


async def test_usage_is_streamed_only_where_it_was_asked_for(client: httpx.AsyncClient) -> None:
    """Without include_usage no chunk has a usage field."""
    chunks = await streamed(client, stream_options=None)
    assert not any("usage" in chunk for chunk in chunks)


async def test_answers_are_the_same_until_the_seed_changes(client: httpx.AsyncClient) -> None:
    """Two equal requests get equal answers; seeds bring variety."""
    first, second = await unary(client), await unary(client)
    assert first["choices"] == second["choices"]
    assert first["id"] == second["id"]
    seeded = [(await unary(client, seed=seed))["choices"][0]["message"]["content"] for seed in range(12)]
    assert len(set(seeded)) > 1
    again = [(await unary(client, seed=seed))["choices"][0]["message"]["content"] for seed in range(12)]
    assert again == seeded


async def test_the_answer_says_what_was_asked_and_what_came_with_it(client: httpx.AsyncClient) -> None:
    """Question, images by size, tool results and the shape of the conversation are in the text."""
    uri = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [*_parts("Is it raining?"), {"type": "image_url", "image_url": {"url": uri}}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "pouring"},
    ]
    text = (await unary(client, messages=messages, tools=[WEATHER]))["choices"][0]["message"]["content"]
    for said in (
        "“Is it raining?”",
        f"image/png image of {len(PNG)} bytes, 640x480 pixels",
        "The tool get_weather answered: “pouring”",
        "4 messages (1 system, 1 user, 1 assistant, 1 tool)",
    ):
        assert said in text


def _parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


@pytest.mark.parametrize(
    "text", ["", "a", "  two  spaces\n\n", "Łódź 🌦!", "internationalisation", "a\u0301\u200d\U0001f469"]
)
def test_tokens_put_together_are_the_text(text: str) -> None:
    """The tokenizer loses nothing."""
    assert "".join(split_tokens(text)) == text


async def test_limits_are_honoured(client: httpx.AsyncClient) -> None:
    """max_tokens cuts at exactly that many tokens with finish length; stop cuts before the sequence with stop."""
    counted = [{"role": "user", "content": "Please count to 30"}]
    whole = await unary(client, messages=counted)
    assert whole["choices"][0]["message"]["content"] == " ".join(map(str, range(1, 31)))
    assert whole["usage"]["completion_tokens"] == count_tokens(whole["choices"][0]["message"]["content"])
    assert whole["usage"]["total_tokens"] == whole["usage"]["prompt_tokens"] + whole["usage"]["completion_tokens"]
    cut = await unary(client, messages=counted, max_tokens=4)
    assert cut["choices"][0]["message"]["content"] == "1 2 3 4"
    assert cut["choices"][0]["finish_reason"] == "length"
    assert cut["usage"]["completion_tokens"] == 4
    stopped = await unary(client, messages=counted, stop=["27", " 12"])
    assert stopped["choices"][0]["message"]["content"] == " ".join(map(str, range(1, 12)))
    assert stopped["choices"][0]["finish_reason"] == "stop"


async def test_repeat_after_me_is_verbatim(client: httpx.AsyncClient) -> None:
    """What follows `Repeat after me:` comes back unchanged."""
    text = " two  spaces\n\ttab “quotes” 🌦\u0000 end "
    answer = await unary(client, messages=[{"role": "user", "content": f"Repeat after me:{text}"}])
    assert answer["choices"][0]["message"]["content"] == text[1:]


TOOL_CHOICES: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "auto picks the tool the question names": ({}, ["get_weather"], "tool_calls"),
    "none": ({"tool_choice": "none"}, [], "stop"),
    "required": ({"tool_choice": "required"}, ["get_weather"], "tool_calls"),
    "named ends with stop, as OpenAI's does": (
        {"tool_choice": {"type": "function", "function": {"name": "read_clock"}}},
        ["read_clock"],
        "stop",
    ),
    "demo-tools calls all": ({"model": "demo-tools"}, ["get_weather", "read_clock"], "tool_calls"),
    "demo-tools calls one": ({"model": "demo-tools", "parallel_tool_calls": False}, ["get_weather"], "tool_calls"),
    "a single tool twice": ({"model": "demo-tools", "tools": [CLOCK]}, ["read_clock", "read_clock"], "tool_calls"),
}


@pytest.mark.parametrize(("fields", "names", "finish"), TOOL_CHOICES.values(), ids=TOOL_CHOICES)
async def test_tool_choice(client: httpx.AsyncClient, fields: dict[str, Any], names: list[str], finish: str) -> None:
    """The tools called are the ones that the choice and the question mean, each with arguments of its schema."""
    choice = (await unary(client, **{"tools": [WEATHER, CLOCK], **fields}))["choices"][0]
    calls = choice["message"].get("tool_calls", [])
    assert [call["function"]["name"] for call in calls] == names
    assert choice["finish_reason"] == finish
    assert len({call["id"] for call in calls}) == len(calls)
    for call in calls:
        arguments = json.loads(call["function"]["arguments"])
        assert arguments == ({"city": "Łódź", "unit": "celsius"} if "weather" in call["function"]["name"] else {})


async def test_json_schema_shapes_the_answer(client: httpx.AsyncClient) -> None:
    """response_format json_schema gives JSON of that schema; a schema that cannot be served is a 400 that says why."""
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 5}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "count", "schema": schema}}
    answer = await unary(client, response_format=wanted)
    assert json.loads(answer["choices"][0]["message"]["content"]) == {"n": 5}
    schema["properties"] = {"n": {"type": "string", "pattern": "^a+$"}}
    refused = await client.post("/chat/completions", json=body(response_format=wanted))
    assert refused.status_code == 400
    assert "'pattern' is not supported" in refused.json()["error"]["message"]


async def test_echo_shows_the_parameters_it_was_sent(client: httpx.AsyncClient) -> None:
    """demo-echo answers with the body it got, without the messages."""
    answer = await unary(client, model="demo-echo", temperature=0.25, unknown_field=[1])
    shown = json.loads(answer["choices"][0]["message"]["content"])
    assert shown == {"model": "demo-echo", "temperature": 0.25, "unknown_field": [1]}


BAD_REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "no messages": ({"messages": []}, "messages"),
    "unknown role": ({"messages": [{"role": "robot", "content": "x"}]}, ""),
    "content of a wrong type": ({"messages": [{"role": "user", "content": 7}]}, ""),
    "null content": ({"messages": [{"role": "user", "content": None}]}, "messages.[0].content"),
    "tool answer without a call": (
        {"messages": [*ASK, {"role": "tool", "tool_call_id": "c", "content": "x"}]},
        "messages.[1].role",
    ),
    "call without an answer": (
        {
            "messages": [
                *ASK,
                {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
                *ASK,
            ]
        },
        "messages.[2]",
    ),
    "too hot": ({"temperature": 2.1}, "temperature"),
    "no tokens": ({"max_tokens": 0}, "max_tokens"),
    "two answers": ({"n": 2}, "n"),
    "five stops": ({"stop": list("abcde")}, "stop"),
    "choice without tools": ({"tool_choice": "auto"}, "tool_choice"),
    "choice of an unknown tool": (
        {"tools": [CLOCK], "tool_choice": {"type": "function", "function": {"name": "nope"}}},
        "tool_choice",
    ),
    "an image that does not decode": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:a;base64,?"}}]}]},
        "messages.[0].content.[0].image_url",
    ),
}


@pytest.mark.parametrize(("fields", "param"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
async def test_bad_requests_are_refused_in_openais_shape(
    client: httpx.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    """A request that OpenAI refuses is a 400 invalid_request_error that names the parameter."""
    response = await client.post("/chat/completions", json=body(**fields))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert (error["param"] or "") == param


async def test_what_is_not_json_is_refused(client: httpx.AsyncClient) -> None:
    """Broken JSON and broken UTF-8 are 400, an unknown path is 404, all in OpenAI's shape."""
    for content in (b"{", b'{"model": "\xff"}', b""):
        assert (await client.post("/chat/completions", content=content)).status_code == 400
    missing = await client.get("/nothing")
    assert missing.status_code == 404
    assert missing.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer", "Basic x", f"Bearer {DEFAULT_API_KEY}x", "Bearer ключ"]
)
async def test_without_its_key_nothing_is_served(demo_provider: DemoServer, header: str | None) -> None:
    """Every path answers 401 to a missing or wrong key."""
    headers = {} if header is None else {b"authorization": header.encode()}
    async with httpx.AsyncClient(base_url=demo_provider.base_url) as anyone:
        for response in (
            await anyone.get("/models", headers=headers),
            await anyone.post("/chat/completions", json=body(), headers=headers),
            await anyone.post("/embeddings", json={}, headers=headers),
        ):
            assert response.status_code == 401
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}


async def test_a_key_of_ones_own() -> None:
    """api_keys replaces the public key."""
    async with await start(api_keys=["sk-mine"]) as demo, httpx.AsyncClient(base_url=demo.base_url) as client:
        assert demo.api_key == "sk-mine"
        for key, status in (("sk-mine", 200), (DEFAULT_API_KEY, 401)):
            response = await client.get("/models", headers={"authorization": f"Bearer {key}"})
            assert response.status_code == status


async def test_models_are_listed(client: httpx.AsyncClient) -> None:
    """GET /v1/models lists every row, GET /v1/models/{id} each of them; another one is 404 model_not_found."""
    listed = (await client.get("/models")).json()
    ids = [model["id"] for model in listed["data"]]
    assert ids == [*(row.model for row in ROWS), EMBEDDING_MODEL]
    assert (await client.get("/models/demo-slow")).json() == listed["data"][ids.index("demo-slow")]
    for response in (
        await client.get("/models/gpt-9"),
        await client.post("/chat/completions", json=body(model="gpt-9")),
    ):
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "model_not_found"


async def test_embeddings_are_unit_vectors_of_the_words(client: httpx.AsyncClient) -> None:
    """Same text, same vector of length 1; shared words bring texts nearer; base64 carries the same numbers."""
    asked = {"model": EMBEDDING_MODEL, "input": ["a red fox", "the red fox", "tax law"], "dimensions": 64}
    answer = (await client.post("/embeddings", json=asked)).json()
    fox, other_fox, law = (item["embedding"] for item in answer["data"])
    dots = [sum(x * y for x, y in zip(fox, other, strict=True)) for other in (fox, other_fox, law)]
    assert dots[0] == pytest.approx(1)
    assert dots[1] > dots[2]
    assert answer == (await client.post("/embeddings", json=asked)).json()
    packed = (await client.post("/embeddings", json=asked | {"encoding_format": "base64"})).json()
    unpacked = struct.unpack("<64f", base64.b64decode(packed["data"][0]["embedding"]))
    assert unpacked == pytest.approx(fox, abs=1e-6)
    refused: list[dict[str, Any]] = [
        {"input": []},
        {"input": [""]},
        {"input": 7},
        {"dimensions": 0},
        {"model": "demo-chat"},
    ]
    for wrong in refused:
        assert (await client.post("/embeddings", json=asked | wrong)).status_code in (400, 404)
