"""A call below the services, the whole way: registry, adapter, runner and real transport, to a real HTTP server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from server.core.errors import ProviderRateLimited, ProviderUnavailable
from server.core.events import Completed, Failed, StreamEvent
from server.core.messages import ChatRequest, Message, Text
from server.core.ports import CallTimeouts, ProviderCall, ProviderTarget
from server.core.secret import Secret
from server.core.stream import fold
from server.providers.registry import ProviderRegistry
from server.providers.transport.client import HttpTransport
from tests.providers.chat_support import KEY, delta, sse
from tests.support.scripted import CloseConnection, Reply, ResetConnection, ScriptedProvider, Silence


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[ProviderRegistry]:
    transport = HttpTransport()
    yield ProviderRegistry(transport)
    await transport.aclose()


def call(origin: str, *, stream: bool = True) -> ProviderCall:
    return ProviderCall(
        target=ProviderTarget(provider="custom", config_id="c", endpoint=f"{origin}/v1", secret=Secret(KEY)),
        request=ChatRequest(messages=(Message("user", (Text("Grüße 😀"),)),)),
        model="m",
        stream=stream,
    )


async def events_of(registry: ProviderRegistry, wanted: ProviderCall) -> list[StreamEvent]:
    return [event async for batch in registry.get("custom").chat(wanted) for event in batch]


async def test_a_stream_from_a_real_server(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """Written in pieces that cut a character, read as the text that it is; the request is as it should be."""
    body = sse(delta(content="é😀"), delta(content="!"), delta(finish="stop"), "[DONE]").replace(
        json.dumps("é😀").encode(), '"é😀"'.encode()
    )
    scripted_provider.reply(Reply.sse(body[:95], body[95:97], body[97:]))
    events = await events_of(registry, call(scripted_provider.origin))
    assert fold(events).text == "é😀!"
    (exchange,) = scripted_provider.exchanges
    assert (exchange.method, exchange.path) == ("POST", "/v1/chat/completions")
    assert exchange.headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(exchange.body)["messages"] == [{"role": "user", "content": "Grüße 😀"}]


async def test_a_whole_answer_and_a_refusal(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """Without streaming; and a 429 with its hint."""
    document = {"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]}
    scripted_provider.reply(
        Reply([b"\n\n", json.dumps(document).encode()]),
        Reply([b'{"error":{"message":"slow"}}'], 429, {"content-type": "application/json", "retry-after": "3"}),
    )
    assert fold(await events_of(registry, call(scripted_provider.origin, stream=False))).text == "ok"
    with pytest.raises(ProviderRateLimited) as caught:
        await events_of(registry, call(scripted_provider.origin))
    assert (caught.value.provider_message, caught.value.retry_after) == ("slow", 3.0)


@pytest.mark.parametrize("end", [CloseConnection(), ResetConnection()])
async def test_a_server_that_breaks_off(
    registry: ProviderRegistry, scripted_provider: ScriptedProvider, end: CloseConnection | ResetConnection
) -> None:
    """In the middle it is a failure, after the finish reason it is not."""
    scripted_provider.reply(Reply.sse(sse(delta(content="a")), end))
    scripted_provider.reply(Reply.sse(sse(delta(content="a"), delta(finish="stop")), end))
    assert isinstance((await events_of(registry, call(scripted_provider.origin)))[-1], Failed)
    assert isinstance((await events_of(registry, call(scripted_provider.origin)))[-1], Completed)


async def test_going_away_hangs_up(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """A closed iterator is a closed connection at the provider."""
    scripted_provider.reply(Reply.sse(sse(delta(content="a")), Silence()))
    stream = registry.get("custom").chat(call(scripted_provider.origin))
    await anext(stream)
    await stream.aclose()
    await scripted_provider.wait_for_hangup()


async def test_nobody_listens(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """A refused connection is an unavailable provider, retryable."""
    await scripted_provider.stop()
    with pytest.raises(ProviderUnavailable) as caught:
        await events_of(registry, call(scripted_provider.origin))
    assert caught.value.retryable
    assert caught.value.provider == "custom"


async def test_models_and_validation(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """The list of models is the list, and the cheapest proof of a credential."""
    scripted_provider.reply(Reply([b'{"data":[{"id":"a"}]}']), Reply([b'{"data":[]}']))
    target = call(scripted_provider.origin).target
    assert [model.name for model in await registry.get("custom").list_models(target, CallTimeouts())] == ["a"]
    await registry.get("custom").validate(target, CallTimeouts())
    assert [exchange.path for exchange in scripted_provider.exchanges] == ["/v1/models", "/v1/models"]
