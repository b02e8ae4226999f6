"""The adapter against aimock, a mock of Gemini's API that was not written here."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from server.core.errors import ProviderOverloaded, ProviderProtocolError, ProviderRateLimited
from server.core.messages import ChatRequest, Message, Reasoning, Text, Thinking, Tool, ToolResult
from server.core.ports import ProviderCall, ProviderTarget
from server.core.secret import Secret
from server.core.stream import ChatResponse, fold
from server.providers.registry import ProviderRegistry
from server.providers.transport.client import HttpTransport
from tests.providers.gemini.support import KEY
from tests.support.aimock import StartAimock

WEATHER = Tool("get_weather", "Tells it", '{"type":"object","properties":{"city":{"type":"string"}}}')

# `finishReason: stop`: aimock says FUNCTION_CALL for a tool call otherwise, which Gemini does not.
ROWS = [
    {"match": {"hasToolResult": True}, "response": {"content": "It is sunny."}},
    {
        "match": {"userMessage": "hello"},
        "response": {"content": "Hi there, Grüße 😀! " * 20, "usage": {"prompt_tokens": 3, "completion_tokens": 7}},
    },
    {
        "match": {"userMessage": "weather"},
        "response": {
            "finishReason": "stop",
            "toolCalls": [
                {"name": "get_weather", "arguments": '{"city":"Zürich"}'},
                {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
            ],
        },
    },
    {"match": {"userMessage": "think"}, "response": {"content": "42", "reasoning": "Let me see."}},
    {"match": {"userMessage": "long"}, "response": {"content": "And then", "finishReason": "length"}},
    {"match": {"userMessage": "slow"}, "response": {"error": {"message": "slow down"}, "status": 429}},
    {"match": {"userMessage": "busy"}, "response": {"error": {"message": "full"}, "status": 503}},
]

STREAM = pytest.mark.parametrize("stream", [True, False])


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[ProviderRegistry]:
    transport = HttpTransport()
    yield ProviderRegistry(transport)
    await transport.aclose()


def say(words: str) -> Message:
    return Message("user", (Text(words),))


async def ask(registry: ProviderRegistry, origin: str, *turns: Message, stream: bool, path: str = "") -> ChatResponse:
    call = ProviderCall(
        target=ProviderTarget(provider="gemini", config_id="c", endpoint=origin + path, secret=Secret(KEY)),
        request=ChatRequest(messages=turns, tools=(WEATHER,), thinking=Thinking("enabled", 1_024)),
        model="gemini-2.5-flash",
        stream=stream,
    )
    return fold([event async for batch in registry.get("gemini").chat(call) for event in batch])


@STREAM
async def test_text_thoughts_and_counts(registry: ProviderRegistry, aimock: StartAimock, stream: bool) -> None:
    """As a stream and at once, at the Gemini API's path and at Vertex's."""
    origin = aimock(ROWS)
    for path in ("", "/v1/projects/p/locations/europe-west4"):
        greeting = await ask(registry, origin, say("hello"), stream=stream, path=path)
        assert (greeting.text, greeting.finish_reason) == ("Hi there, Grüße 😀! " * 20, "stop")
        assert (greeting.usage.prompt_tokens, greeting.usage.completion_tokens) == (3, 7)
    thought = await ask(registry, origin, say("think"), stream=stream)
    assert (thought.reasoning, thought.text) == ("Let me see.", "42")
    assert isinstance(thought.message.parts[0], Reasoning)
    assert (await ask(registry, origin, say("long"), stream=stream)).finish_reason == "length"


@STREAM
async def test_parallel_calls_and_their_results(registry: ProviderRegistry, aimock: StartAimock, stream: bool) -> None:
    """The round trip of two calls of one name: told apart by ids of ours, sent back by name and order."""
    origin = aimock(ROWS)
    first = await ask(registry, origin, say("weather"), stream=stream)
    assert [json.loads(call.arguments) for call in first.tool_calls] == [{"city": "Zürich"}, {"city": "Oslo"}]
    assert (first.finish_reason, first.raw_finish_reason) == ("tool_calls", "STOP")
    results = tuple(ToolResult(call.id, (Text("sunny"),)) for call in reversed(first.tool_calls))
    turns = (say("weather"), first.message, Message("tool", results))
    assert (await ask(registry, origin, *turns, stream=stream)).text == "It is sunny."


@STREAM
async def test_refusals(registry: ProviderRegistry, aimock: StartAimock, stream: bool) -> None:
    """A rate limit and an overload, told apart by status."""
    origin = aimock(ROWS)
    with pytest.raises(ProviderRateLimited) as caught:
        await ask(registry, origin, say("slow"), stream=stream)
    assert caught.value.provider_message == "slow down"
    with pytest.raises(ProviderOverloaded):
        await ask(registry, origin, say("busy"), stream=stream)


@STREAM
async def test_nonsense_is_no_answer(registry: ProviderRegistry, aimock: StartAimock, stream: bool) -> None:
    """A good status, and no protocol."""
    origin = aimock(ROWS, "--chaos-malformed", "1")
    with pytest.raises(ProviderProtocolError):
        await ask(registry, origin, say("hello"), stream=stream)
