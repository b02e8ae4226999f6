"""A broken limit is told with its field, what is allowed and what came; texts and credentials are never repeated."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from dragoman.v1 import chat_pb2 as pb
from dragoman.v1 import llm_service_pb2 as llm_pb
from dragoman.v1 import model_service_pb2 as model_pb
from dragoman.v1 import provider_config_service_pb2 as config_pb
from server.core.errors import InvalidRequest
from server.rpc.validation import MOST_VIOLATIONS, RequestValidator

HI = {"role": "user", "content": "hi"}


def chat(**members: Any) -> pb.ChatRequest:
    return json_format.ParseDict({"messages": [HI], **members}, pb.ChatRequest())


def said(request: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as caught:
        RequestValidator().check(request)
    return [(violation.field, violation.description) for violation in caught.value.violations]


ROLES = "must be one of system, developer, user, assistant, tool"
PROVIDERS = "must be one of openai, anthropic, bedrock, groq, gemini, xai, custom"


@pytest.mark.parametrize(
    ("request_", "field", "description"),
    [
        (chat(temperature=3), "temperature", "must be between 0 and 2 (got 3)"),
        (chat(temperature="NaN"), "temperature", "must be between 0 and 2 (got nan)"),
        (chat(frequencyPenalty=-2.5), "frequency_penalty", "must be between -2 and 2 (got -2.5)"),
        (chat(topP=1.01), "top_p", "must be between 0 and 1 (got 1.01)"),
        (chat(maxTokens=0), "max_tokens", "must be at least 1 (got 0)"),
        (chat(messages=[]), "messages", "must not be empty"),
        (chat(messages=[{"role": "martian"}]), "messages[0].role", f"{ROLES} (got 'martian')"),
        (chat(messages=[{"content": "x"}]), "messages[0].role", f"{ROLES} (got '')"),
        (chat(messages=[{"role": "a b canary"}]), "messages[0].role", f"{ROLES} (got 10 characters)"),
        (
            chat(messages=[{"role": "user", "content": "c" * 400_001}]),
            "messages[0].content",
            "must be at most 400000 characters (got 400001)",
        ),
        (chat(provider="openay"), "provider", f"{PROVIDERS} (got 'openay')"),
        (chat(stop=["x", ""]), "stop[1]", "must not be empty"),
        (chat(tools=[{}]), "tools[0].function", "must be given"),
        (
            chat(messages=[{"role": "user", "parts": [{}]}]),
            "messages[0].parts[0]",
            "must hold one of text, image, document, audio, reasoning, tool_call, server_tool",
        ),
        (
            chat(messages=[{**HI, "parts": [{"text": {"text": "x"}}]}]),
            "messages[0]",
            "give content or parts, not both",
        ),
        (chat(toolChoice={"mode": "auto"}), "", "tool_choice needs tools or server_tools"),
        (llm_pb.GenerateRequest(), "prompt", "must not be empty"),
        (
            llm_pb.GenerateRequest(prompt="p" * 400_001),
            "prompt",
            "must be at most 400000 characters (got 400001)",
        ),
        (model_pb.ListModelsRequest(kind="image"), "kind", "must be one of chat, embedding (got 'image')"),
        (model_pb.ListModelsRequest(page_size=-1), "page_size", "must be between 0 and 1000 (got -1)"),
        (
            config_pb.CreateProviderConfigRequest(name="n", ai_type="openai"),
            "ai_type",
            "must be one of OPENAI, GOOGLE, ANTHROPIC, AWS, OTHER (got 'openai')",
        ),
        (
            config_pb.CreateProviderConfigRequest(name="n", ai_type="OTHER", secret="canary" * 3000),
            "secret",
            "must be at most 16384 characters",
        ),
    ],
)
def test_a_broken_limit_is_told_in_words(request_: Any, field: str, description: str) -> None:
    assert said(request_) == [(field, description)]
    assert "canary" not in description


@pytest.mark.parametrize(
    "request_",
    [
        chat(),
        chat(provider="OpenAI", temperature=2, topP=0, stop=["x"], toolChoice={"mode": "none"}, serverTools=["w"]),
        llm_pb.GenerateRequest(prompt="p" * 400_000),
        config_pb.UpdateProviderConfigRequest(id="x"),
        model_pb.ListModelsRequest(),
    ],
)
def test_what_the_contract_allows_passes(request_: Any) -> None:
    RequestValidator().check(request_)


def test_the_message_names_the_first_ones_and_counts_the_rest() -> None:
    with pytest.raises(InvalidRequest) as caught:
        RequestValidator().check(chat(messages=[{"role": "x"}] * 100))
    assert caught.value.message.count("must be one of") == 3
    assert caught.value.message.endswith("; and 97 more")
    assert len(caught.value.violations) == MOST_VIOLATIONS
