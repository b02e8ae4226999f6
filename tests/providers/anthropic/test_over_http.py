"""The whole way below the services, registry to real transport: to a scripted server, and to one not written here."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from server.core.errors import ProviderOverloaded, ProviderProtocolError, ProviderRateLimited, ProviderUnauthenticated
from server.core.events import Failed, StreamEvent
from server.core.messages import ChatRequest, Message, Reasoning, Text, Thinking, Tool, ToolResult
from server.core.ports import CallTimeouts, ProviderCall
from server.core.stream import ChatResponse, fold
from server.providers.registry import ProviderRegistry
from server.providers.transport.client import HttpTransport
from tests.providers.anthropic.support import KEY, call, ending, of, sse, start, target, text
from tests.support.aimock import StartAimock
from tests.support.scripted import CloseConnection, Reply, ScriptedProvider

WEATHER = Tool("get_weather", "The weather.", '{"type":"object","properties":{"city":{"type":"string"}}}')


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[ProviderRegistry]:
    transport = HttpTransport()
    yield ProviderRegistry(transport)
    await transport.aclose()


def ask(origin: str, *messages: Message, stream: bool = True, **fields: Any) -> ProviderCall:
    return call(ChatRequest(messages=messages, **fields), stream=stream, to=target(endpoint=origin))


def say(words: str) -> Message:
    return Message("user", (Text(words),))


async def events_of(registry: ProviderRegistry, wanted: ProviderCall) -> list[StreamEvent]:
    return [event async for batch in registry.get("anthropic").chat(wanted) for event in batch]


async def response_of(registry: ProviderRegistry, wanted: ProviderCall) -> ChatResponse:
    return fold(await events_of(registry, wanted))


async def test_a_stream_from_a_real_server(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """Written in pieces that cut a character, read as the text that it is; the request is as it should be."""
    body = sse(start(input_tokens=3), *text(0, "é😀", "!"), *ending())
    cut = body.index("😀".encode()) + 2
    scripted_provider.reply(Reply.sse(body[:cut], body[cut : cut + 1], body[cut + 1 :]))
    response = await response_of(registry, ask(scripted_provider.origin, say("Grüße 😀")))
    assert (response.text, response.usage.prompt_tokens) == ("é😀!", 3)
    (exchange,) = scripted_provider.exchanges
    assert (exchange.method, exchange.path) == ("POST", "/v1/messages")
    assert (exchange.headers["x-api-key"], exchange.headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert json.loads(exchange.body)["messages"][0]["content"] == [{"type": "text", "text": "Grüße 😀"}]


async def test_refusals_and_errors_in_a_stream(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """A bad key, a 200 whose first event is an error, and an answer that an error or a hang-up breaks off."""
    refused = b'{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}'
    overloaded = sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    part = sse(start(), *text(0, "par")[:2])
    scripted_provider.reply(
        Reply([refused], 401), Reply.sse(overloaded), Reply.sse(part, overloaded), Reply.sse(part, CloseConnection())
    )
    wanted = ask(scripted_provider.origin, say("x"))
    with pytest.raises(ProviderUnauthenticated):
        await events_of(registry, wanted)
    with pytest.raises(ProviderOverloaded):
        await events_of(registry, wanted)
    for _ in range(2):
        (failed,) = of(await events_of(registry, wanted), Failed)
        assert failed.error.retryable


async def test_models_come_page_by_page(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """The list is followed to its end, and a validation is one small request."""
    pages = [{"data": [{"id": "a"}], "has_more": True, "last_id": "a"}, {"data": [{"id": "b"}], "has_more": False}]
    scripted_provider.reply(*(Reply([json.dumps(page).encode()]) for page in [*pages, pages[1]]))
    provider, to = registry.get("anthropic"), target(endpoint=scripted_provider.origin)
    assert [model.name for model in await provider.list_models(to, CallTimeouts())] == ["a", "b"]
    await provider.validate(to, CallTimeouts())
    paths = [exchange.path for exchange in scripted_provider.exchanges]
    assert paths == ["/v1/models?limit=1000", "/v1/models?limit=1000&after_id=a", "/v1/models?limit=1"]


PEER = [
    {"match": {"toolCallId": "toolu_peer"}, "response": {"content": "It is sunny."}},
    {"match": {"userMessage": "hello"}, "response": {"content": "Hi there, Grüße 😀! " * 20}},
    {
        "match": {"userMessage": "weather"},
        "response": {
            "toolCalls": [{"id": "toolu_peer", "name": "get_weather", "arguments": '{"city":"Zürich"}'}],
        },
    },
    {"match": {"userMessage": "think"}, "response": {"content": "42", "reasoning": "Let me see."}},
    {
        "match": {"userMessage": "slow"},
        "response": {"error": {"type": "rate_limit_error", "message": "slow down"}, "status": 429},
    },
]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_server_that_was_not_written_here_is_understood(
    registry: ProviderRegistry, aimock: StartAimock, stream: bool
) -> None:
    """aimock: text, thoughts with their signature, a tool's round trip, a rate limit; as a stream and at once."""
    origin = aimock(PEER)
    assert (await response_of(registry, ask(origin, say("hello"), stream=stream))).text == "Hi there, Grüße 😀! " * 20
    thoughtful = ask(origin, say("think"), stream=stream, thinking=Thinking("enabled", 1_024), max_tokens=2_000)
    thought = await response_of(registry, thoughtful)
    assert (thought.reasoning, thought.text) == ("Let me see.", "42")
    assert any(isinstance(part, Reasoning) and part.opaque for part in thought.message.parts)
    first = await response_of(registry, ask(origin, say("weather"), stream=stream, tools=(WEATHER,)))
    (wanted,) = first.tool_calls
    assert (first.finish_reason, wanted.name, json.loads(wanted.arguments)) == (
        "tool_calls", "get_weather", {"city": "Zürich"},
    )  # fmt: skip
    result = Message("tool", (ToolResult(wanted.id, (Text("sunny"),)),))
    turn = ask(origin, say("weather"), first.message, result, stream=stream, tools=(WEATHER,))
    assert (await response_of(registry, turn)).text == "It is sunny."
    with pytest.raises(ProviderRateLimited) as caught:
        await events_of(registry, ask(origin, say("slow"), stream=stream))
    assert (caught.value.provider_message, caught.value.retry_after) == ("slow down", 1.0)


async def test_a_server_that_talks_nonsense_is_not_taken_at_its_word(
    registry: ProviderRegistry, aimock: StartAimock
) -> None:
    """aimock with every answer malformed: a good status, and no protocol."""
    origin = aimock(PEER, "--chaos-malformed", "1")
    with pytest.raises(ProviderProtocolError):
        await response_of(registry, ask(origin, say("hello")))
