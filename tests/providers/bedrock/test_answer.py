"""Answers, whole and streamed: one table of both, then what only a stream can do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.errors import ProviderProtocolError, StreamTruncated
from server.core.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Completed,
    Failed,
    Started,
    StreamEvent,
    Usage,
)
from server.core.messages import Citation, Opaque, Reasoning, ServerTool, Text, ToolCall
from server.core.stream import fold
from tests.providers.bedrock.support import (
    answer,
    call,
    closed,
    document,
    ending,
    event,
    frame,
    of,
    opened,
    piece,
    run,
    start,
    text,
    tool,
)

SIGNED = {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "SIG=="}}}
CITATION = {
    "title": "Report",
    "sourceContent": [{"text": "a "}, {"text": "b"}],
    "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}},
}
FOUND = {"location": {"web": {"url": "https://example.org/x", "domain": "example.org"}}}


def kept(data: dict[str, Any]) -> Opaque:
    return Opaque("bedrock", "anthropic.claude-x", json.dumps(data, separators=(",", ":")).encode())


CASES: list[tuple[str, bytes, list[dict[str, Any]], tuple[Any, ...]]] = [
    ("text", text(0, "Hel", "lo"), [{"text": "Hello"}], (Text("Hello"),)),
    (
        "thought with its signature in pieces",
        piece(0, reasoningContent={"text": "H"})
        + piece(0, reasoningContent={"text": "m."})
        + piece(0, reasoningContent={"signature": "SI"})
        + piece(0, reasoningContent={"signature": "G=="})
        + closed(0)
        + text(1, "Yes."),
        [SIGNED, {"text": "Yes."}],
        (Reasoning("Hm.", kept({"signature": "SIG=="})), Text("Yes.")),
    ),
    (
        "blocks without an end",
        piece(0, reasoningContent={"text": "Hm."}) + piece(1, text="Yes.") + piece(2, text="No."),
        [{"reasoningContent": {"reasoningText": {"text": "Hm."}}}, {"text": "Yes."}, {"text": "No."}],
        (Reasoning("Hm.", kept({})), Text("Yes."), Text("No.")),
    ),
    (
        "hidden thoughts",
        piece(0, reasoningContent={"redactedContent": "UkVE"}) + closed(0) + text(1, "Yes."),
        [{"reasoningContent": {"redactedContent": "UkVE"}}, {"text": "Yes."}],
        (Reasoning("", kept({"redactedContent": "UkVE"})), Text("Yes.")),
    ),
    (
        "an empty text ahead of the thoughts",
        text(0, "") + piece(1, reasoningContent={"text": "Hm."}) + closed(1) + text(2, "Yes."),
        [{"text": ""}, {"reasoningContent": {"reasoningText": {"text": "Hm."}}}, {"text": "Yes."}],
        (Reasoning("Hm.", kept({})), Text("Yes.")),
    ),
    (
        "parallel calls",
        text(0, "Both.") + tool(1, "t1", "f", '{"a"', ":1}") + tool(2, "t2", "g"),
        [
            {"text": "Both."},
            {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": 1}}},
            {"toolUse": {"toolUseId": "t2", "name": "g", "input": {}}},
        ],
        (Text("Both."), ToolCall("t1", "f", '{"a":1}'), ToolCall("t2", "g", "{}")),
    ),
    (
        "a call without an id, of a type",
        tool(0, "", "f", "{}", type="tool_use"),
        [{"toolUse": {"name": "f", "type": "tool_use", "input": {}}}],
        (ToolCall("call_0", "f", "{}"),),
    ),
    (
        "a system tool",
        tool(0, "s1", "nova_code_interpreter", '{"snippet":"1"}', type="server_tool_use")
        + opened(1, toolResult={"toolUseId": "s1", "type": "nova_code_interpreter_result", "status": "success"})
        + piece(1, toolResult=[{"json": {"stdOut": "1"}}])
        + closed(1)
        + text(2, "1."),
        [
            {"toolUse": {"type": "server_tool_use", "toolUseId": "s1", "name": "nova_code_interpreter",
                         "input": {"snippet": "1"}}},
            {"toolResult": {"toolUseId": "s1", "type": "nova_code_interpreter_result", "status": "success",
                            "content": [{"json": {"stdOut": "1"}}]}},
            {"text": "1."},
        ],
        (
            ServerTool("toolUse", "s1", "nova_code_interpreter", '{"snippet":"1"}',
                       opaque=kept({"type": "server_tool_use", "toolUseId": "s1", "name": "nova_code_interpreter"})),
            ServerTool("toolResult", "s1", output='[{"json": {"stdOut": "1"}}]',
                       opaque=kept({"toolUseId": "s1", "type": "nova_code_interpreter_result", "status": "success"})),
            Text("1."),
        ),
    ),
    (
        "citations",
        piece(0, text="So ") + piece(0, text="it is.") + piece(0, citation=CITATION) + piece(0, citation=FOUND)
        + closed(0),
        [{"citationsContent": {"content": [{"text": "So "}, {"text": "it is."}], "citations": [CITATION, FOUND]}}],
        (
            Text(
                "So it is.",
                (Citation(None, "Report", "a b"), Citation("https://example.org/x", "example.org")),
                kept({"citations": [CITATION, FOUND]}),
            ),
        ),
    ),
]  # fmt: skip


def comparable(parts: tuple[Any, ...]) -> list[Any]:
    """JSON inside of parts by its meaning: a stream and a whole answer space it otherwise."""

    def plain(part: Any) -> Any:
        data = {name: getattr(part, name) for name in part.__struct_fields__}
        if data.get("opaque") is not None:
            data["opaque"] = (data["opaque"].provider, data["opaque"].model, json.loads(data["opaque"].data))
        for name in ("arguments", "input", "output"):
            if data.get(name):
                data[name] = json.loads(data[name])
        return type(part), data

    return [plain(part) for part in parts]


@pytest.mark.parametrize(("stream", "content", "parts"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_blocks(stream: bytes, content: list[dict[str, Any]], parts: tuple[Any, ...]) -> None:
    """The same parts from a stream, from the stream byte by byte, and from a whole answer."""
    data = start() + stream + ending()
    for events in (run(data), run([data[i : i + 1] for i in range(len(data))]), answer(document(*content))):
        assert comparable(fold(events).message.parts) == comparable(parts)
        assert not of(events, Completed)[0].warnings


@pytest.mark.parametrize("stream", [case[1] for case in CASES], ids=[case[0] for case in CASES])
def test_a_stream_that_ends_between_two_messages_has_failed(stream: bytes) -> None:
    """Whatever came: without its last message it is not whole, and may be tried again."""
    data, at = start() + stream + ending(), 0
    while at < len(data):
        events = run(data[:at])
        assert isinstance(events[-1], Failed)
        assert isinstance(events[-1].error, StreamTruncated)
        at += int.from_bytes(data[at : at + 4], "big")


@pytest.mark.parametrize(
    ("raw", "calls", "neutral"),
    [
        ("end_turn", False, "stop"),
        ("stop_sequence", False, "stop"),
        ("tool_use", True, "tool_calls"),
        ("end_turn", True, "tool_calls"),
        ("tool_use", False, "stop"),
        ("max_tokens", False, "length"),
        ("max_tokens", True, "length"),
        ("model_context_window_exceeded", False, "length"),
        ("guardrail_intervened", False, "content_filter"),
        ("content_filtered", False, "content_filter"),
        ("malformed_tool_use", False, "malformed_tool_use"),
        ("malformed_model_output", False, "malformed_model_output"),
        ("a_new_word", False, "a_new_word"),
    ],
)
def test_finish_reasons(raw: str, calls: bool, neutral: str) -> None:
    """The neutral word with the raw one beside it; a word without an equal stays."""
    stream = start() + (tool(0, "t", "f", "{}") if calls else text(0, "x")) + ending(raw)
    content = {"toolUse": {"toolUseId": "t", "name": "f", "input": {}}} if calls else {"text": "x"}
    for events in (run(stream), answer(document(content, reason=raw))):
        (end,) = of(events, Completed)
        assert (end.finish_reason, end.raw_finish_reason) == (neutral, raw)


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({"inputTokens": 3, "outputTokens": 7, "totalTokens": 10}, Usage(3, 7, 10)),
        (
            {"inputTokens": 3, "outputTokens": 7, "totalTokens": 115, "cacheReadInputTokens": 100,
             "cacheWriteInputTokens": 5, "cacheReadInputTokenCount": 100, "cacheWriteInputTokenCount": 5,
             "serverToolUsage": {}},
            Usage(108, 7, 115, 100, 5),
        ),
        (
            {"inputTokens": 3, "outputTokens": 7, "cacheReadInputTokenCount": 100, "cacheWriteInputTokenCount": None},
            Usage(103, 7, 110, 100, None),
        ),
        ({"inputTokens": 3}, Usage(3)),
        ({"inputTokens": -1, "outputTokens": 1e300}, Usage()),
        ({}, Usage()),
    ],
)  # fmt: skip
def test_usage(counts: dict[str, Any], usage: Usage) -> None:
    """The prompt includes what was cached, the total is the provider's; what it does not say is not made up."""
    stop = event("messageStop", stopReason="end_turn")
    for events in (run(start() + text(0, "x") + stop + event("metadata", usage=counts)),
                   answer(document({"text": "x"}, usage=counts))):  # fmt: skip
        assert of(events, Completed)[0].usage == usage


