"""A history is refused where a tool answer and its call do not fit, and only there."""

from __future__ import annotations

import pytest

from server.core.errors import InvalidRequest
from server.core.history import MOST_VIOLATIONS, check_history
from server.core.messages import Message, Text, ToolCall, ToolResult


def user(text: str = "hi") -> Message:
    return Message("user", (Text(text),))


def calls(*ids: str) -> Message:
    return Message("assistant", (Text("let me see"), *(ToolCall(id, "look", "{}") for id in ids)))


def answer(id: str) -> Message:
    return Message("tool", (ToolResult(id, (Text("42"),)),))


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([], id="nothing"),
        pytest.param([user()], id="no tools"),
        pytest.param([user(), calls("a"), answer("a")], id="one call"),
        pytest.param([user(), calls("a", "b"), answer("b"), answer("a")], id="parallel calls, any order"),
        pytest.param([user(), calls("a"), user(), answer("a")], id="answer after another turn"),
        pytest.param([user(), calls("a"), user()], id="call without an answer"),
        pytest.param([user(), calls("a"), answer("a"), calls("a"), answer("a")], id="id used again by a later turn"),
    ],
)
def test_a_history_that_holds_together_passes(messages: list[Message]) -> None:
    check_history(messages)


@pytest.mark.parametrize(
    ("messages", "field", "words"),
    [
        pytest.param([answer("a")], "messages[0].tool_call_id", "no call waits", id="answer without any call"),
        pytest.param([user(), answer("b"), calls("b")], "messages[1].tool_call_id", "before it", id="answer first"),
        pytest.param(
            [user(), calls("a"), answer("b")], "messages[2].tool_call_id", "so far: 'a'", id="answer to another id"
        ),
        pytest.param(
            [user(), calls("a"), answer("a"), answer("a")], "messages[3].tool_call_id", "second", id="answered twice"
        ),
        pytest.param(
            [user(), calls("a", "b", "a")], "messages[1].tool_calls[2].id", "unique", id="one id twice in a turn"
        ),
    ],
)
def test_a_broken_history_is_refused_with_its_place(messages: list[Message], field: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_history(messages)
    assert [violation.field for violation in caught.value.violations] == [field]
    assert words in caught.value.violations[0].description
    assert caught.value.message.startswith(field)


def test_the_error_stays_small_however_broken_the_history_is() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_history([answer("x" * 512)] * 1000)
    assert len(caught.value.violations) == MOST_VIOLATIONS
    assert all(len(violation.description) < 300 for violation in caught.value.violations)
