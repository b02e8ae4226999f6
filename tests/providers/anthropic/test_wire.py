"""Around the body: addresses, credentials, whole answers, the list of models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.errors import NotConfigured, ProviderProtocolError, StreamTruncated
from server.core.events import BlockStart, Completed, Started
from server.core.ports import ListedModel
from server.core.stream import fold
from tests.providers.anthropic.support import (
    KEY,
    answer,
    build,
    call,
    closed,
    ending,
    of,
    opened,
    piece,
    run,
    sse,
    start,
    target,
    text,
    wire,
)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (None, "https://api.anthropic.com/v1/messages"),
        ("https://llm.example", "https://llm.example/v1/messages"),
        ("https://llm.example/v1", "https://llm.example/v1/messages"),
        ("https://llm.example/anthropic/", "https://llm.example/anthropic/v1/messages"),
        ("https://llm.example/anthropic/v1/messages", "https://llm.example/anthropic/v1/messages"),
    ],
)
def test_calls_go_to_the_endpoint(endpoint: str | None, url: str) -> None:
    """An endpoint may be the server, its API's root or the call itself."""
    assert wire().build_request(call(to=target(endpoint=endpoint))).http.url == url


def test_headers_of_a_call() -> None:
    """Key, version, and what is wanted back."""
    headers = dict(build(stream=True).http.headers)
    assert headers == {
        "x-api-key": KEY,
        "anthropic-version": "2023-06-01",
        "content-type": "application/json",
        "accept": "text/event-stream",
    }


def test_an_access_token_goes_as_bearer() -> None:
    """Tokens of Workload Identity Federation are no API keys."""
    token = "sk-ant-oat01-canary"
    headers = dict(wire().build_request(call(to=target(key=token))).http.headers)
    assert headers["authorization"] == f"Bearer {token}"
    assert "x-api-key" not in headers


def test_only_a_server_of_one_s_own_does_without_a_key() -> None:
    """Anthropic is not called without one; a local server is."""
    with pytest.raises(NotConfigured):
        wire().build_request(call(to=target(key=None)))
    built = wire().build_request(call(to=target(endpoint="https://llm.example", key=None)))
    assert not {"x-api-key", "authorization"} & dict(built.http.headers).keys()


MESSAGE: dict[str, Any] = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "model": "claude-x-1",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "text", "text": "So."},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 5},
}


def test_a_whole_answer_and_its_stream_come_to_the_same() -> None:
    """The same message, at once and in pieces: one result."""
    events = [
        start(input_tokens=3, cache_read_input_tokens=4, output_tokens=1),
        opened(0, "thinking", thinking="", signature=""),
        piece(0, "thinking_delta", thinking="Hm."),
        piece(0, "signature_delta", signature="c2ln"),
        closed(0),
        *text(1, "So."),
        opened(2, "tool_use", id="toolu_1", name="f", input={}),
        piece(2, "input_json_delta", partial_json='{"x": 1}'),
        closed(2),
        opened(3, "tool_use", id="toolu_2", name="g", input={}),
        closed(3),
        opened(4, "server_tool_use", id="srvtoolu_1", name="web_search", input={}),
        piece(4, "input_json_delta", partial_json='{"query": "q"}'),
        closed(4),
        *ending("tool_use", {"output_tokens": 5}),
    ]
    assert fold(answer(MESSAGE)) == fold(run(sse(*events)))


def test_an_answer_without_content_is_an_answer() -> None:
    """A refusal and a pre-warmed cache (max_tokens: 0) have no blocks."""
    events = answer({**MESSAGE, "content": [], "stop_reason": "refusal"})
    assert [type(event) for event in events] == [Started, Completed]
    assert of(answer({**MESSAGE, "content": None, "stop_reason": "max_tokens"}), BlockStart) == []


@pytest.mark.parametrize(
    ("change", "cls"),
    [
        ({"stop_reason": None}, StreamTruncated),
        ({"content": [{"type": "tool_use", "id": "a"}]}, ProviderProtocolError),
        ({"content": [{"text": "x"}]}, ProviderProtocolError),
        ({"content": "x"}, ProviderProtocolError),
    ],
)
def test_an_answer_that_is_not_whole_is_none(change: dict[str, Any], cls: type) -> None:
    """Without a reason why it stopped, or with blocks that cannot be: no answer is made up."""
    with pytest.raises(cls):
        answer({**MESSAGE, **change})


def test_models_are_listed_page_by_page() -> None:
    """Names and limits as the list has them; the next page begins after the last id, and pages end."""
    rows = [
        {"type": "model", "id": "claude-a", "display_name": "A", "max_input_tokens": 200_000, "max_tokens": 64_000},
        {"type": "model", "id": "claude-b"},
        {"type": "model", "id": None},
    ]
    raw = json.dumps({"data": rows, "has_more": True, "last_id": "claude-b"}).encode()
    page = wire().parse_models(raw)
    assert page.models == (ListedModel("claude-a", "A", 200_000, 64_000), ListedModel("claude-b"))
    assert page.next_page == "claude-b"
    assert wire().parse_models(raw, page="claude-b").next_page is None
    assert wire().parse_models(b'{"data":[],"has_more":false,"last_id":null}').next_page is None
    urls = [wire().build_list_models(target(), page).url for page in (None, "claude/b&c")]
    assert urls == [
        "https://api.anthropic.com/v1/models?limit=1000",
        "https://api.anthropic.com/v1/models?limit=1000&after_id=claude%2Fb%26c",
    ]


def test_a_credential_is_tried_without_tokens() -> None:
    """By one row of the list of models, with the credential's header."""
    request = wire().build_validate(target())
    assert (request.method, request.url, request.body) == ("GET", "https://api.anthropic.com/v1/models?limit=1", b"")
    assert dict(request.headers)["x-api-key"] == KEY
