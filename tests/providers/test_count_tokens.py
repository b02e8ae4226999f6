"""Counting tokens on every wire: what goes out, what is made of the answers, and what is refused before that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from server.core.errors import ProviderProtocolError, ProviderRateLimited, UnsupportedParameter
from server.core.messages import ChatRequest, Message, Passthrough, Text, Tool, ToolChoice
from server.core.ports import ProviderCall, ProviderTarget, TokenCount
from server.core.secret import Secret
from server.providers.registry import ProviderRegistry
from server.providers.transport.client import HttpTransport
from server.providers.transport.fake import FakeReply, FakeTransport
from tests.support.scripted import Reply, ScriptedProvider

KEY = "sk-canary-counts-0123456789"
VERTEX = "https://europe-west4-aiplatform.googleapis.com/v1beta1/projects/p/locations/europe-west4"
PUBLISHER = f"{VERTEX}/publishers/google/models/m:countTokens"
CLAUDE = "anthropic.claude-haiku-4-5-20251001-v1:0"
BEDROCK = f"https://bedrock-runtime.us-east-1.amazonaws.com/model/{CLAUDE.replace(':', '%3A')}/count-tokens"
TOOL = Tool("look", "Looks.", '{"type":"object"}')


def call(slug: str, model: str = "m", endpoint: str | None = None, **fields: Any) -> ProviderCall:
    key = Secret("AKIDEXAMPLE") if slug == "bedrock" else None
    target = ProviderTarget(provider=slug, config_id="c", endpoint=endpoint, secret=Secret(KEY), key=key)
    given: dict[str, Any] = {"messages": (Message("user", (Text("Hi"),)),), "model": f"{slug}/{model}"}
    given |= {"system": "Be brief.", "tools": (TOOL,), "tool_choice": ToolChoice("required"), "max_tokens": 99}
    return ProviderCall(target=target, request=ChatRequest(**(given | fields)), model=model, stream=False)


async def run(wanted: ProviderCall, answer: object, status: int = 200, **headers: str) -> tuple[TokenCount, Any]:
    """The count, and the transport with what was sent."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    transport = FakeTransport(FakeReply(status=status, headers=given, chunks=[json.dumps(answer).encode()]))
    return await ProviderRegistry(transport).get(wanted.target.provider).count_tokens(wanted), transport


@pytest.mark.parametrize(
    ("slug", "model", "endpoint", "answer", "url", "at", "names"),
    [
        (
            "anthropic", "m", None, {"input_tokens": 17}, "https://api.anthropic.com/v1/messages/count_tokens", (),
            {"model", "messages", "system", "tools", "tool_choice"},
        ),
        (
            "gemini", "m", None, {"totalTokens": 17, "cachedContentTokenCount": 3},
            "https://generativelanguage.googleapis.com/v1beta/models/m:countTokens", ("generateContentRequest",),
            {"model", "contents", "systemInstruction", "tools", "toolConfig", "generationConfig"},
        ),
        (
            "gemini", "m", VERTEX, {"totalTokens": 17, "totalBillableCharacters": 9}, PUBLISHER, (),
            {"contents", "systemInstruction", "tools", "generationConfig"},
        ),
        (
            "bedrock", CLAUDE, None, {"inputTokens": 17}, BEDROCK, ("input", "converse"),
            {"messages", "system", "toolConfig"},
        ),
        (
            "bedrock", f"us.{CLAUDE}", None, {"inputTokens": 17}, BEDROCK, ("input", "converse"),
            {"messages", "system", "toolConfig"},
        ),
        (
            "openai", "m", None, {"object": "response.input_tokens", "input_tokens": 17},
            "https://api.openai.com/v1/responses/input_tokens", (),
            {"model", "input", "instructions", "tools", "tool_choice"},
        ),
    ],
    ids=["anthropic", "gemini", "vertex", "bedrock", "bedrock-profile", "openai"],
)  # fmt: skip
async def test_what_goes_out_is_the_input_of_the_call_and_what_comes_back_its_count(
    slug: str, model: str, endpoint: str | None, answer: object, url: str, at: tuple[str, ...], names: set[str]
) -> None:
    found, transport = await run(call(slug, model, endpoint, temperature=0.5, stop=()), answer)
    assert found == TokenCount(input_tokens=17, provider=slug, model=model)
    (sent,) = transport.requests
    assert (sent.method, sent.url) == ("POST", url)
    body = json.loads(sent.body)
    for name in at:
        assert list(body) == [name]
        body = body[name]
    assert set(body) == names


