"""Chat Completions bodies to requests, and answers to completions and chunks."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from server.core import events as ev
from server.core import messages as m
from server.core.errors import InvalidRequest, ProviderUnavailable
from server.core.stream import fold
from server.rpc.compat.openai.answer import ChunkRenderer, completion
from server.rpc.compat.openai.request import read_request

HELLO = {"role": "user", "content": "hello"}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"b": 1, "a": 2.0}}}


def asked(**body: Any) -> m.ChatRequest:
    """The request for a body with these members, `hello` being all that is said unless they say more."""
    return read_request(json.dumps({"model": "m", "messages": [HELLO], **body}).encode()).request


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"stop": "a"}, {"stop": ("a",)}),
        ({"stop": ["a", "b"]}, {"stop": ("a", "b")}),
        ({"stop": None, "n": 1, "temperature": 0}, {"stop": (), "temperature": 0.0}),
        ({"seed": 7, "user": "u", "top_p": 0.5}, {"seed": 7, "user": "u", "top_p": 0.5}),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"reasoning_effort": "low"}, {"thinking": m.Thinking("enabled", effort="low")}),
        ({"reasoning_effort": "none"}, {"thinking": m.Thinking("disabled", effort="none")}),
        ({"tools": [FUNCTION]}, {"tools": (m.Tool("f", parameters='{"b": 1, "a": 2.0}'),)}),
        ({"tools": [FUNCTION], "tool_choice": "required"}, {"tool_choice": m.ToolChoice("required")}),
        (
            {"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"tool_choice": m.ToolChoice("tool", "f")},
        ),
        ({"tools": [{"type": "web_search", "x": 1}]}, {"hosted_tools": (m.HostedTool("web_search", '{"x":1}'),)}),
        ({"web_search_options": {}}, {"hosted_tools": (m.HostedTool("web_search", "{}"),)}),
        ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"response_format": {"type": "json_object"}}, {"response_format": m.ResponseFormat("json_object")}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"a": 1}, "strict": True},
                }
            },
            {"response_format": m.ResponseFormat("json_schema", "n", '{"a": 1}', True)},
        ),
        ({"metadata": {"a": "b"}}, {"passthrough": m.Passthrough("openai_chat", {"": '{"metadata":{"a":"b"}}'})}),
        ({"modalities": ["text"]}, {"passthrough": None}),
    ],
)
def test_members_become_fields(body: dict[str, Any], fields: dict[str, Any]) -> None:
    request = asked(**body)
    assert {name: getattr(request, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "developer", "content": "x"}, m.Message("system", (m.Text("x"),))),
        ({"role": "user", "name": "Ann", "content": "x"}, m.Message("user", (m.Text("x"),), "Ann")),
        (
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "https://e.org/i", "detail": "low"}}],
            },
            m.Message("user", (m.Image(m.Remote("https://e.org/i"), "low"),)),
        ),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAEC", "format": "mp3"}}]},
            m.Message("user", (m.Audio(m.Inline("audio/mpeg", b"\0\1\2")),)),
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {"file_data": "AAEC", "filename": "a.pdf"}}]},
            m.Message("user", (m.Document(m.Inline("application/pdf", b"\0\1\2"), "a.pdf"),)),
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "file_1"}}]},
            m.Message("user", (m.Document(m.Uploaded("file_1")),)),
        ),
        (
            {
                "role": "user",
                "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
            },
            m.Message("user", (m.Text("x", cache=m.CacheControl("1h")),)),
        ),
        ({"role": "assistant", "content": None, "refusal": "no"}, m.Message("assistant", (m.Text("no"),))),
        (
            {"role": "assistant", "reasoning_content": "hm", "content": [{"type": "text", "text": "x"}]},
            m.Message("assistant", (m.Reasoning("hm"), m.Text("x"))),
        ),
    ],
)
def test_messages_become_turns(message: dict[str, Any], expected: m.Message) -> None:
    assert asked(messages=[message]).messages == (expected,)


def test_a_call_and_its_result() -> None:
    """Arguments byte for byte; a server's own data with the call go back to a server of this wire."""
    call: Any = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{ "a":1 }'}}
    call["extra_content"] = {"google": {"thought_signature": "s"}}
    messages = [
        HELLO,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "r"},
    ]
    _, turn, answered = asked(messages=messages).messages
    (part,) = turn.parts
    assert isinstance(part, m.ToolCall)
    assert part.arguments == '{ "a":1 }'
    assert part.opaque is not None
    assert (part.opaque.provider, part.opaque.model) == (m.NATIVE, "openai_chat")
    assert answered == m.Message("tool", (m.ToolResult("c1", (m.Text("r"),)),))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"n": 2}, "n"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "martian", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "messages[0].audio"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages[0].content[0].file"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": 5}}]}, "tools[0].function.name"),
        ({"tools": [{}]}, "tools[0].type"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice.function.name"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ],
)
def test_what_cannot_be_is_refused_by_name(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked(**body)
    assert caught.value.violations[0].field == field


# --- answers ----------------------------------------------------------------------------------------------------------

OPAQUE = m.Opaque("gemini", "g", b"signature")
EVENTS: list[ev.StreamEvent] = [
    ev.Started("gemini", "g-1", "resp_1", warnings=(ev.Warning("parameter_stripped", "seed was left out.", "seed"),)),
    ev.BlockStart(0, "reasoning"),
    ev.BlockDelta(0, "hm"),
    ev.BlockEnd(0, opaque=OPAQUE),
    ev.BlockStart(1, "text"),
    ev.BlockDelta(1, "Hel"),
    ev.BlockDelta(1, "lo"),
    ev.BlockEnd(1, citations=(m.Citation("https://e.org", "E"),), logprobs='{"content":[{"token":"Hello"}]}'),
    ev.BlockStart(2, "tool_call", "c1", "f"),
    ev.BlockEnd(2, opaque=OPAQUE),
    ev.Completed("tool_calls", "STOP", ev.Usage(5, 3, 8, 2)),
]


def chunks(data: bytes) -> list[dict[str, Any]]:
    *frames, done, rest = data.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def whole(events: list[ev.StreamEvent]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec.json.encode(completion(fold(events), id="own", created=1)))
    return found


def streamed(events: list[ev.StreamEvent], *, usage: bool = True) -> list[dict[str, Any]]:
    return chunks(ChunkRenderer(id="own", created=1, include_usage=usage, request_id="req").render(events))


def test_a_whole_answer() -> None:
    """Every part in its member, and beside them what OpenAI has no place for."""
    answer = whole(EVENTS)
    (choice,) = answer["choices"]
    message = choice["message"]
    assert (answer["id"], answer["object"], answer["model"]) == ("resp_1", "chat.completion", "g-1")
    assert (message["role"], message["content"], message["reasoning_content"]) == ("assistant", "Hello", "hm")
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert message["annotations"][0]["url_citation"] == {
        "url": "https://e.org",
        "title": "E",
        "start_index": 0,
        "end_index": 5,
    }
    assert choice["logprobs"] == {"content": [{"token": "Hello"}], "refusal": None}
    assert choice["finish_reason"] == "tool_calls"
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert answer["x_dragoman"]["provider"] == "gemini"
    assert answer["x_dragoman"]["warnings"][0]["parameter"] == "seed"


def test_a_stream_says_what_a_whole_answer_says() -> None:
    """Deltas that add up by name and index, the finish, the counts in an event of their own, [DONE]."""
    answer, (first, *middle, finish, counts) = whole(EVENTS), streamed(EVENTS)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    deltas = [chunk["choices"][0]["delta"] for chunk in middle]
    assert "".join(delta.get("content", "") for delta in deltas) == "Hello"
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "hm"
    pieces = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert "".join(piece["function"]["arguments"] for piece in pieces) == "{}"
    message = answer["choices"][0]["message"]
    assert pieces[-1]["extra_content"] == message["tool_calls"][0]["extra_content"]
    (details,) = [delta["reasoning_details"] for delta in deltas if "reasoning_details" in delta]
    assert details[0]["signature"] == message["reasoning_details"][0]["signature"]
    assert finish["choices"][0]["finish_reason"] == "tool_calls"
    assert finish["x_dragoman"] == answer["x_dragoman"]
    assert (counts["choices"], counts["usage"]) == ([], answer["usage"])
    assert all(chunk["usage"] is None for chunk in [first, *middle, finish])
    assert not any("usage" in chunk for chunk in streamed(EVENTS, usage=False))


def test_an_answer_goes_back_as_it_came() -> None:
    """The message of an answer, sent again, is the turn that it was: signatures with thoughts and calls."""
    message = whole(EVENTS)["choices"][0]["message"]
    (turn,) = asked(messages=[message]).messages
    assert turn.parts == (
        m.Reasoning("hm", OPAQUE),
        m.Text("Hello"),
        m.ToolCall("c1", "f", "{}", OPAQUE),
    )


def test_a_failure_is_the_last_event_and_nothing_is_done() -> None:
    """No [DONE] follows an answer that is not whole."""
    failed = [*EVENTS[:6], ev.Failed(ProviderUnavailable("It broke.", provider="gemini"))]
    data = ChunkRenderer(id="own", created=1, include_usage=True, request_id="req").render(failed)
    *_, last, rest = data.decode().split("\n\n")
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["message"], error["type"], error["x_dragoman"]["request_id"]) == ("It broke.", "server_error", "req")
    assert rest == ""


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (ev.Usage(), None),
        (ev.Usage(prompt_tokens=3), None),
        (ev.Usage(3, 4), {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}),
    ],
)
def test_counts_that_nobody_made_are_not_zero(usage: ev.Usage, expected: dict[str, int] | None) -> None:
    events: list[ev.StreamEvent] = [ev.Started("p", "m"), ev.Completed("stop", "stop", usage)]
    assert whole(events)["usage"] == expected


