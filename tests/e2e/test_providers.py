"""Each provider, configured over REST and called by gRPC and by REST, as a stream and at once, through the real Envoy.

The peer is aimock, which speaks these protocols and was not written here; what it does not say (each provider's own
refusal of a wrong key) a scripted server says.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.house import House, running_house
from tests.e2e.providers import KEY, PROVIDERS, WAYS, WHOLE, Answer, Provider, Refused
from tests.e2e.stack import Stack
from tests.support.aimock import running_aimock
from tests.support.ports import free_port
from tests.support.scripted import Reply, ScriptedProvider

pytestmark = pytest.mark.e2e

Way = Callable[[Stack, Mapping[str, Any]], Awaitable[Answer]]

TEXT = "Hi there, Grüße 😀! " * 5
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"name": "get_weather", "arguments": '{"city":"Zürich"}'}

USAGE = {"prompt_tokens": 3, "completion_tokens": 7}
ROWS: list[dict[str, Any]] = [
    {"match": {"hasToolResult": True, "toolResultContains": "sunny"}, "response": {"content": "It is sunny."}},
    {"match": {"userMessage": "hello"}, "response": {"content": TEXT, "usage": USAGE}},
    # Gemini has no finish reason of its own for tool calls; aimock says one, unless it is told not to.
    {
        "match": {"userMessage": "weather", "model": "gemini-2.5-flash"},
        "response": {"finishReason": "stop", "toolCalls": [CALL]},
    },
    {"match": {"userMessage": "weather"}, "response": {"toolCalls": [CALL]}},
    {
        "match": {"userMessage": "slow"},
        "response": {"error": {"type": "rate_limit_error", "message": "slow down"}, "status": 429, "retryAfter": 7},
    },
]


@dataclass(frozen=True)
class Peers:
    """Ports: known, of the one that takes the key and no other; open, of one that takes everybody (signatures are not
    understood there); scripted, that a test's own server may take."""

    known: int
    open: int
    scripted: int

    def port_for(self, provider: Provider) -> int:
        return self.open if provider.key else self.known


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    """Two of aimock, and a port that is free."""
    with ExitStack() as held:
        ports = []
        for keys in ([KEY], []):
            origin = held.enter_context(running_aimock(tmp_path_factory.mktemp("peer"), ROWS, api_keys=keys))
            ports.append(int(origin.rpartition(":")[2]))
        yield Peers(known=ports[0], open=ports[1], scripted=free_port())


@pytest.fixture(scope="module")
def house(stack: Stack, peers: Peers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A gateway that may call the peers."""
    ports = (peers.known, peers.open, peers.scripted)
    with running_house(stack, tmp_path_factory.mktemp("house"), ports) as it:
        yield it


@pytest_asyncio.fixture
async def scripted(peers: Peers) -> AsyncIterator[ScriptedProvider]:
    """A scripted server that the gateway may call."""
    provider = ScriptedProvider()
    await provider.start(peers.scripted)
    yield provider
    await provider.stop()


each_provider = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


def user(words: str) -> dict[str, Any]:
    return {"role": "user", "content": words}


@each_way
@each_provider
async def test_text_and_its_counts(house: House, peers: Peers, provider: Provider, way: Way) -> None:
    """A question gets the peer's words, to the letter, with its counts."""
    with house.configured(provider, peers.port_for(provider)) as config:
        answer = await way(house.stack, config.asks(user("hello"), maxTokens=100))
    assert (answer.text, answer.finish, answer.calls) == (TEXT, "stop", [])
    if provider.peer_counts or way in WHOLE:
        assert (answer.usage["promptTokens"], answer.usage["completionTokens"]) == (3, 7)


@each_way
@each_provider
async def test_a_tool_call_and_the_turn_after_it(house: House, peers: Peers, provider: Provider, way: Way) -> None:
    """A tool is called with its arguments, and its result leads to the answer."""
    with house.configured(provider, peers.port_for(provider)) as config:
        first = await way(house.stack, config.asks(user("weather"), tools=[WEATHER]))
        assert first.finish == "tool_calls"
        (call,) = first.calls
        assert call["function"]["name"] == "get_weather"
        assert json.loads(call["function"]["arguments"]) == {"city": "Zürich"}
        result = {"role": "tool", "toolCallId": call["id"], "name": "get_weather", "content": "sunny, 21 degrees"}
        second = await way(house.stack, config.asks(user("weather"), first.message, result, tools=[WEATHER]))
    assert (second.text, second.finish) == ("It is sunny.", "stop")


@each_way
@each_provider
async def test_a_rate_limit_says_when_to_come_back(house: House, peers: Peers, provider: Provider, way: Way) -> None:
    """429 at the provider is 429 and RESOURCE_EXHAUSTED here, with the provider's own hint."""
    with house.configured(provider, peers.port_for(provider)) as config, pytest.raises(Refused) as caught:
        await way(house.stack, config.asks(user("slow")))
    error = caught.value
    assert (error.status, error.http) == ("RESOURCE_EXHAUSTED", 429 if way.__name__.startswith("rest") else None)
    assert (error.reason, error.retry, error.facts["retryable"]) == ("PROVIDER_RATE_LIMITED", 7.0, "true")
    assert error.facts["provider_status"] == "429"


@each_way
@each_provider
async def test_a_wrong_key_is_the_workspaces_fault_whatever_status_says_so(
    house: House, provider: Provider, way: Way, scripted: ScriptedProvider
) -> None:
    """Each provider's own refusal of a key: 401, 403 or 400. It was sent where and as the provider wants it."""
    status, body = provider.bad_key
    headers = {"content-type": "application/json", **provider.bad_key_headers}
    scripted.reply(Reply([json.dumps(body).encode()], status, headers))
    with house.configured(provider, scripted.port) as config, pytest.raises(Refused) as caught:
        await way(house.stack, config.asks(user("hello")))
    error = caught.value
    assert (error.status, error.http) == ("UNAUTHENTICATED", 401 if way.__name__.startswith("rest") else None)
    assert (error.reason, error.facts["fault"]) == ("PROVIDER_UNAUTHENTICATED", "workspace")
    assert (error.retry, error.facts["provider_status"]) == (None, str(status))
    assert KEY not in error.text
    (exchange,) = scripted.exchanges
    assert exchange.path in (provider.calls, _streaming(provider.calls))
    name, beginning = provider.credential
    assert exchange.headers[name].startswith(beginning)


def _streaming(path: str) -> str:
    """The path of a streamed call, where it is another."""
    if path.endswith(":generateContent"):
        return path.replace(":generateContent", ":streamGenerateContent?alt=sse")
    return path + "-stream" if path.endswith("/converse") else path


@each_provider
async def test_a_wrong_key_does_not_pass_validation(
    house: House, provider: Provider, scripted: ScriptedProvider
) -> None:
    """HTTP 200 and `success: false`, as documented, without the key."""
    status, body = provider.bad_key
    headers = {"content-type": "application/json", **provider.bad_key_headers}
    scripted.reply(Reply([json.dumps(body).encode()], status, headers))
    with house.configured(provider, scripted.port) as config:
        response = await asyncio.to_thread(house.admin.post, f"/ai/llm/{config.id}/validate")
    assert (response.status_code, response.json()["success"]) == (200, False)
    assert KEY not in response.text
    (exchange,) = scripted.exchanges
    name, beginning = provider.credential
    assert exchange.headers[name].startswith(beginning)
