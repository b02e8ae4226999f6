"""The whole way below the services, registry to real transport: to a scripted server, and to one not written here."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from server.core.errors import (
    ProviderProtocolError,
    ProviderQuotaExceeded,
    ProviderRateLimited,
    ProviderUnauthenticated,
)
from server.core.events import Failed, StreamEvent
from server.core.messages import ChatRequest, HostedTool, Message, Reasoning, Text, Thinking, Tool, ToolResult
from server.core.ports import CallTimeouts, ProviderCall
from server.core.stream import ChatResponse, fold
from server.providers.registry import ProviderRegistry
from server.providers.transport.client import HttpTransport
from tests.providers.openai_responses.support import (
    KEY,
    call,
    completed,
    created,
    function,
    message,
    of,
    response,
    said,
    sse,
    target,
    thought,
)
from tests.support.aimock import StartAimock
from tests.support.scripted import CloseConnection, Reply, ScriptedProvider, Silence

WEATHER = Tool("get_weather", "The weather.", '{"type":"object","properties":{"city":{"type":"string"}}}')


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[ProviderRegistry]:
    transport = HttpTransport()
    yield ProviderRegistry(transport)
    await transport.aclose()


def ask(
    origin: str, *messages: Message, slug: str = "openai", wire: str = "", stream: bool = True, **fields: Any
) -> ProviderCall:
    return call(ChatRequest(messages=messages, **fields), stream=stream, to=target(slug, endpoint=origin, wire=wire))


def say(words: str) -> Message:
    return Message("user", (Text(words),))


async def events_of(registry: ProviderRegistry, wanted: ProviderCall) -> list[StreamEvent]:
    provider = registry.get(wanted.target.provider)
    return [event async for batch in provider.chat(wanted) for event in batch]


async def response_of(registry: ProviderRegistry, wanted: ProviderCall) -> ChatResponse:
    return fold(await events_of(registry, wanted))


async def test_a_stream_from_a_real_server(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """Written in pieces that cut a character, read as the text that it is; the request is as it should be."""
    data = sse(*created(), *said(0, "é😀", "!"), completed())
    cut = data.index("😀".encode()) + 2
    scripted_provider.reply(Reply.sse(data[:cut], data[cut : cut + 1], data[cut + 1 :]))
    answer = await response_of(registry, ask(scripted_provider.origin, say("Grüße 😀")))
    assert (answer.text, answer.usage.total_tokens) == ("é😀!", 12)
    (exchange,) = scripted_provider.exchanges
    assert (exchange.method, exchange.path) == ("POST", "/v1/responses")
    assert exchange.headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(exchange.body)["input"] == [{"role": "user", "content": "Grüße 😀"}]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_second_turn_gives_back_what_the_first_one_gave(
    registry: ProviderRegistry, scripted_provider: ScriptedProvider, stream: bool
) -> None:
    """Encrypted thoughts before the call that they led to, and the tool's result: over the wire and back."""
    output = [thought("Hm."), function("get_weather", '{"city":"Zürich"}')]
    for items in (output, [message("Sunny.")]):
        whole = Reply([json.dumps(response("completed", items)).encode()])
        scripted_provider.reply(Reply.sse(sse(*created(), completed(*items))) if stream else whole)
    origin = scripted_provider.origin
    first = await response_of(registry, ask(origin, say("Weather?"), stream=stream, tools=(WEATHER,)))
    assert (first.finish_reason, first.reasoning) == ("tool_calls", "Hm.")
    result = Message("tool", (ToolResult(first.tool_calls[0].id, (Text("sunny"),)),))
    turn = ask(origin, say("Weather?"), first.message, result, stream=stream, tools=(WEATHER,))
    assert (await response_of(registry, turn)).text == "Sunny."
    sent = json.loads(scripted_provider.exchanges[1].body)
    assert sent["input"][1:] == [
        thought("Hm."),
        {"type": "function_call", "call_id": "call_a", "name": "get_weather", "arguments": '{"city":"Zürich"}'},
        {"type": "function_call_output", "call_id": "call_a", "output": "sunny"},
    ]
    assert (sent["store"], sent["include"]) == (False, ["reasoning.encrypted_content"])