def test_usage_that_cannot_be_read_is_told() -> None:
    """The answer is whole all the same."""
    (end,) = of(answer(document({"text": "x"}, usage={"inputTokens": "many"})), Completed)
    assert [warning.code for warning in end.warnings] == ["usage_unreadable"]


def test_what_stands_beside_the_message() -> None:
    """Metrics, trace, tier and what the model adds go into provider_metadata; the request's id into Started; the model
    that a prompt router chose is the model of the answer."""
    trace = {"promptRouter": {"invokedModelId": "arn:model"}, "guardrail": {"actionReason": "No action."}}
    stop = event("messageStop", stopReason="end_turn", additionalModelResponseFields={"stop_sequence": "|"})
    end = event("metadata", usage={"inputTokens": 1, "outputTokens": 1}, metrics={"latencyMs": 5}, trace=trace,
                serviceTier={"type": "flex"}, performanceConfig={"latency": "standard"})  # fmt: skip
    whole = document(
        {"text": "x"}, trace=trace, serviceTier={"type": "flex"}, performanceConfig={"latency": "standard"},
        additionalModelResponseFields={"stop_sequence": "|"}, usage={"inputTokens": 1, "outputTokens": 1},
    )  # fmt: skip
    head = {"x-amzn-requestid": "req-1"}
    for events in (run(start() + text(0, "x") + stop + end, headers=head), answer(whole, headers=head)):
        response = fold(events)
        assert (response.request_id, response.model) == ("req-1", "arn:model")
        assert json.loads(response.provider_metadata) == {
            "metrics": {"latencyMs": 5}, "trace": trace, "serviceTier": {"type": "flex"},
            "performanceConfig": {"latency": "standard"}, "additionalModelResponseFields": {"stop_sequence": "|"},
            "usage": {"inputTokens": 1, "outputTokens": 1},
        }  # fmt: skip


