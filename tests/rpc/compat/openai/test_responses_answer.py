"""What the core's events become: items, their events and the response, where the provider speaks another wire."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from server.core import messages as m
from server.core.errors import ProviderOverloaded
from server.core.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Completed,
    Failed,
    Started,
    StreamEvent,
    Usage,
    Warning,
)
from server.core.stream import fold
from server.rpc.compat.opaque import PREVIOUS, seal
from server.rpc.compat.openai.responses_answer import ResponseRenderer, response_object
from server.rpc.compat.openai.responses_request import ResponseRequest, read_response_request

STARTED = Started("anthropic", "claude-x", "msg_theirs", warnings=(Warning("parameter_stripped", "No.", "seed"),))
SIGNED = m.Opaque("anthropic", "claude-x", b"signature")
COUNTED = Usage(11, 7)


def wanted(**body: Any) -> ResponseRequest:
    return read_response_request(json.dumps({"input": "hi", "model": "anthropic/claude-x", **body}).encode())


def block(index: int, start: BlockStart | str, *texts: str, **end: Any) -> list[StreamEvent]:
    opened = BlockStart(index, start) if isinstance(start, str) else start  # type: ignore[arg-type]
    return [opened, *(BlockDelta(index, text) for text in texts), BlockEnd(index, **end)]


def completed(reason: str = "stop", **more: Any) -> Completed:
    return Completed(reason, "end_turn", COUNTED, **more)


def told(events: Sequence[StreamEvent], **body: Any) -> list[dict[str, Any]]:
    """The stream's events."""
    renderer = ResponseRenderer(wanted(**body), id="resp_ours", created=5, request_id="r1")
    out = b"".join(renderer.render([event]) for event in events)
    found = []
    for frame in out.decode().split("\n\n")[:-1]:
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def whole(events: Sequence[StreamEvent], **body: Any) -> dict[str, Any]:
    """The answer that comes at once."""
    answer = fold(events)
    found = response_object(answer, wanted(**body), id="resp_ours", created=5, request_id="r1")
    result: dict[str, Any] = json.loads(json.dumps(found, default=lambda raw: json.loads(bytes(raw))))
    return result


CALL = BlockStart(0, "tool_call", "call_1", "f")
SEARCH = BlockStart(0, "server_tool", "srv_1", "web_search", "server_tool_use")
RESULT = BlockStart(1, "server_tool", "srv_1", "web_search", "web_search_tool_result")
CITED = m.Citation("https://host/a", "A", start=0, end=2)

MESSAGE = {"type": "message", "role": "assistant", "status": "completed"}
TEXT: dict[str, Any] = {"type": "output_text", "annotations": [], "logprobs": []}