async def test_refusals_and_errors_in_a_stream(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """A bad key, a 200 that fails before it shows anything, and answers that an error or a hang-up breaks off."""
    refused = b'{"error":{"message":"no","type":"invalid_request_error","code":"invalid_api_key"}}'
    quota = {"type": "error", "error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "m"}}
    part = sse(*created(), *said(0, "par")[:3])
    scripted_provider.reply(
        Reply([refused], 401),
        Reply.sse(sse(*created(), quota)),
        Reply.sse(part, sse(quota)),
        Reply.sse(part, CloseConnection()),
    )
    wanted = ask(scripted_provider.origin, say("x"))
    with pytest.raises(ProviderUnauthenticated):
        await events_of(registry, wanted)
    with pytest.raises(ProviderQuotaExceeded):
        await events_of(registry, wanted)
    for retryable in (False, True):
        (failed,) = of(await events_of(registry, wanted), Failed)
        assert failed.error.retryable == retryable


async def test_going_away_hangs_up(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """A closed iterator is a closed connection at the provider."""
    scripted_provider.reply(Reply.sse(sse(*created(), *said(0, "par")[:3]), Silence()))
    stream = registry.get("openai").chat(ask(scripted_provider.origin, say("x")))
    await anext(stream)
    await stream.aclose()
    await scripted_provider.wait_for_hangup()


async def test_each_call_goes_to_the_api_that_its_server_has_for_it(
    registry: ProviderRegistry, scripted_provider: ScriptedProvider
) -> None:
    """OpenAI with and without `legacy`, xAI with and without server tools."""
    chat = Reply([b'{"choices":[{"message":{"content":"ok"},"finish_reason":"stop"}]}'])
    responses = Reply([json.dumps(response("completed", [message("ok")])).encode()])
    scripted_provider.reply(responses, chat, chat, responses)
    origin, search = scripted_provider.origin, (HostedTool("web_search"),)
    for wanted in (
        ask(origin, say("x"), stream=False),
        ask(origin, say("x"), stream=False, wire="chat"),
        ask(origin, say("x"), stream=False, slug="xai"),
        ask(origin, say("x"), stream=False, slug="xai", hosted_tools=search),
    ):
        assert (await response_of(registry, wanted)).text == "ok"
    paths = [exchange.path for exchange in scripted_provider.exchanges]
    assert paths == ["/v1/responses", "/v1/chat/completions", "/v1/chat/completions", "/v1/responses"]


async def test_models_and_validation(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """The list of models is the list, and the cheapest proof of a credential."""
    scripted_provider.reply(Reply([b'{"data":[{"id":"a"}]}']), Reply([b'{"data":[]}']))
    to = target(endpoint=scripted_provider.origin)
    assert [model.name for model in await registry.get("openai").list_models(to, CallTimeouts())] == ["a"]
    await registry.get("openai").validate(to, CallTimeouts())
    assert [exchange.path for exchange in scripted_provider.exchanges] == ["/v1/models", "/v1/models"]


PEER = [
    {"match": {"toolCallId": "call_peer"}, "response": {"content": "It is sunny."}},
    {"match": {"userMessage": "hello"}, "response": {"content": "Hi there, Grüße 😀! " * 20}},
    {
        "match": {"userMessage": "weather"},
        "response": {"toolCalls": [{"id": "call_peer", "name": "get_weather", "arguments": '{"city":"Zürich"}'}]},
    },
    {"match": {"userMessage": "think"}, "response": {"content": "42", "reasoning": "Let me see."}},
    {"match": {"userMessage": "search"}, "response": {"content": "Found.", "webSearches": ["ruby"]}},
    {
        "match": {"userMessage": "slow"},
        "response": {"error": {"type": "rate_limit_error", "message": "slow down"}, "status": 429},
    },
]


@pytest.mark.parametrize("wire", ["", "chat"], ids=["responses", "chat"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_server_that_was_not_written_here_is_understood(
    registry: ProviderRegistry, aimock: StartAimock, stream: bool, wire: str
) -> None:
    """aimock: text, a tool's round trip, thoughts, a rate limit; as a stream and at once, by both APIs."""
    origin = aimock(PEER)

    def wanted(*messages: Message, **fields: Any) -> ProviderCall:
        return ask(origin, *messages, stream=stream, wire=wire, **fields)

    assert (await response_of(registry, wanted(say("hello")))).text == "Hi there, Grüße 😀! " * 20
    thoughtful = await response_of(registry, wanted(say("think"), thinking=Thinking("enabled", include=True)))
    assert (thoughtful.reasoning, thoughtful.text) == ("Let me see.", "42")
    sealed = [part for part in thoughtful.message.parts if isinstance(part, Reasoning) and part.opaque]
    assert bool(sealed) == (wire == "")
    first = await response_of(registry, wanted(say("weather"), tools=(WEATHER,)))
    (made,) = first.tool_calls
    assert (first.finish_reason, made.name, json.loads(made.arguments)) == (
        "tool_calls", "get_weather", {"city": "Zürich"},
    )  # fmt: skip
    result = Message("tool", (ToolResult(made.id, (Text("sunny"),)),))
    turn = wanted(say("weather"), first.message, result, tools=(WEATHER,))
    assert (await response_of(registry, turn)).text == "It is sunny."
    with pytest.raises(ProviderRateLimited) as caught:
        await events_of(registry, wanted(say("slow")))
    assert caught.value.provider_message == "slow down"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_server_tool_at_a_server_that_was_not_written_here(
    registry: ProviderRegistry, aimock: StartAimock, stream: bool
) -> None:
    """aimock: a web search is a step of its own before the text, and goes back with the next turn."""
    origin = aimock(PEER)
    search = (HostedTool("web_search"),)
    found = await response_of(registry, ask(origin, say("search"), stream=stream, hosted_tools=search))
    step, text = found.message.parts
    assert (step.type, text.text) == ("web_search_call", "Found.")  # type: ignore[union-attr]
    again = ask(origin, say("search"), found.message, say("hello"), stream=stream, hosted_tools=search)
    assert (await response_of(registry, again)).text.startswith("Hi there")


async def test_a_server_that_talks_nonsense_is_not_taken_at_its_word(
    registry: ProviderRegistry, aimock: StartAimock
) -> None:
    """aimock with every answer malformed: a good status, and no protocol."""
    with pytest.raises(ProviderProtocolError):
        await response_of(registry, ask(aimock(PEER, "--chaos-malformed", "1"), say("hello")))