def test_words_that_openai_does_not_have() -> None:
    """A finish that has no equal is `stop`, as the SDK's types know four words, and the provider's own is beside it."""
    answer = whole([ev.Started("anthropic", "m"), ev.Completed("pause_turn", "pause_turn", ev.Usage())])
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["x_dragoman"]["raw_finish_reason"] == "pause_turn"


def test_what_a_server_of_the_wire_says_stays() -> None:
    """Its own counts, its signatures as they were."""
    native = b'{"google":{"thought_signature":"s"}}'
    events: list[ev.StreamEvent] = [
        ev.Started("groq", "m", wire="openai_chat"),
        ev.BlockStart(0, "tool_call", "c1", "f"),
        ev.BlockEnd(0, opaque=m.Opaque("groq", "m", native)),
        ev.Completed(
            "tool_calls",
            "tool_calls",
            ev.Usage(1, 2, 3),
            provider_metadata='{"usage":{"queue_time":0.1},"service_tier":"x"}',
        ),
    ]
    answer = whole(events)
    assert answer["choices"][0]["message"]["tool_calls"][0]["extra_content"] == json.loads(native)
    assert answer["usage"]["queue_time"] == 0.1
    assert answer["service_tier"] == "x"


@pytest.mark.parametrize(
    "logprobs",
    [
        '{"content":[{"token":"a","bytes":[97],"logprob":-0.5,"top_logprobs":[]}]}',
        '[{"token":"a","bytes":[97],"logprob":-0.5,"top_logprobs":[]}]',
        '{"chosenCandidates":[{"token":"a","logProbability":-0.5}]}',
    ],
    ids=["chat", "responses", "gemini"],
)
def test_log_probabilities_of_every_wire(logprobs: str) -> None:
    block = (ev.BlockStart(0, "text"), ev.BlockDelta(0, "a"), ev.BlockEnd(0, logprobs=logprobs))
    answer = whole([ev.Started("p", "m"), *block, ev.Completed("stop", "stop", ev.Usage())])
    token = {"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []}
    assert answer["choices"][0]["logprobs"] == {"content": [token], "refusal": None}