ANSWERS: list[Any] = [
    pytest.param(
        [*block(0, "text", "a", "b"), *block(1, "text", "c")],
        [{"id": "msg_ours_0", **MESSAGE, "content": [{**TEXT, "text": "ab"}, {**TEXT, "text": "c"}]}],
        id="texts in a row are parts of one message",
    ),
    pytest.param(
        block(0, "text", "ab", citations=(CITED, m.Citation("https://host/b"), m.Citation(title="no address"))),
        [
            {
                "id": "msg_ours_0",
                **MESSAGE,
                "content": [
                    {
                        **TEXT,
                        "text": "ab",
                        "annotations": [
                            {"type": "url_citation", "url": "https://host/a", "title": "A", "start_index": 0,
                             "end_index": 2},
                            {"type": "url_citation", "url": "https://host/b", "title": "", "start_index": 0,
                             "end_index": 2},
                        ],
                    }
                ],
            }
        ],
        id="sources are annotations",
    ),
    pytest.param(
        [*block(0, "reasoning", "So.", opaque=SIGNED), *block(1, "text", "a")],
        [
            {"id": "rs_ours_0", "type": "reasoning", "summary": [{"type": "summary_text", "text": "So."}],
             "encrypted_content": seal(SIGNED)},
            {"id": "msg_ours_1", **MESSAGE, "content": [{**TEXT, "text": "a"}]},
        ],
        id="thoughts are a reasoning item with our container",
    ),
    pytest.param(
        block(0, "reasoning", opaque=SIGNED),
        [{"id": "rs_ours_0", "type": "reasoning", "summary": [], "encrypted_content": seal(SIGNED)}],
        id="hidden thoughts have no summary",
    ),
    pytest.param(
        [*block(0, CALL, '{"x":', "1}", opaque=SIGNED), *block(1, BlockStart(1, "tool_call", "call_2", "g"))],
        [
            {"id": "fc_ours_0", "type": "function_call", "status": "completed", "call_id": "call_1", "name": "f",
             "arguments": '{"x":1}'},
            {"id": "rs_ours_1", "type": "reasoning", "summary": [], "encrypted_content": seal(SIGNED, "call_1")},
            {"id": "fc_ours_2", "type": "function_call", "status": "completed", "call_id": "call_2", "name": "g",
             "arguments": "{}"},
        ],
        id="what must come back with a call stands behind it",
    ),
    pytest.param(
        [*block(0, "text", "a", opaque=SIGNED), *block(1, "text", "b")],
        [
            {"id": "msg_ours_0", **MESSAGE, "content": [{**TEXT, "text": "a"}]},
            {"id": "rs_ours_1", "type": "reasoning", "summary": [], "encrypted_content": seal(SIGNED, PREVIOUS)},
            {"id": "msg_ours_2", **MESSAGE, "content": [{**TEXT, "text": "b"}]},
        ],
        id="what must come back with words stands behind them",
    ),
    pytest.param(
        [*block(0, SEARCH, '{"query": "q"}'), *block(1, RESULT, output="[]")],
        [{"id": "ws_ours_0", "type": "web_search_call", "status": "completed",
          "action": {"type": "search", "query": "q"}}],
        id="another's search is a search, its result is not shown",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("blocks", "output"), ANSWERS)
def test_items(blocks: list[StreamEvent], output: list[dict[str, Any]]) -> None:
    """The same items at once and at the end of a stream, each as it was when it was done, under one id throughout."""
    events = [STARTED, *blocks, completed()]
    assert whole(events)["output"] == output
    stream = told(events)
    assert [event["sequence_number"] for event in stream] == list(range(len(stream)))
    assert stream[-1]["response"]["output"] == output
    done = {event["output_index"]: event["item"] for event in stream if event["type"] == "response.output_item.done"}
    assert [done[index] for index in range(len(output))] == output
    for event in stream:
        if "item_id" in event:
            assert event["item_id"] == output[event["output_index"]]["id"]


def test_order_of_events() -> None:
    """Each part and item opens, grows and closes before the next one."""
    events = [
        STARTED,
        *block(0, "reasoning", "So", ".", opaque=SIGNED),
        *block(1, "text", "a", citations=(CITED,)),
        *block(2, BlockStart(2, "tool_call", "call_1", "f"), "{}"),
        completed("tool_calls"),
    ]
    assert [event["type"].removeprefix("response.") for event in told(events)] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.annotation.added",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]


@pytest.mark.parametrize(
    ("word", "status", "reason"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("pause_turn", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_how_an_answer_ends(word: str, status: str, reason: str | None) -> None:
    """A cut answer is incomplete, its last item too; the provider's own word stands beside."""
    events = [STARTED, *block(0, "text", "a"), completed(word)]
    last = told(events)[-1]
    assert last["type"] == f"response.{status}"
    for response in (last["response"], whole(events)):
        assert (response["status"], response["output"][-1]["status"]) == (status, status)
        assert response["incomplete_details"] == (None if reason is None else {"reason": reason})
        assert response["x_dragoman"] == {
            "provider": "anthropic",
            "raw_finish_reason": "end_turn",
            "provider_response_id": "msg_theirs",
            "warnings": [{"code": "parameter_stripped", "parameter": "seed", "message": "No."}],
        }


def test_a_refusal_is_a_part_of_its_own() -> None:
    """With its own events."""
    stream = told([STARTED, completed(refusal="I will not.")])
    assert [event["type"].removeprefix("response.") for event in stream[3:-2]] == [
        "content_part.added",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
    ]
    assert stream[-1]["response"]["output"][0]["content"] == [{"type": "refusal", "refusal": "I will not."}]


def test_a_failure_ends_the_stream() -> None:
    """One `error` event, flat as the reference has it and nested as the SDKs read it, and nothing after it."""
    stream = told([STARTED, BlockStart(0, "text"), BlockDelta(0, "a"), Failed(ProviderOverloaded("No capacity."))])
    last = stream[-1]
    assert (last["type"], last["message"], last["code"]) == ("error", "No capacity.", "provider_overloaded")
    assert last["error"]["message"] == "No capacity."
    assert last["error"]["x_dragoman"]["retryable"] == "true"
    assert not [event for event in stream if event["type"].startswith("response.output_item.done")]


def test_a_custom_tools_call_has_text() -> None:
    """Its input is what stood in the arguments."""
    tools = [{"type": "custom", "name": "f"}]
    stream = told([STARTED, *block(0, CALL, '{"input":"say \\"', 'x\\""}'), completed("tool_calls")], tools=tools)
    assert [event["type"] for event in stream[3:5]] == [
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.done",
    ]
    item = stream[-1]["response"]["output"][0]
    assert (item["type"], item["input"], item["call_id"]) == ("custom_tool_call", 'say "x"', "call_1")


@pytest.mark.parametrize(
    ("usage", "found"),
    [
        (Usage(), None),
        (Usage(3, None, 9), None),
        (
            Usage(11, 7, 19, 3, 2, 5),
            {
                "input_tokens": 11,
                "output_tokens": 7,
                "total_tokens": 19,
                "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
                "output_tokens_details": {"reasoning_tokens": 5},
            },
        ),
        (
            Usage(11, 7),
            {
                "input_tokens": 11,
                "output_tokens": 7,
                "total_tokens": 18,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            },
        ),
    ],
)
def test_usage(usage: Usage, found: dict[str, Any] | None) -> None:
    """Counts by OpenAI's names; null where the provider did not count, as half a count has no form."""
    assert whole([STARTED, Completed("stop", "end_turn", usage)])["usage"] == found


def test_the_request_is_repeated() -> None:
    """What was asked for stands in every response of the stream, OpenAI's defaults where it was not."""
    body: dict[str, Any] = {"temperature": 0.5, "tools": [{"type": "web_search"}], "metadata": {"a": "b"}}
    stream = told([STARTED, completed()], **body)
    for event in (stream[0], stream[1], stream[-1]):
        response = event["response"]
        assert {name: response[name] for name in body} == body
        assert (response["id"], response["created_at"], response["model"]) == ("resp_ours", 5, "claude-x")
        assert (response["tool_choice"], response["store"], response["previous_response_id"]) == ("auto", False, None)


TEXTS = st.lists(st.text(max_size=3), max_size=3)
OPAQUE = st.sampled_from([None, SIGNED])
IDS = st.sampled_from(["", "one", "two"])
BLOCKS = st.lists(
    st.one_of(
        st.tuples(st.just("text"), IDS, TEXTS, OPAQUE),
        st.tuples(st.just("reasoning"), IDS, TEXTS, OPAQUE),
        st.tuples(st.just("tool_call"), st.just(""), TEXTS, OPAQUE),
        st.tuples(st.just("server_tool"), st.just(""), TEXTS, st.none()),
    ),
    max_size=6,
)


@given(blocks=BLOCKS, refusal=st.sampled_from(["", "No."]), word=st.sampled_from(["stop", "length"]))
def test_the_sdk_takes_every_stream(blocks: list[Any], refusal: str, word: str) -> None:
    """Whatever the blocks, each event has the SDK's form, its own checks of ids and order pass, and the stream adds up
    to what comes at once."""
    events: list[StreamEvent] = [STARTED]
    for index, (kind, id, texts, opaque) in enumerate(blocks):
        if kind == "tool_call":
            start = BlockStart(index, kind, f"call_{index}", "f")
        elif kind == "server_tool":
            start = BlockStart(index, kind, f"srv_{index}", "web_search", "server_tool_use")
        else:
            start = BlockStart(index, kind, id)
        events += block(index, start, *texts, opaque=opaque)
    events.append(completed(word, refusal=refusal))
    state = ResponseStreamState(input_tools=omit, text_format=omit)
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    stream = told(events)
    for event in stream:
        state.handle_event(adapter.validate_python(event))
    final = stream[-1]["response"]
    assert final["output"] == [event["item"] for event in stream if event["type"] == "response.output_item.done"]
    if not any(id for _, id, _, _ in blocks):
        assert whole(events) == final
