"""Each provider, configured over REST and called by gRPC and by REST, as a stream and at once, through the real Envoy.

The peer is aimock, which speaks these protocols and was not written here; what it does not say (each provider's own
refusal of a wrong key) a scripted server says.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio

from server.dev.envoy import Address
from tests.e2e.envoy import proxy
from tests.e2e.providers import HOSTS, KEY, PROVIDERS, WAYS, WHOLE, Answer, Provider, Refused
from tests.e2e.stack import OWN, Stack
from tests.support.aimock import running_aimock
from tests.support.canary import assert_absent
from tests.support.ports import free_port
from tests.support.process import RunningProcess
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
class House:
    """A gateway whose configurations lead to a peer. Ports: peer, of the one that knows the key; open_peer, of one that
    takes everybody (signatures are not understood there); scripted, that a test's own server may take."""

    stack: Stack
    admin: httpx.Client
    peer: int
    open_peer: int
    scripted: int

    def port_for(self, provider: Provider) -> int:
        return self.open_peer if provider.key else self.peer

    @contextmanager
    def configured(self, provider: Provider, port: int) -> Iterator[Configured]:
        """A configuration of the provider at that port, made and deleted over REST."""
        body = {
            "name": f"{provider.name}-{uuid.uuid4().hex[:8]}",
            "aiType": provider.ai_type,
            "provider": provider.slug,
            "workspaceId": OWN,
            "endpoint": provider.endpoint(port),
            "secret": KEY,
            "key": provider.key,
        }
        created = self.admin.post("/ai/llm", json=body)
        assert created.status_code == 200, created.text
        id = created.json()["aiLlmId"]
        yield Configured(id, str(body["name"]), provider)
        assert self.admin.delete(f"/ai/llm/{id}").status_code == 200


@dataclass(frozen=True)
class Configured:
    """A provider's configuration."""

    id: str
    name: str
    provider: Provider

    def asks(self, *messages: Mapping[str, Any], **more: object) -> dict[str, Any]:
        """The body of a call."""
        return {
            "provider": self.provider.slug,
            "providerName": self.name,
            "model": self.provider.model,
            "messages": list(messages),
            **self.provider.request,
            **more,
        }


@pytest.fixture(scope="module")
def house(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A second server on the data of `stack`, which may call this machine and knows the providers' names."""
    folder = tmp_path_factory.mktemp("providers")
    port, scripted = free_port(), free_port()
    with ExitStack() as held:
        peers = []
        for name, keys in (("peer", [KEY]), ("open", [])):
            (folder / name).mkdir()
            origin = held.enter_context(running_aimock(folder / name, ROWS, api_keys=keys))
            peers.append(int(origin.rpartition(":")[2]))
        allowed = [f"{host}:{taken}" for host in ("127.0.0.1", *HOSTS) for taken in (*peers, scripted)]
        environ = {
            **stack.environ,
            "DRAGOMAN_GRPC_PORT": str(port),
            "DRAGOMAN_ALLOWED_ENDPOINTS": ",".join(allowed),
        }
        command = [sys.executable, "-m", "tests.e2e.named_server", ",".join(HOSTS)]
        server = held.enter_context(RunningProcess(command, env=environ, log=folder / "server.log"))
        server.wait_for_port(port)
        (folder / "envoy").mkdir()
        envoy = held.enter_context(proxy(folder / "envoy", Address("127.0.0.1", port)))
        settings = msgspec.structs.replace(stack.settings, grpc_port=port)
        here = dataclasses.replace(stack, settings=settings, environ=environ, server=server, envoy=envoy)
        admin = held.enter_context(here.rest("admin"))
        yield House(here, admin, peer=peers[0], open_peer=peers[1], scripted=scripted)
    assert_absent(KEY, folder / "server.log", folder / "envoy" / "envoy.log")


@pytest_asyncio.fixture
async def scripted(house: House) -> AsyncIterator[ScriptedProvider]:
    """A scripted server at the house's port for it."""
    provider = ScriptedProvider()
    await provider.start(house.scripted)
    yield provider
    await provider.stop()


each_provider = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


def user(words: str) -> dict[str, Any]:
    return {"role": "user", "content": words}


@each_way
@each_provider
async def test_text_and_its_counts(house: House, provider: Provider, way: Way) -> None:
    """A question gets the peer's words, to the letter, with its counts."""
    with house.configured(provider, house.port_for(provider)) as config:
        answer = await way(house.stack, config.asks(user("hello"), maxTokens=100))
    assert (answer.text, answer.finish, answer.calls) == (TEXT, "stop", [])
    if provider.peer_counts or way in WHOLE:
        assert (answer.usage["promptTokens"], answer.usage["completionTokens"]) == (3, 7)


@each_way
@each_provider
async def test_a_tool_call_and_the_turn_after_it(house: House, provider: Provider, way: Way) -> None:
    """A tool is called with its arguments, and its result leads to the answer."""
    with house.configured(provider, house.port_for(provider)) as config:
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
async def test_a_rate_limit_says_when_to_come_back(house: House, provider: Provider, way: Way) -> None:
    """429 at the provider is 429 and RESOURCE_EXHAUSTED here, with the provider's own hint."""
    with house.configured(provider, house.port_for(provider)) as config, pytest.raises(Refused) as caught:
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
    with house.configured(provider, house.scripted) as config, pytest.raises(Refused) as caught:
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
    with house.configured(provider, house.scripted) as config:
        response = await asyncio.to_thread(house.admin.post, f"/ai/llm/{config.id}/validate")
    assert (response.status_code, response.json()["success"]) == (200, False)
    assert KEY not in response.text
    (exchange,) = scripted.exchanges
    name, beginning = provider.credential
    assert exchange.headers[name].startswith(beginning)
