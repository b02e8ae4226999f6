"""Tool calls in every form in which they come, and which item an event is about."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.messages import Text, ToolCall
from server.core.stream import fold
from tests.providers.openai_responses.support import (
    added,
    answer,
    completed,
    created,
    done,
    function,
    message,
    piece,
    response,
    run,
    said,
    sse,
)

CALLS: dict[str, list[dict[str, Any]]] = {
    "deltas, then the whole": [
        added(0, "function_call", call_id="call_a", name="f", arguments=""),
        piece(0, "function_call_arguments", '{"a"'),
        piece(0, "function_call_arguments", ":1}"),
        {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": '{"a":1}'},
        done(0, function(arguments='{"a":1}')),
    ],
    "the whole without deltas (LM Studio)": [
        added(0, "function_call", call_id="call_a", name="f", arguments=""),
        {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": '{"a":1}'},
        done(0, function(arguments='{"a":1}')),
    ],
    "the item alone": [done(0, function(arguments='{"a":1}'))],
    "no item, only the answer that repeats it": [],
    "a name that comes last": [
        added(0, "function_call", call_id="call_a"),
        piece(0, "function_call_arguments", '{"a":1}'),
        done(0, function(arguments='{"a":1}')),
    ],
    "never done": [
        added(0, "function_call", call_id="call_a", name="f", arguments=""),
        piece(0, "function_call_arguments", '{"a":1}'),
    ],
}


@pytest.mark.parametrize("way", CALLS)
def test_a_call_is_the_same_however_it_comes(way: str) -> None:
    """One call, with its arguments once, and the finish reason that the API has no word for."""
    whole = fold(run(sse(*created(), *CALLS[way], completed(function(arguments='{"a":1}')))))
    assert whole.tool_calls == (ToolCall("call_a", "f", '{"a":1}'),)
    assert (whole.finish_reason, whole.raw_finish_reason) == ("tool_calls", "completed")


@pytest.mark.parametrize(
    ("arguments", "text"), [("", "{}"), ("{}", "{}"), ('{"a":', '{"a":'), ({"a": 1}, '{"a":1}'), (None, "{}")]
)
def test_arguments_that_are_odd(arguments: Any, text: str) -> None:
    """None become {}; an object is its text; broken ones are passed on, with a warning."""
    whole = fold(answer(response("completed", [{**function(), "arguments": arguments}])))
    (found,) = whole.tool_calls
    assert found.arguments.replace(" ", "") == text
    assert [warning.code for warning in whole.warnings] == (["invalid_tool_arguments"] if text == '{"a":' else [])


def test_items_are_told_by_their_place_and_not_by_their_ids() -> None:
    """Trap 34: GitHub Copilot gives an item another id with every event; all of them mean one item."""
    events = [
        added(0, "message", id="a"),
        {**piece(0, "output_text", "one "), "item_id": "b"},
        {**piece(0, "output_text", "item"), "item_id": "c"},
        done(0, message("one item", id="d")),
        added(1, "function_call", id="e", call_id="call_a", name="f"),
        {**piece(1, "function_call_arguments", "{}"), "item_id": "g"},
        done(1, {**function(), "id": "h"}),
        completed(message("one item", id="i"), {**function(), "id": "j"}),
    ]
    whole = fold(run(sse(*events)))
    assert whole.message.parts == (Text("one item"), ToolCall("call_a", "f", "{}"))


def test_parallel_items_are_written_one_after_the_other() -> None:
    """What comes for a later item waits until the earlier one is done; nothing is lost or mixed."""
    events = [
        added(0, "function_call", call_id="a", name="f"),
        added(1, "function_call", call_id="b", name="g"),
        piece(1, "function_call_arguments", '{"b":'),
        piece(0, "function_call_arguments", '{"a":'),
        piece(1, "function_call_arguments", "2}"),
        done(1, function("g", '{"b":2}', "b")),
        piece(0, "function_call_arguments", "1}"),
        done(0, function("f", '{"a":1}', "a")),
        completed(),
    ]
    assert fold(run(sse(*events))).tool_calls == (ToolCall("a", "f", '{"a":1}'), ToolCall("b", "g", '{"b":2}'))


def test_servers_that_number_every_item_zero_or_not_at_all() -> None:
    """A second `added` is a second item; without an index the id tells, without both the latest is meant."""
    zero = [
        added(0, "message"),
        *said(0, "a")[2:],
        added(0, "function_call", call_id="c", name="f"),
        done(0, function(id="c")),
    ]
    assert len(fold(run(sse(*zero, completed()))).message.parts) == 2
    bare: list[dict[str, Any]] = [
        {"type": "response.output_item.added", "item": {"type": "message", "id": "m1"}},
        {"type": "response.output_text.delta", "delta": "x", "item_id": "m1"},
        {"type": "response.output_text.delta", "delta": "y"},
        {"type": "response.output_item.done", "item": message("xy", id="m1")},
    ]
    assert fold(run(sse(*bare, completed()))).text == "xy"


def test_call_ids_are_unique_within_an_answer() -> None:
    """Trap 8: a missing or repeated call_id is replaced, for a caller could not answer it."""
    output = [function(id="x"), function("g", id="x"), {**function("h"), "call_id": None}]
    assert [made.id for made in fold(answer(response("completed", output))).tool_calls] == ["x", "call_0", "call_1"]


def test_a_custom_tools_text_is_the_one_argument_of_a_call() -> None:
    """Free text, piece by piece, as valid JSON; kept is that the tool is a custom one."""
    item = {"type": "custom_tool_call", "id": "ct_1", "call_id": "call_a", "name": "sql", "input": 'SELECT "é"\n'}
    streamed = [
        added(0, "custom_tool_call", call_id="call_a", name="sql", input=""),
        piece(0, "custom_tool_call_input", 'SELECT "'),
        piece(0, "custom_tool_call_input", 'é"\n'),
        done(0, item),
        completed(item),
    ]
    for events in (run(sse(*streamed)), answer(response("completed", [item]))):
        whole = fold(events)
        (made,) = whole.tool_calls
        assert (made.id, made.name, json.loads(made.arguments)) == ("call_a", "sql", {"input": 'SELECT "é"\n'})
        assert made.opaque is not None
        assert json.loads(made.opaque.data) == {"type": "custom_tool_call"}
        assert whole.finish_reason == "tool_calls"


def test_a_function_named_parallel_is_a_call_like_any_other() -> None:
    """Trap 15: a model may wrap its calls into one of that name; the gateway does not unwrap it."""
    (made,) = fold(answer(response("completed", [function("parallel", '{"tool_uses":[]}')]))).tool_calls
    assert (made.name, made.arguments) == ("parallel", '{"tool_uses":[]}')
