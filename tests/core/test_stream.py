"""The stream's grammar: what passes, what ends a stream, and what the events of one add up to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import DragomanError, InternalError, ProviderOverloaded, StreamTruncated
from server.core.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Completed,
    Failed,
    Native,
    Started,
    StreamEvent,
    Usage,
    Warning,
)
from server.core.messages import Opaque, Reasoning, ServerTool, Text, ToolCall
from server.core.stream import TRANSITIONS, Folder, Guard, State, fold

STARTED = Started("openai", "gpt-4o-mini-2024-07-18", "resp_1", warnings=(Warning("parameter_stripped", "no seed"),))
DONE = Completed("stop", "end_turn", Usage(3, 2, 5))
BROKEN = Failed(ProviderOverloaded("The provider is overloaded."))
TEXT: list[StreamEvent] = [BlockStart(0, "text"), BlockDelta(0, "Hel"), BlockDelta(0, "lo"), BlockEnd(0)]

LEGAL: dict[str, list[StreamEvent]] = {
    "an answer of nothing": [STARTED, DONE],
    "one block": [STARTED, *TEXT, DONE],
    "two blocks": [STARTED, *TEXT, BlockStart(1, "tool_call", "call_1", "f"), BlockEnd(1), DONE],
    "words of a wire": [STARTED, Native("{}"), *TEXT[:2], Native("{}"), *TEXT[2:], Native("{}"), DONE],
    "a failure between blocks": [STARTED, *TEXT, BROKEN],
    "a failure inside a block": [STARTED, *TEXT[:2], BROKEN],
    "a failure instead of an answer": [BROKEN],
}

ILLEGAL: dict[str, list[StreamEvent]] = {
    "a block before the start": TEXT,
    "two starts": [STARTED, STARTED],
    "words of a wire before the start": [Native("{}")],
    "a delta outside a block": [STARTED, BlockDelta(0, "x")],
    "an end outside a block": [STARTED, BlockEnd(0)],
    "a block inside a block": [STARTED, BlockStart(0, "text"), BlockStart(1, "text")],
    "a completion inside a block": [STARTED, BlockStart(0, "text"), DONE],
    "a completion before the start": [DONE],
    "a block that skips a number": [STARTED, BlockStart(1, "text")],
    "a delta of another block": [STARTED, BlockStart(0, "text"), BlockDelta(1, "x")],
    "an end of another block": [STARTED, BlockStart(0, "text"), BlockEnd(3)],
}


@pytest.mark.parametrize("events", LEGAL.values(), ids=LEGAL.keys())
def test_a_legal_stream_passes_unchanged(events: list[StreamEvent]) -> None:
    guard = Guard()
    assert guard.feed(events) == events
    assert guard.ended
    assert guard.end() == []


@pytest.mark.parametrize("events", ILLEGAL.values(), ids=ILLEGAL.keys())
def test_an_illegal_stream_ends_with_one_failure_that_blames_the_gateway(events: list[StreamEvent]) -> None:
    guard = Guard()
    passed = guard.feed(events)
    assert passed[:-1] == events[: len(passed) - 1]
    last = passed[-1]
    assert isinstance(last, Failed)
    assert isinstance(last.error, InternalError)
    assert guard.feed([STARTED, DONE]) == []


@pytest.mark.parametrize("events", LEGAL.values(), ids=LEGAL.keys())
def test_a_stream_cut_at_any_point_is_truncated_and_never_complete(events: list[StreamEvent]) -> None:
    for cut in range(len(events)):
        guard = Guard()
        passed = guard.feed(events[:cut]) + guard.end()
        assert [type(e) for e in passed if isinstance(e, Completed | Failed)] == [Failed]
        with pytest.raises(StreamTruncated):
            fold(passed)


def test_nothing_passes_after_the_terminal_event() -> None:
    guard = Guard()
    assert guard.feed([STARTED, DONE, DONE, BROKEN, *TEXT]) == [STARTED, DONE]
    assert guard.feed(TEXT) == []


def test_started_tells_an_error_instead_of_an_answer_from_one_within_it() -> None:
    before, within = Guard(), Guard()
    before.feed([BROKEN])
    within.feed([STARTED, BROKEN])
    assert (before.started, within.started) == (False, True)


def test_every_state_but_the_last_can_reach_an_end() -> None:
    ends = {state for (state, _), following in TRANSITIONS.items() if following is State.ENDED}
    assert ends == set(State) - {State.ENDED}


@given(
    st.lists(
        st.one_of(
            st.sampled_from([STARTED, DONE, BROKEN]),
            st.builds(BlockStart, st.integers(0, 3), st.sampled_from(["text", "reasoning", "tool_call"])),
            st.builds(BlockDelta, st.integers(0, 3), st.text(max_size=3)),
            st.builds(BlockEnd, st.integers(0, 3)),
            st.just(Native("{}")),
        ),
        max_size=12,
    ),
    st.integers(0, 12),
)
def test_whatever_an_adapter_yields_and_however_it_is_batched_one_legal_stream_comes_out(
    events: list[StreamEvent], split: int
) -> None:
    guard = Guard()
    passed = guard.feed(events[:split]) + guard.feed(events[split:]) + guard.end()
    whole = Guard()
    assert [type(e) for e in whole.feed(events) + whole.end()] == [type(e) for e in passed]
    assert sum(isinstance(e, Completed | Failed) for e in passed) == 1
    assert isinstance(passed[-1], Completed | Failed)
    again = Guard()
    assert again.feed(passed) == passed


def test_fold_adds_up_every_kind_of_block_in_order() -> None:
    mine = Opaque("anthropic", "claude", b"sig")
    answer = fold(
        [
            STARTED,
            BlockStart(0, "reasoning"),
            BlockDelta(0, "Hm."),
            BlockEnd(0, opaque=mine),
            BlockStart(1, "text"),
            BlockDelta(1, "Hel"),
            BlockDelta(1, "lo"),
            BlockEnd(1),
            BlockStart(2, "server_tool", "srv_1", "web_search", "server_tool_use"),
            BlockDelta(2, '{"q":1}'),
            BlockEnd(2, output='{"r":2}'),
            BlockStart(3, "tool_call", "call_1", "f"),
            BlockDelta(3, '{"a":'),
            BlockDelta(3, "1}"),
            BlockEnd(3),
            BlockStart(4, "tool_call", "call_2", "g"),
            BlockEnd(4),
            Completed("tool_calls", "tool_use", Usage(1, 2, 3), "served", (Warning("w", "late"),), '{"k":1}', "no"),
        ]
    )
    assert answer.message.parts == (
        Reasoning("Hm.", mine),
        Text("Hello"),
        ServerTool("server_tool_use", "srv_1", "web_search", '{"q":1}', '{"r":2}'),
        ToolCall("call_1", "f", '{"a":1}'),
        ToolCall("call_2", "g", "{}"),
    )
    assert (answer.text, answer.reasoning) == ("Hello", "Hm.")
    assert [call.id for call in answer.tool_calls] == ["call_1", "call_2"]
    assert (answer.model, answer.id, answer.provider) == ("served", "resp_1", "openai")
    assert [w.code for w in answer.warnings] == ["parameter_stripped", "w"]
    assert (answer.finish_reason, answer.raw_finish_reason, answer.refusal) == ("tool_calls", "tool_use", "no")
    assert answer.usage == Usage(1, 2, 3)


def test_fold_raises_the_very_error_of_a_failed_stream() -> None:
    with pytest.raises(DragomanError) as caught:
        fold([STARTED, *TEXT[:2], BROKEN])
    assert caught.value is BROKEN.error


def test_fold_gives_the_same_answer_however_the_events_are_batched() -> None:
    events: list[StreamEvent] = [STARTED, *TEXT, DONE]
    for cut in range(len(events)):
        folder = Folder()
        folder.feed(events[:cut])
        folder.feed(events[cut:])
        assert folder.result() == fold(events)
