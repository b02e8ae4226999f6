"""Whether a conversation holds together: every tool answer has its call, and no call is answered twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from server.core.errors import InvalidRequest, Violation
from server.core.messages import Message, ToolCall, ToolResult

MOST_VIOLATIONS = 16
"""How many are named; a history with more is broken in one way, many times."""

_SHOWN = 64
"""Most characters of an id that an error repeats."""

_Call = Literal["open", "answered"]


def check_history(messages: Sequence[Message]) -> None:
    """Raise InvalidRequest, each violation with its place, for a history that no provider could make sense of.

    An answer may stand anywhere after its call. An id may come again in a later turn (some providers number their calls
    from the start in each): it then means the later call. A call without an answer is left to the provider.
    """
    violations: list[Violation] = []
    calls: dict[str, _Call] = {}
    for index, message in enumerate(messages):
        if message.role == "assistant":
            violations += _note_calls(index, message, calls)
        elif message.role == "tool":
            violations += _note_answers(index, message, calls)
        if len(violations) >= MOST_VIOLATIONS:
            break
    if violations:
        first = violations[0]
        raise InvalidRequest(f"{first.field}: {first.description}", violations=violations[:MOST_VIOLATIONS])


def _note_calls(index: int, message: Message, calls: dict[str, _Call]) -> list[Violation]:
    ids = [part.id for part in message.parts if isinstance(part, ToolCall)]
    seen: set[str] = set()
    violations = []
    for number, id in enumerate(ids):
        if id in seen:
            field = f"messages[{index}].tool_calls[{number}].id"
            violations.append(Violation(field, f"must be unique in the turn (got {_shown(id)} twice)"))
        seen.add(id)
    calls.update(dict.fromkeys(ids, "open"))
    return violations


def _note_answers(index: int, message: Message, calls: dict[str, _Call]) -> list[Violation]:
    field = f"messages[{index}].tool_call_id"
    violations = []
    for part in message.parts:
        if not isinstance(part, ToolResult):
            continue
        state = calls.get(part.tool_call_id)
        if state is None:
            violations.append(Violation(field, _unknown(part.tool_call_id, calls)))
        elif state == "answered":
            violations.append(
                Violation(field, f"must answer a call once (got a second answer to {_shown(part.tool_call_id)})")
            )
        else:
            calls[part.tool_call_id] = "answered"
    return violations


def _unknown(id: str, calls: dict[str, _Call]) -> str:
    unanswered = [_shown(known) for known, state in calls.items() if state == "open"]
    offer = (
        f"; without an answer so far: {', '.join(unanswered[:8])}" if unanswered else "; no call waits for an answer"
    )
    return f"must be the id of a tool call in an assistant message before it (got {_shown(id)}{offer})"


def _shown(id: str) -> str:
    return repr(id if len(id) <= _SHOWN else id[:_SHOWN] + "...")
