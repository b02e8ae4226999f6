"""The whole way below the services, registry to real transport: to a scripted server, and to one not written here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from server.core.errors import (
    ProviderOverloaded,
    ProviderPermissionDenied,
    ProviderProtocolError,
    ProviderRateLimited,
    ProviderUnauthenticated,
)
from server.core.events import Failed, StreamEvent
from server.core.messages import ChatRequest, Message, Text, Tool, ToolResult
from server.core.ports import CallTimeouts, ListedModel, ProviderCall
from server.core.stream import ChatResponse, fold
from server.providers.bedrock.signing import AccessKey, authorization
from server.providers.http import HttpRequest
from server.providers.registry import ProviderRegistry
from server.providers.transport.client import HttpTransport
from tests.providers.bedrock.support import (
    API_KEY,
    KEY_ID,
    SECRET_KEY,
    call,
    document,
    ending,
    exception,
    of,
    start,
    target,
    text,
)
from tests.support.aimock import StartAimock
from tests.support.scripted import CloseConnection, Reply, ScriptedProvider, Silence, Step

MODEL = "anthropic.claude-x-v1:0"
WEATHER = Tool("get_weather", "The weather.", '{"type":"object","properties":{"city":{"type":"string"}}}')


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[ProviderRegistry]:
    transport = HttpTransport()
    yield ProviderRegistry(transport)
    await transport.aclose()


def frames(*steps: Step) -> Reply:
    return Reply(steps, headers={"content-type": "application/vnd.amazon.eventstream"})


def ask(origin: str, *messages: Message, stream: bool = True, **fields: Any) -> ProviderCall:
    return call(ChatRequest(messages=messages, **fields), stream=stream, model=MODEL, to=target(endpoint=origin))


def say(words: str) -> Message:
    return Message("user", (Text(words),))


async def events_of(registry: ProviderRegistry, wanted: ProviderCall) -> list[StreamEvent]:
    return [event async for batch in registry.get("bedrock").chat(wanted) for event in batch]


async def response_of(registry: ProviderRegistry, wanted: ProviderCall) -> ChatResponse:
    return fold(await events_of(registry, wanted))


async def test_a_stream_from_a_real_server(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """Written in pieces that cut frames; the request is as it should be, the path as it was encoded."""
    body = start() + text(0, "é😀", "!") + ending()
    scripted_provider.reply(frames(body[:7], body[7:100], body[100:101], body[101:]))
    response = await response_of(registry, ask(scripted_provider.origin, say("Grüße 😀")))
    assert (response.text, response.usage.total_tokens) == ("é😀!", 10)
    (exchange,) = scripted_provider.exchanges
    assert (exchange.method, exchange.path) == ("POST", "/model/anthropic.claude-x-v1%3A0/converse-stream")
    assert exchange.headers["authorization"] == f"Bearer {API_KEY}"
    assert json.loads(exchange.body) == {"messages": [{"role": "user", "content": [{"text": "Grüße 😀"}]}]}


async def test_what_arrives_is_what_was_signed(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """The signature, computed once more from what the server received: path, headers and body."""
    scripted_provider.reply(Reply([json.dumps(document({"text": "ok"})).encode()]))
    to = target(endpoint=scripted_provider.origin, key=KEY_ID, secret=SECRET_KEY)
    wanted = call(ChatRequest(messages=(say("é"),)), stream=False, model=MODEL, to=to)
    assert (await response_of(registry, wanted)).text == "ok"
    (exchange,) = scripted_provider.exchanges
    sent = exchange.headers
    names = ("content-type", "host", "x-amz-content-sha256", "x-amz-date")
    assert f"SignedHeaders={';'.join(names)}" in sent["authorization"]
    received = HttpRequest(
        exchange.method,
        scripted_provider.origin + exchange.path,
        tuple((name, sent[name]) for name in names),
        exchange.body,
    )
    key = AccessKey(KEY_ID, SECRET_KEY)
    assert sent["authorization"] == authorization(received, key, stamp=sent["x-amz-date"], region="us-east-1")


async def test_refusals_and_errors_in_a_stream(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """A bad key as JSON to a streaming call, a stream that begins with an exception, and answers that break off."""
    refused = Reply(
        [b'{"message":"The security token included in the request is invalid."}'],
        403,
        {"content-type": "application/json", "x-amzn-errortype": "UnrecognizedClientException"},
    )
    overloaded = exception("serviceUnavailableException", message="later")
    part = start() + text(0, "par")
    scripted_provider.reply(refused, frames(start() + overloaded), frames(part, overloaded))
    scripted_provider.reply(frames(part, CloseConnection()), frames(part))
    wanted = ask(scripted_provider.origin, say("x"))
    with pytest.raises(ProviderUnauthenticated):
        await events_of(registry, wanted)
    with pytest.raises(ProviderOverloaded):
        await events_of(registry, wanted)
    for _ in range(3):
        (failed,) = of(await events_of(registry, wanted), Failed)
        assert failed.error.retryable


async def test_going_away_hangs_up(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """A closed iterator is a closed connection at the provider."""
    scripted_provider.reply(frames(start() + text(0, "a"), Silence()))
    stream = registry.get("bedrock").chat(ask(scripted_provider.origin, say("x")))
    await anext(stream)
    await stream.aclose()
    await scripted_provider.wait_for_hangup()


async def test_models_come_from_two_lists(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """Foundation models that can be called by their id, then the profiles page by page; validation asks for the first
    list alone."""
    pages = [
        {"modelSummaries": [{"modelId": "amazon.a", "modelName": "A"}, {"modelName": "nameless"}]},
        {
            "inferenceProfileSummaries": [
                {"inferenceProfileId": "us.b", "inferenceProfileName": "US B", "type": "SYSTEM_DEFINED"}
            ],
            "nextToken": "n=1",
        },
        {
            "inferenceProfileSummaries": [
                {"inferenceProfileId": "x1", "inferenceProfileArn": "arn:x1", "type": "APPLICATION"}
            ]
        },
    ]
    scripted_provider.reply(*(Reply([json.dumps(page).encode()]) for page in [*pages, pages[0]]))
    provider, to = registry.get("bedrock"), target(endpoint=scripted_provider.origin)
    assert await provider.list_models(to, CallTimeouts()) == [
        ListedModel("amazon.a", "A"), ListedModel("us.b", "US B"), ListedModel("arn:x1"),
    ]  # fmt: skip
    await provider.validate(to, CallTimeouts())
    assert [exchange.path for exchange in scripted_provider.exchanges] == [
        "/foundation-models?byInferenceType=ON_DEMAND&byOutputModality=TEXT",
        "/inference-profiles?maxResults=1000",
        "/inference-profiles?maxResults=1000&nextToken=n%3D1",
        "/foundation-models?byInferenceType=ON_DEMAND&byOutputModality=TEXT",
    ]


async def test_a_key_that_is_bad_and_one_that_may_not_list(
    registry: ProviderRegistry, scripted_provider: ScriptedProvider
) -> None:
    """Both are 403; the type tells them apart, and the second is told what to allow."""
    for type in ("UnrecognizedClientException", "AccessDeniedException"):
        scripted_provider.reply(Reply([b'{"message":"no"}'], 403, {"x-amzn-errortype": type}))
    provider, to = registry.get("bedrock"), target(endpoint=scripted_provider.origin)
    with pytest.raises(ProviderUnauthenticated):
        await provider.validate(to, CallTimeouts())
    with pytest.raises(ProviderPermissionDenied) as caught:
        await provider.validate(to, CallTimeouts())
    assert "bedrock:ListFoundationModels" in caught.value.message


def test_botocore_comes_with_the_adapter_and_its_client_never() -> None:
    """Nothing of it before Bedrock is asked for; then the signer and the frames, not the client that blocks."""
    code = (
        "import sys\n"
        "from server.providers.registry import ProviderRegistry\n"
        "registry = ProviderRegistry(None)\n"
        "assert 'botocore' not in sys.modules\n"
        "registry.get('bedrock')\n"
        "print([name for name in ('botocore.auth', 'botocore.client', 'botocore.session') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['botocore.auth']"


PEER = [
    {"match": {"toolCallId": "tooluse_peer"}, "response": {"content": "It is sunny."}},
    {"match": {"userMessage": "hello"}, "response": {"content": "Hi there, Grüße 😀! " * 20}},
    {
        "match": {"userMessage": "weather"},
        "response": {
            "content": "Let me look.",
            "toolCalls": [
                {"id": "tooluse_peer", "name": "get_weather", "arguments": '{"city":"Zürich"}'},
                {"id": "tooluse_two", "name": "get_weather", "arguments": "{}"},
            ],
            "usage": {"input_tokens": 12, "output_tokens": 8},
        },
    },
    {"match": {"userMessage": "think"}, "response": {"content": "42", "reasoning": "Let me see."}},
    {
        "match": {"userMessage": "slow"},
        "response": {"error": {"type": "ThrottlingException", "message": "slow down"}, "status": 429},
    },
]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_server_that_was_not_written_here_is_understood(
    registry: ProviderRegistry, aimock: StartAimock, stream: bool
) -> None:
    """aimock: text, thoughts, two calls at once and the results of both, a rate limit; as a stream and at once."""
    origin = aimock(PEER)
    assert (await response_of(registry, ask(origin, say("hello"), stream=stream))).text == "Hi there, Grüße 😀! " * 20
    thought = await response_of(registry, ask(origin, say("think"), stream=stream))
    assert (thought.reasoning, thought.text, thought.finish_reason) == ("Let me see.", "42", "stop")
    first = await response_of(registry, ask(origin, say("weather"), stream=stream, tools=(WEATHER,)))
    assert (first.text, first.finish_reason, first.usage.total_tokens) == ("Let me look.", "tool_calls", 20)
    assert [(one.id, json.loads(one.arguments)) for one in first.tool_calls] == [
        ("tooluse_peer", {"city": "Zürich"}), ("tooluse_two", {}),
    ]  # fmt: skip
    assert first.warnings == ()
    results = tuple(ToolResult(one.id, (Text("sunny"),)) for one in reversed(first.tool_calls))
    turn = ask(origin, say("weather"), first.message, Message("tool", results), stream=stream, tools=(WEATHER,))
    assert (await response_of(registry, turn)).text == "It is sunny."
    with pytest.raises(ProviderRateLimited):
        await events_of(registry, ask(origin, say("slow"), stream=stream))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_server_that_talks_nonsense_is_not_taken_at_its_word(
    registry: ProviderRegistry, aimock: StartAimock, stream: bool
) -> None:
    """aimock with every answer malformed: a good status, and no protocol."""
    origin = aimock(PEER, "--chaos-malformed", "1")
    with pytest.raises(ProviderProtocolError):
        await response_of(registry, ask(origin, say("hello"), stream=stream))