def test_a_block_that_has_no_place_is_told() -> None:
    """An image of the model's: its pieces are passed over, the rest of the answer stays."""
    image = opened(0, image={"format": "png"}) + piece(0, image={"source": {"bytes": "eA=="}}) + closed(0)
    for events in (
        run(start() + image + text(1, "There.") + ending()),
        answer(document({"image": {"format": "png", "source": {"bytes": "eA=="}}}, {"text": "There."})),
    ):
        response = fold(events)
        assert response.text == "There."
        assert [warning.code for warning in response.warnings] == ["part_dropped"]


def test_arguments_that_were_cut_are_passed_on_and_told() -> None:
    """max_tokens in the middle of a call."""
    events = run(start() + opened(0, toolUse={"toolUseId": "t", "name": "f"}) + piece(0, toolUse={"input": '{"a":'})
                 + ending("max_tokens"))  # fmt: skip
    response = fold(events)
    assert response.tool_calls[0].arguments == '{"a":'
    assert [warning.code for warning in response.warnings] == ["invalid_tool_arguments"]


def test_unknown_events_and_members_are_passed_over() -> None:
    """Padding, new events, new members, a server that announces its text."""
    stream = (
        event("somethingNew", x=1) + start() + opened(0, text="") + event("contentBlockStart", contentBlockIndex=0)
        + piece(0, text="a", more=1) + event("contentBlockDelta", contentBlockIndex=0) + closed(0) + closed(9)
        + frame({":message-type": "event", ":event-type": "ping"}) + ending()
    )  # fmt: skip
    assert fold(run(stream)).text == "a"


