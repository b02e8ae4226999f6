"""The adapter below the services, the whole way: registry, runner and real transport, to a real HTTP server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from server.core.errors import ProviderOverloaded, ProviderRateLimited, ProviderUnauthenticated, StreamTruncated
from server.core.events import Failed, StreamEvent
from server.core.messages import ChatRequest, Message, Text, Tool, ToolResult
from server.core.ports import CallTimeouts, ProviderCall, ProviderTarget
from server.core.secret import Secret
from server.core.stream import ChatResponse, fold
from server.providers.registry import ProviderRegistry
from server.providers.transport.client import HttpTransport
from tests.providers.gemini.support import HI, KEY, chunk, function, sse, text
from tests.support.scripted import CloseConnection, Reply, ScriptedProvider

TOOLS = (Tool("f", parameters='{"type":"object"}'),)


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[ProviderRegistry]:
    transport = HttpTransport()
    yield ProviderRegistry(transport)
    await transport.aclose()


def target(provider: ScriptedProvider, path: str = "") -> ProviderTarget:
    return ProviderTarget(provider="gemini", config_id="c", endpoint=f"{provider.origin}{path}", secret=Secret(KEY))


async def events_of(
    registry: ProviderRegistry, where: ProviderTarget, *turns: Message, stream: bool = True
) -> list[StreamEvent]:
    request = ChatRequest(messages=(*HI, *turns), tools=TOOLS)
    call = ProviderCall(target=where, request=request, model="m", stream=stream)
    return [event async for batch in registry.get("gemini").chat(call) for event in batch]


async def ask(registry: ProviderRegistry, where: ProviderTarget, *turns: Message, stream: bool = True) -> ChatResponse:
    return fold(await events_of(registry, where, *turns, stream=stream))


def document(*parts: dict[str, object]) -> Reply:
    return Reply([json.dumps(chunk(*parts, finish="STOP"), indent=2).encode()])


@pytest.mark.parametrize("stream", [True, False])
async def test_a_conversation_with_a_tool(
    registry: ProviderRegistry, scripted_provider: ScriptedProvider, stream: bool
) -> None:
    """Two turns, in each form: the call's signature and the result reach the provider in the second."""
    call = function("f", {"city": "Åre"}, "sig")
    if stream:
        first = sse(chunk(text("Hm", thought=True)), chunk(call, finish="STOP"))
        scripted_provider.reply(
            Reply.sse(first[:100], first[100:101], first[101:]), Reply.sse(sse(chunk(text("ok"), finish="STOP")))
        )
    else:
        scripted_provider.reply(document(text("Hm", thought=True), call), document(text("ok")))
    asked = await ask(registry, target(scripted_provider), stream=stream)
    (made,) = asked.tool_calls
    result = Message("tool", (ToolResult(made.id, (Text("sunny"),)),))
    assert (await ask(registry, target(scripted_provider), asked.message, result, stream=stream)).text == "ok"
    first_call, second_call = scripted_provider.exchanges
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    assert (first_call.method, first_call.path) == ("POST", f"/v1beta/models/m:{verb}")
    assert first_call.headers["x-goog-api-key"] == KEY
    assert json.loads(second_call.body)["contents"][1:] == [
        {"role": "model", "parts": [text("Hm", thought=True), call]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "sunny"}}}]},
    ]


async def test_refusals_before_an_answer(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """A bad key, a rate limit with its hint in the body, and a list of errors in answer to a streaming request."""
    key = {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": f"bad {KEY}", "details": [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]}}  # fmt: skip
    slow = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow", "details": [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}]}}  # fmt: skip
    full = [{"error": {"code": 503, "status": "UNAVAILABLE", "message": "full"}}]
    for status, said in ((400, key), (429, slow), (200, full)):
        scripted_provider.reply(Reply([json.dumps(said).encode()], status))
    with pytest.raises(ProviderUnauthenticated) as refused:
        await registry.get("gemini").validate(target(scripted_provider), CallTimeouts())
    assert refused.value.provider_message == "bad ***"
    with pytest.raises(ProviderRateLimited) as limited:
        await events_of(registry, target(scripted_provider))
    assert (limited.value.retry_after, limited.value.provider) == (3.0, "gemini")
    with pytest.raises(ProviderOverloaded):
        await events_of(registry, target(scripted_provider))


async def test_a_connection_that_ends_early(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """Without a finish reason the answer failed; with one it is whole, however the connection ended."""
    begun = sse(chunk(text("a")))
    scripted_provider.reply(
        Reply.sse(begun, CloseConnection()), Reply.sse(begun, sse(chunk(finish="STOP")), CloseConnection())
    )
    failed = (await events_of(registry, target(scripted_provider)))[-1]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, StreamTruncated)
    assert (await ask(registry, target(scripted_provider))).text == "a"


async def test_models_page_by_page(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """All pages are read, with the token of each."""
    scripted_provider.reply(
        Reply([b'{"models":[{"name":"models/a"}],"nextPageToken":"t"}']), Reply([b'{"models":[{"name":"models/b"}]}'])
    )
    models = await registry.get("gemini").list_models(target(scripted_provider), CallTimeouts())
    assert [model.name for model in models] == ["a", "b"]
    assert scripted_provider.exchanges[1].path == "/v1beta/models?pageSize=1000&pageToken=t"


async def test_vertex_by_its_path(registry: ProviderRegistry, scripted_provider: ScriptedProvider) -> None:
    """Project and location in the endpoint: the publisher's model, and the secret as a bearer token."""
    scripted_provider.reply(document(text("ok")))
    where = target(scripted_provider, "/v1/projects/p/locations/l")
    assert (await ask(registry, where, stream=False)).text == "ok"
    (exchange,) = scripted_provider.exchanges
    assert exchange.path == "/v1/projects/p/locations/l/publishers/google/models/m:generateContent"
    assert exchange.headers["authorization"] == f"Bearer {KEY}"
    assert "x-goog-api-key" not in exchange.headers