async def test_a_model_of_the_gemini_api_is_named_in_full() -> None:
    _, transport = await run(call("gemini"), {"totalTokens": 1})
    assert json.loads(transport.requests[0].body)["generateContentRequest"]["model"] == "models/m"


async def test_betas_and_unknown_members_reach_the_wire_that_they_are_of() -> None:
    """Anthropic's own members are counted too; elsewhere each is a warning."""
    passed = Passthrough("anthropic_messages", {"": '{"betas":["new-2026"],"mcp_servers":[{"name":"x"}]}'})
    _, transport = await run(call("anthropic", passthrough=passed), {"input_tokens": 1})
    (sent,) = transport.requests
    assert dict(sent.headers)["anthropic-beta"].startswith("new-2026,mcp-client-")
    assert json.loads(sent.body)["mcp_servers"] == [{"name": "x"}]
    found, _ = await run(call("gemini", passthrough=passed), {"totalTokens": 1})
    assert any("mcp_servers" in warning.parameter for warning in found.warnings)


@pytest.mark.parametrize(
    ("slug", "endpoint"),
    [("custom", "https://llm.example/v1"), ("groq", None), ("xai", None), ("openai", "https://x.openai.azure.com")],
)
async def test_a_provider_without_a_count_is_an_error_and_no_estimate(slug: str, endpoint: str | None) -> None:
    transport = FakeTransport()
    with pytest.raises(UnsupportedParameter, match="counts no tokens"):
        await ProviderRegistry(transport).get(slug).count_tokens(call(slug, endpoint=endpoint))
    assert transport.requests == []


@pytest.mark.parametrize("slug", ["anthropic", "gemini", "bedrock", "openai"])
@pytest.mark.parametrize(
    "answer",
    [{}, [], {"input_tokens": -1, "totalTokens": -1, "inputTokens": -1}, {"input_tokens": None}, "17"],
    ids=["empty", "a list", "negative", "null", "text"],
)
async def test_an_answer_without_a_count_is_an_error(slug: str, answer: object) -> None:
    with pytest.raises(ProviderProtocolError):
        await run(call(slug, CLAUDE), answer)


@pytest.mark.parametrize("slug", ["anthropic", "gemini", "bedrock", "openai"])
async def test_a_refusal_is_that_of_any_call(slug: str) -> None:
    with pytest.raises(ProviderRateLimited) as caught:
        await run(call(slug, CLAUDE), {"message": "slower"}, status=429, retry_after="7", request_id="r_1")
    assert (caught.value.retry_after, caught.value.provider) == (7.0, slug)


@pytest.mark.parametrize(
    ("slug", "path", "answer", "wanted_path"),
    [
        ("anthropic", "", {"input_tokens": 17}, "/v1/messages/count_tokens"),
        ("gemini", "", {"totalTokens": 17}, "/v1beta/models/m:countTokens"),
        ("bedrock", "", {"inputTokens": 17}, "/model/m/count-tokens"),
        ("openai", "/v1", {"input_tokens": 17}, "/v1/responses/input_tokens"),
    ],
)
async def test_the_whole_way_over_http(
    scripted_provider: ScriptedProvider, slug: str, path: str, answer: Mapping[str, int], wanted_path: str
) -> None:
    """Registry, runner and real transport, to a real server."""
    scripted_provider.reply(Reply([json.dumps(answer).encode()]))
    transport = HttpTransport()
    try:
        found = (
            await ProviderRegistry(transport)
            .get(slug)
            .count_tokens(call(slug, endpoint=scripted_provider.origin + path))
        )
    finally:
        await transport.aclose()
    assert found.input_tokens == 17
    (exchange,) = scripted_provider.exchanges
    assert (exchange.method, exchange.path, exchange.outcome) == ("POST", wanted_path, "answered")
