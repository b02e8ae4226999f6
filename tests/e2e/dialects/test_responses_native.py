"""OpenAI's SDK by its Responses API to a server of that API: what only the two of them know goes through."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from server.core.messages import Opaque
from server.rpc.compat.opaque import seal
from tests.e2e.stack import Stack, running_stack
from tests.support.ports import free_port
from tests.support.scripted import Reply, ScriptedProvider

pytestmark = pytest.mark.e2e

MODEL = "openai/gpt-5"
THOUGHT: dict[str, Any] = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAAAABo-theirs"}
CALL: dict[str, Any] = {
    "id": "fc_1", "type": "function_call", "status": "completed", "call_id": "call_1", "name": "f",
    "arguments": '{"x": 1}', "namespace": "n",
}  # fmt: skip
WORDS: dict[str, Any] = {
    "id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "phase": "final_answer",
    "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "Done."}],
}  # fmt: skip


def response(*output: dict[str, Any], status: str = "completed") -> dict[str, Any]:
    return {
        "id": "resp_theirs", "object": "response", "created_at": 1, "status": status, "model": "gpt-5-2025-08-07",
        "output": list(output), "service_tier": "flex", "error": None, "incomplete_details": None,
        "usage": {"input_tokens": 5, "output_tokens": 6, "total_tokens": 11, "unheard_of": 1},
    }  # fmt: skip


def streamed(*items: dict[str, Any]) -> Reply:
    """The items as a stream."""
    events: list[dict[str, Any]] = [{"type": "response.created", "response": response(status="in_progress")}]
    for index, item in enumerate(items):
        opened = {name: value for name, value in item.items() if name in ("id", "type", "call_id", "name")}
        events += [
            {"type": "response.output_item.added", "output_index": index, "item": opened},
            {"type": "response.output_item.done", "output_index": index, "item": item},
        ]
    events.append({"type": "response.completed", "response": response(*items)})
    return Reply.sse(*(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events))


@pytest.fixture(scope="module")
def native_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def native(native_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway whose `openai` is the scripted server."""
    origin = f"127.0.0.1:{native_port}"
    with running_stack(tmp_path_factory.mktemp("native"), allowed=[origin]) as stack:
        with stack.rest("admin") as admin:
            body = {"name": "openai", "aiType": "OPENAI", "secret": "sk-canary-native-0123", "workspaceId": "ws_own"}
            admin.post("/ai/llm", json=body | {"endpoint": f"http://{origin}/v1"}).raise_for_status()
        yield stack


@pytest_asyncio.fixture
async def upstream(native_port: int) -> AsyncIterator[ScriptedProvider]:
    """The server that plays OpenAI."""
    provider = ScriptedProvider()
    await provider.start(native_port)
    yield provider
    await provider.stop()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_two_turns(native: Stack, upstream: ScriptedProvider, stream: bool) -> None:
    """Members that the gateway does not know reach the server and come back; the thoughts of the first turn are in the
    second as the server gave them."""
    first, second = [THOUGHT, CALL], [WORDS]
    if stream:
        upstream.reply(streamed(*first), streamed(*second))
    else:
        upstream.reply(*(Reply([json.dumps(response(*items)).encode()]) for items in (first, second)))
    ask: Any = {
        "model": MODEL,
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}],
        "text": {"verbosity": "low"},
        "service_tier": "flex",
        "extra_body": {"unheard_of": {"a": 1}},
    }
    items: list[Any] = [{"role": "user", "content": "go"}]
    async with openai.AsyncOpenAI(
        base_url=f"{native.envoy.url}/v1", api_key=native.keys["member"], max_retries=0
    ) as sdk:
        one = await _answer(sdk, stream, **ask, input=items)
        items += [*one.output, {"type": "function_call_output", "call_id": "call_1", "output": "ok"}]
        two = await _answer(sdk, stream, **ask, input=items)
    assert (one.id, one.service_tier, one.usage.unheard_of) == ("resp_theirs", "flex", 1)
    assert [item.type for item in one.output] == ["reasoning", "function_call"]
    assert (one.output[1].arguments, one.output[1].namespace) == ('{"x": 1}', "n")
    assert (two.output_text, two.output[0].phase) == ("Done.", "final_answer")
    bodies = [json.loads(exchange.body) for exchange in upstream.exchanges]
    for body in bodies:
        assert (body["text"], body["service_tier"], body["unheard_of"]) == ({"verbosity": "low"}, "flex", {"a": 1})
        assert (body["store"], body["model"]) == (False, "gpt-5")
        assert "reasoning.encrypted_content" in body["include"]
    thought, call, result = bodies[1]["input"][1:]
    assert {name: value for name, value in thought.items() if value is not None} == THOUGHT
    assert (call["arguments"], call["namespace"], result["output"]) == ('{"x": 1}', "n", "ok")


async def _answer(sdk: openai.AsyncOpenAI, stream: bool, **ask: Any) -> Any:
    if not stream:
        return await sdk.responses.create(**ask)
    async with sdk.responses.stream(**ask) as events:
        return await events.get_final_response()


async def test_another_models_thoughts_are_not_sent(native: Stack, upstream: ScriptedProvider) -> None:
    """What another provider signed stays out of a request to this one, and the answer says so."""
    upstream.reply(Reply([json.dumps(response(WORDS)).encode()]))
    foreign: Any = {
        "type": "reasoning",
        "id": "rs_x",
        "summary": [{"type": "summary_text", "text": "So."}],
        "encrypted_content": seal(Opaque("anthropic", "claude-x", b"signature")),
    }
    async with openai.AsyncOpenAI(
        base_url=f"{native.envoy.url}/v1", api_key=native.keys["member"], max_retries=0
    ) as sdk:
        items: Any = [{"role": "user", "content": "a"}, foreign, {"role": "user", "content": "b"}]
        answer: Any = await sdk.responses.create(model=MODEL, input=items)
    assert [item["role"] for item in json.loads(upstream.exchanges[0].body)["input"]] == ["user", "user"]
    assert "messages" in [one["parameter"] for one in answer.x_dragoman["warnings"]]