def test_messages_without_message_type_and_index() -> None:
    """Servers that speak the wire loosely."""

    def bare(name: str, **payload: Any) -> bytes:
        return frame({":event-type": name}, json.dumps(payload).encode())

    stream = (
        bare("contentBlockDelta", delta={"text": "a"}) + bare("contentBlockDelta", delta={"text": "b"})
        + bare("metadata", usage={"inputTokens": 1}) + bare("messageStop", stopReason="end_turn")
    )  # fmt: skip
    assert fold(run(stream)).text == "ab"


@pytest.mark.parametrize(
    "stream",
    [
        start() + text(0, "a") + start() + text(0, "b") + ending(),
        start() + piece(0, toolUse={"input": "{}"}) + ending(),
        start() + tool(0, "t", "f", "{}") + piece(0, toolUse={"input": "{}"}) + ending(),
        start() + piece(0, toolResult=[{"text": "x"}]) + ending(),
        start() + tool(0, "t", "", "{}") + ending(),
        start() + text(0, "a") + event("messageStop", stopReason="end_turn") + text(1, "b") + ending(),
        start() + frame({":message-type": "event", ":event-type": "contentBlockDelta"}, b"not json"),
        start() + event("contentBlockDelta", contentBlockIndex="one", delta={"text": "a"}),
    ],
    ids=["two messages", "no call", "call over", "no result", "no name", "after the end", "no json", "wrong type"],
)
def test_what_cannot_be_fails(stream: bytes) -> None:
    """As the provider's protocol error, retryable, whatever was streamed before."""
    events = run(stream)
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, ProviderProtocolError)
    assert events[-1].error.retryable


def test_a_message_that_is_announced_twice_before_it_begins() -> None:
    """Nothing was said of the first yet."""
    assert fold(run(start() + start() + text(0, "a") + ending())).text == "a"


def test_nothing_is_said_before_there_is_something() -> None:
    """Started comes with the first block, so that an error before it is one of the call."""
    events: list[StreamEvent] = run(start() + text(0, "a") + ending())
    assert [type(e) for e in events] == [Started, BlockStart, BlockDelta, BlockEnd, Completed]
    assert [type(e) for e in run(start())] == [Failed]


def test_an_answer_without_content() -> None:
    """Whole all the same: a guardrail may take everything."""
    for events in (run(start() + ending("guardrail_intervened")), answer(document(reason="guardrail_intervened"))):
        assert [type(e) for e in events] == [Started, Completed]


def test_the_failure_knows_what_was_counted() -> None:
    """metadata came, messageStop did not."""
    events = run(start() + text(0, "a") + event("metadata", usage={"inputTokens": 3, "outputTokens": 1}))
    assert isinstance(events[-1], Failed)
    assert events[-1].usage == Usage(3, 1, 4)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"", b"not json", b'{"output":null}', b'{"output":{"message":null}}'])
def test_a_whole_answer_that_is_none(body: bytes) -> None:
    """A 200 with nothing in it."""
    with pytest.raises(ProviderProtocolError):
        answer(body)


def test_a_whole_answer_without_a_reason_is_cut() -> None:
    """A finish is never made up."""
    whole = document({"text": "a"})
    del whole["stopReason"]
    with pytest.raises(StreamTruncated):
        answer(whole)


def test_what_is_kept_is_bound_to_the_model_as_it_was_asked_for() -> None:
    """So that it goes back to that one alone."""
    events = answer(document(SIGNED), at=call(model="eu.anthropic.claude-x", stream=False))
    (end,) = of(events, BlockEnd)
    assert end.opaque.model == "eu.anthropic.claude-x"
