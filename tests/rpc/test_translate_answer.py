"""Answers: what is rendered says everything, and comes back with the next request as what it was."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.v1 import chat_pb2 as pb
from server.core import events as ev
from server.core import messages as m
from server.core.errors import ProviderOverloaded
from server.core.stream import ChatResponse, fold
from server.rpc.translate.events import EventRenderer
from server.rpc.translate.parts import fill_answer
from server.rpc.translate.request import chat_request
from server.rpc.translate.response import chat_response, generate_response, generate_text, usage
from server.rpc.validation import RequestValidator

TEXT = st.text(max_size=20)
WORD = st.text("abcXYZ_019", min_size=1, max_size=10)
OPAQUE = st.none() | st.builds(m.Opaque, WORD, WORD, st.binary(max_size=20))
OFFSET = st.none() | st.integers(0, 2**31 - 1)
CITATION = st.builds(m.Citation, st.none() | TEXT, st.none() | TEXT, st.none() | TEXT, OFFSET, OFFSET)
PART = st.one_of(
    st.builds(m.Text, TEXT, st.lists(CITATION, max_size=2).map(tuple), OPAQUE, TEXT),
    st.builds(m.Text, TEXT),
    st.builds(m.Reasoning, TEXT, OPAQUE),
    st.builds(m.ToolCall, WORD, WORD, st.just("{}") | WORD, OPAQUE),
    st.builds(m.ServerTool, TEXT, TEXT, TEXT, TEXT, TEXT, OPAQUE),
)


@settings(deadline=None)
@given(st.lists(PART, max_size=6))
def test_an_answer_comes_back_as_equal_parts(parts: list[m.Part]) -> None:
    turn = pb.Message()
    fill_answer(turn, m.Message("assistant", tuple(parts)))
    body = pb.ChatRequest(messages=[pb.Message(role="user", content="hi"), turn])
    RequestValidator().check(body)
    wire = json_format.Parse(json_format.MessageToJson(body), pb.ChatRequest())
    assert chat_request(wire, stream=False).messages[1] == m.Message("assistant", tuple(parts))


@pytest.mark.parametrize(
    ("parts", "plain"),
    [
        pytest.param([], True, id="empty"),
        pytest.param([m.Text("a")], True, id="text"),
        pytest.param([m.Text("a"), m.ToolCall("c", "f", "{}")], True, id="text and calls"),
        pytest.param([m.ToolCall("c", "f", "{}", m.Opaque("p", "m", b"x"))], True, id="call with signature"),
        pytest.param([m.ToolCall("c", "f", "{}"), m.Text("a")], False, id="call ahead of text"),
        pytest.param([m.Text("a"), m.Text("b")], False, id="two texts"),
        pytest.param([m.Text("")], False, id="empty text block"),
        pytest.param([m.Text("a", (m.Citation("u"),))], False, id="citations"),
        pytest.param([m.Reasoning("r"), m.Text("a")], False, id="reasoning"),
        pytest.param([m.ServerTool("web_search"), m.Text("a")], False, id="server tool"),
    ],
)
def test_the_plain_form_is_used_where_it_says_everything(parts: list[m.Part], plain: bool) -> None:
    turn = pb.Message()
    fill_answer(turn, m.Message("assistant", tuple(parts)))
    assert (len(turn.parts) == 0) is plain


EVENTS: tuple[ev.StreamEvent, ...] = (
    ev.Started("anthropic", "claude-x", "msg_1", "req_1", (ev.Warning("parameter_stripped", "left out", "top_k"),)),
    ev.BlockStart(0, "reasoning"),
    ev.BlockDelta(0, "hm"),
    ev.BlockEnd(0, opaque=m.Opaque("anthropic", "claude-x", b"\0sig")),
    ev.BlockStart(1, "text"),
    ev.BlockDelta(1, "It is "),
    ev.BlockDelta(1, "42."),
    ev.BlockEnd(1, citations=(m.Citation("https://x", "X", "forty-two", 0, 5),), logprobs="[1]"),
    ev.BlockStart(2, "server_tool", "st_1", "search", "server_tool_use"),
    ev.BlockDelta(2, '{"q":1}'),
    ev.BlockEnd(2, output='{"r":2}'),
    ev.BlockStart(3, "tool_call", "c1", "look"),
    ev.BlockDelta(3, '{"a":'),
    ev.BlockDelta(3, "1}"),
    ev.BlockEnd(3),
    ev.Completed(
        "tool_calls",
        "tool_use",
        ev.Usage(10, 0, None, 4),
        "claude-x-1",
        (ev.Warning("approximated", "about", "seed"),),
        '{"service_tier":"standard","n":9007199254740993}',
        "",
    ),
)


def as_json(message: Any) -> Any:
    return json_format.MessageToDict(message)


def test_each_event_is_rendered_whole_and_numbered() -> None:
    renderer = EventRenderer()
    assert [as_json(renderer.render(event)) for event in EVENTS] == [
        {
            "sequence": 1,
            "started": {
                "id": "msg_1",
                "model": "claude-x",
                "provider": "anthropic",
                "providerRequestId": "req_1",
                "warnings": [{"code": "parameter_stripped", "message": "left out", "parameter": "top_k"}],
            },
        },
        {"sequence": 2, "blockStart": {"index": 0, "reasoning": {}}},
        {"sequence": 3, "blockDelta": {"index": 0, "reasoning": "hm"}},
        {
            "sequence": 4,
            "blockEnd": {"index": 0, "opaque": {"provider": "anthropic", "model": "claude-x", "data": "AHNpZw=="}},
        },
        {"sequence": 5, "blockStart": {"index": 1, "text": {}}},
        {"sequence": 6, "blockDelta": {"index": 1, "text": "It is "}},
        {"sequence": 7, "blockDelta": {"index": 1, "text": "42."}},
        {
            "sequence": 8,
            "blockEnd": {
                "index": 1,
                "citations": [{"url": "https://x", "title": "X", "citedText": "forty-two", "start": 0, "end": 5}],
                "logprobsJson": "[1]",
            },
        },
        {
            "sequence": 9,
            "blockStart": {"index": 2, "serverTool": {"type": "server_tool_use", "id": "st_1", "name": "search"}},
        },
        {"sequence": 10, "blockDelta": {"index": 2, "input": '{"q":1}'}},
        {"sequence": 11, "blockEnd": {"index": 2, "outputJson": '{"r":2}'}},
        {"sequence": 12, "blockStart": {"index": 3, "toolCall": {"id": "c1", "name": "look"}}},
        {"sequence": 13, "blockDelta": {"index": 3, "arguments": '{"a":'}},
        {"sequence": 14, "blockDelta": {"index": 3, "arguments": "1}"}},
        {"sequence": 15, "blockEnd": {"index": 3}},
        {
            "sequence": 16,
            "completed": {
                "finishReason": "tool_calls",
                "rawFinishReason": "tool_use",
                "usage": {"promptTokens": 10, "completionTokens": 0, "cachedTokens": 4},
                "model": "claude-x-1",
                "warnings": [{"code": "approximated", "message": "about", "parameter": "seed"}],
                "providerMetadata": {"service_tier": "standard", "n": "9007199254740993"},
            },
        },
    ]


def test_the_whole_answer_is_the_sum_of_the_events() -> None:
    answer = as_json(chat_response(fold(EVENTS)))
    opaque = {"provider": "anthropic", "model": "claude-x", "data": "AHNpZw=="}
    assert answer == {
        "text": "It is 42.",
        "finishReason": "tool_calls",
        "usage": {"promptTokens": 10, "completionTokens": 0, "cachedTokens": 4},
        "model": "claude-x-1",
        "toolCalls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}],
        "reasoning": "hm",
        "message": {
            "role": "assistant",
            "parts": [
                {"reasoning": {"text": "hm", "opaque": opaque}},
                {
                    "text": {
                        "text": "It is 42.",
                        "citations": [
                            {"url": "https://x", "title": "X", "citedText": "forty-two", "start": 0, "end": 5}
                        ],
                        "logprobsJson": "[1]",
                    }
                },
                {
                    "serverTool": {
                        "type": "server_tool_use",
                        "id": "st_1",
                        "name": "search",
                        "inputJson": '{"q":1}',
                        "outputJson": '{"r":2}',
                    }
                },
                {"toolCall": {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}},
            ],
        },
        "rawFinishReason": "tool_use",
        "provider": "anthropic",
        "id": "msg_1",
        "warnings": [
            {"code": "parameter_stripped", "message": "left out", "parameter": "top_k"},
            {"code": "approximated", "message": "about", "parameter": "seed"},
        ],
        "providerMetadata": {"service_tier": "standard", "n": "9007199254740993"},
        "providerRequestId": "req_1",
    }


def answer(text: str) -> ChatResponse:
    parts = (ev.BlockStart(0, "text"), ev.BlockDelta(0, text), ev.BlockEnd(0)) if text else ()
    return fold((ev.Started("p", "mm"), *parts, ev.Completed("stop", "stop", ev.Usage())))


def test_generate_answers_the_text_as_json_and_bare() -> None:
    assert as_json(generate_response(answer("Grüße"))) == {
        "text": "Grüße",
        "model": "mm",
        "finishReason": "stop",
        "usage": {},
        "rawFinishReason": "stop",
        "provider": "p",
    }
    body = generate_text(answer("Grüße"))
    assert (body.content_type, body.data) == ("text/plain; charset=utf-8", "Grüße".encode())


def test_an_empty_answer_still_has_its_text_and_message() -> None:
    rendered = as_json(chat_response(answer("")))
    assert (rendered["text"], rendered["message"]) == ("", {"role": "assistant"})


def test_a_count_that_is_no_count_is_as_if_not_reported() -> None:
    assert as_json(usage(ev.Usage(2**31, 2**31 - 1, -(2**40)))) == {"completionTokens": 2**31 - 1}


def test_a_failure_in_band_says_what_the_status_would() -> None:
    error = ProviderOverloaded("No capacity.", provider="openai", retry_after=3.0)
    rendered = EventRenderer("call-1").render(ev.Failed(error, ev.Usage(7))).failed
    assert (rendered.code, rendered.status, rendered.message) == (14, "UNAVAILABLE", "No capacity.")
    assert as_json(rendered.usage) == {"promptTokens": 7}
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert rendered.details[0].Unpack(info)
    assert rendered.details[1].Unpack(retry)
    assert info.reason == "PROVIDER_OVERLOADED"
    assert info.metadata["request_id"] == "call-1"
    assert retry.retry_delay.seconds == 3
