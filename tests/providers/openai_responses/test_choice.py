"""Which of a server's two APIs a call goes by."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.messages import ChatRequest, HostedTool, Message, Reasoning, Text, ToolCall
from server.core.ports import ProviderTarget
from server.core.stream import fold
from server.providers.registry import ProviderRegistry
from server.providers.transport.fake import FakeTransport
from server.providers.wire import Exchange
from tests.providers.openai_responses.support import (
    HI,
    KEY,
    both,
    call,
    completed,
    kept,
    message,
    response,
    said,
    sse,
    target,
    thought,
)  # fmt: skip

SEARCH = ChatRequest(messages=HI, hosted_tools=(HostedTool("web_search"),))
LATER = ChatRequest(
    messages=(*HI, Message("assistant", (Reasoning("", kept(thought(), slug="xai")), Text("Yes."))), *HI)
)
ASK = ChatRequest(messages=HI)
AZURE = "https://r.openai.azure.com"

CHOICES: list[tuple[ProviderTarget, ChatRequest, str]] = [
    (target(), ASK, "https://api.openai.com/v1/responses"),
    (target(), SEARCH, "https://api.openai.com/v1/responses"),
    (target(wire="chat"), ASK, "https://api.openai.com/v1/chat/completions"),
    (target(endpoint="https://proxy.example/v1"), ASK, "https://proxy.example/v1/responses"),
    (target(endpoint=AZURE), ASK, f"{AZURE}/openai/v1/chat/completions"),
    (target(endpoint=AZURE), SEARCH, f"{AZURE}/openai/v1/responses"),
    (target("xai"), ASK, "https://api.x.ai/v1/chat/completions"),
    (target("xai"), SEARCH, "https://api.x.ai/v1/responses"),
    (target("xai"), LATER, "https://api.x.ai/v1/responses"),
    (target("xai", wire="chat"), LATER, "https://api.x.ai/v1/chat/completions"),
]


@pytest.mark.parametrize(("to", "request_", "url"), CHOICES)
def test_the_api_of_a_call(to: ProviderTarget, request_: ChatRequest, url: str) -> None:
    """OpenAI: Responses unless `legacy`. xAI and Azure: Responses for server tools, and in a conversation that had
    them; Chat Completions otherwise."""
    assert both(to.provider).build_request(call(request_, to=to)).http.url == url


def test_azures_key_travels_in_its_own_header() -> None:
    """In both APIs."""
    for request in (ASK, SEARCH):
        headers = dict(both().build_request(call(request, to=target(endpoint=AZURE))).http.headers)
        assert headers["api-key"] == KEY
        assert "authorization" not in headers


CHAT = {"choices": [{"message": {"content": "by chat"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("wire", "document", "text"),
    [("chat", CHAT, "by chat"), ("", response("completed", [message("by responses")]), "by responses")],
)
def test_an_answer_is_read_by_the_api_that_was_asked(wire: str, document: dict[str, Any], text: str) -> None:
    """Whole and streamed: the choice depends on the call alone."""
    wanted = call(to=target(wire=wire))
    events = both().parse_response(Exchange(wanted, 200, {}), json.dumps(document).encode())
    assert fold(events).text == text
    chat = b'data: {"choices":[{"delta":{"content":"by chat"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    streamed = chat if wire else sse(*said(0, "by responses"), completed())
    parser = both().stream_parser(Exchange(wanted, 200, {}))
    assert fold(parser.feed(streamed)).text == text


def test_what_responses_kept_of_a_call_does_not_reach_chat_completions() -> None:
    """`legacy` in the middle of a conversation: the call goes on without it, and nothing else of the turn is lost."""
    turn = Message("assistant", (Text("a"), ToolCall("c", "f", "{}", opaque=kept({"namespace": "n"}))))
    built = both().build_request(call(ChatRequest(messages=(*HI, turn)), to=target(wire="chat")))
    sent = json.loads(built.http.body)["messages"][1]
    assert sent["tool_calls"] == [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert sent["content"] == "a"


@pytest.mark.parametrize(
    ("slug", "endpoint", "url"),
    [
        ("openai", None, "https://api.openai.com/v1/models"),
        ("openai", AZURE, f"{AZURE}/openai/v1/models"),
        ("xai", None, "https://api.x.ai/v1/models"),
    ],
)
def test_models_and_validation_are_the_same_for_both(slug: str, endpoint: str | None, url: str) -> None:
    """One list, free of tokens."""
    to = target(slug, endpoint=endpoint)
    assert both(slug).build_list_models(to).url == both(slug).build_validate(to).url == url
    assert both(slug).parse_models(b'{"data":[{"id":"a"}]}').models[0].name == "a"


@pytest.mark.parametrize("slug", ["openai", "xai"])
def test_the_registry_knows_them(slug: str) -> None:
    """By their slugs."""
    registry = ProviderRegistry(FakeTransport())
    assert registry.get(slug) is registry.get(slug)
