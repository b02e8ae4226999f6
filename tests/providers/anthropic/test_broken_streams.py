"""Streams that fail, restart, break off or hold what nobody knows: never whole unless the provider said so."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import (
    ProviderError,
    ProviderInvalidRequest,
    ProviderOverloaded,
    ProviderProtocolError,
    ProviderRateLimited,
    ProviderUnavailable,
    StreamTruncated,
)
from server.core.events import BlockDelta, BlockEnd, BlockStart, Completed, Failed
from server.core.stream import fold
from server.providers.wire import Exchange
from tests.providers.anthropic.support import call, closed, ending, of, opened, piece, run, sse, start, text, wire

PING = {"type": "ping"}

RICH = sse(
    start(input_tokens=10, output_tokens=1),
    PING,
    opened(0, "thinking", thinking="", signature=""),
    piece(0, "thinking_delta", thinking="Größer, "),
    piece(0, "thinking_delta", thinking="😀"),
    piece(0, "signature_delta", signature="c2ln"),
    closed(0),
    *text(1, "é", "\n\n", "data: x"),
    opened(2, "tool_use", id="toolu_1", name="f", input={}),
    piece(2, "input_json_delta", partial_json='{"a":"ü"}'),
    closed(2),
    *ending("tool_use", {"output_tokens": 30}),
)
"""Every kind of block that has deltas, with characters of all lengths."""


ERRORS: list[tuple[dict[str, Any], type[ProviderError], bool]] = [
    ({"type": "overloaded_error", "message": "Overloaded"}, ProviderOverloaded, True),
    ({"type": "rate_limit_error", "message": "slow"}, ProviderRateLimited, True),
    ({"type": "api_error", "message": "oh"}, ProviderUnavailable, True),
    ({"type": "timeout_error", "message": "late"}, ProviderUnavailable, True),
    ({"type": "invalid_request_error", "message": "no", "details": None}, ProviderInvalidRequest, False),
    ({"type": "error_of_2027", "message": "?"}, ProviderUnavailable, True),
]


@pytest.mark.parametrize(("error", "cls", "retryable"), ERRORS)
@pytest.mark.parametrize("before", [[], [start(input_tokens=9)], [start(input_tokens=9), *text(0, "part")]])
def test_an_error_event_fails_the_stream_wherever_it_stands(
    error: dict[str, Any], cls: type[ProviderError], retryable: bool, before: list[dict[str, Any]]
) -> None:
    """First of all events, or in the middle: Failed by the error's type, with what was counted until then."""
    events = run(sse(*before, {"type": "error", "error": error}, *text(1, "never")))
    (failed,) = of(events, Failed)
    assert isinstance(failed.error, cls)
    assert (failed.error.retryable, failed.error.type) == (retryable, error["type"])
    assert failed.error.provider_message == error["message"]
    assert failed.usage.prompt_tokens == (9 if before else None)


def test_an_error_event_is_known_by_its_name_alone() -> None:
    """A server that leaves `type` out of the data is understood by the event's name."""
    data = b'event: error\ndata: {"error": {"type": "overloaded_error", "message": "Overloaded"}}\n\n'
    (failed,) = of(run(data), Failed)
    assert type(failed.error) is ProviderOverloaded


def test_a_message_that_is_begun_again_before_its_first_block_is_the_later_one() -> None:
    """A proxy that tried once more has said nothing yet that would have to be unsaid."""
    data = sse(start("msg_a", input_tokens=5), PING, start("msg_b", input_tokens=6), *text(0, "x"), *ending())
    response = fold(run(data))
    assert (response.id, response.text, response.usage.prompt_tokens) == ("msg_b", "x", 6)


def test_the_same_head_twice_changes_nothing() -> None:
    """A duplicate message_start in the middle of its own message is passed over."""
    first, *rest = text(0, "a", "b")
    assert fold(run(sse(start(), first, start(), *rest, *ending()))).text == "ab"


UNFINISHED_CALL = [opened(1, "tool_use", id="t", name="f", input={}), piece(1, "input_json_delta", partial_json="{")]


@pytest.mark.parametrize(
    "again",
    [[start("msg_other"), *text(0, "b")], [start("msg_1"), *text(0, "b")], text(0, "b")],
    ids=["another message", "the same id", "blocks alone"],
)
def test_an_answer_spliced_onto_another_fails(again: list[dict[str, Any]]) -> None:
    """Once a block was shown, a restart cannot be made whole: the parts of two answers are never taken for one."""
    events = run(sse(start("msg_1"), *text(0, "a"), *UNFINISHED_CALL, *again, *ending()))
    (failed,) = of(events, Failed)
    assert type(failed.error) is ProviderProtocolError
    assert failed.error.retryable


def test_what_is_unknown_is_passed_over() -> None:
    """New events, new fields, keep-alives, comments and a foreign end mark do not disturb."""
    odd = sse({"type": "event_of_2027", "index": 9}, {"type": "content_block_delta", "index": 0})
    noise = b": keep-alive\n\ndata: \n\ndata: [DONE]\n\nevent: ping\ndata: {}\n\n"
    first, *rest = text(0, "x")
    response = fold(run(sse({**start(), "new": 1}, first) + noise + odd + sse(*rest, *ending())))
    assert response.text == "x"


@pytest.mark.parametrize(
    ("data", "cls"),
    [
        (sse(start()) + b"data: {nonsense\n\n", ProviderProtocolError),
        (sse(start()) + b"data: [1]\n\n", ProviderProtocolError),
        (sse(start(), piece(0, "text_delta", text="x")), ProviderProtocolError),
        (sse(start(), *text(0, "a")[:1], piece(1, "text_delta", text="x")), ProviderProtocolError),
        (sse(start(), *text(0, "a")[:1], piece(0, "input_json_delta", partial_json="{")), ProviderProtocolError),
        (sse(start(), opened(0, "")), ProviderProtocolError),
        (sse(start(), opened(0, "tool_use", id="a")), ProviderProtocolError),
        (sse(start(), *text(0, "a"), {"type": "message_stop"}), StreamTruncated),
        (b"", StreamTruncated),
        (b": only a comment\n\n", StreamTruncated),
        (sse(start(), *text(0, "a"), ending()[0]), StreamTruncated),
        (sse(start(), *text(0, "a"), *ending())[:-3], StreamTruncated),
    ],
)
def test_garbage_and_disorder_fail(data: bytes, cls: type) -> None:
    """What is no protocol fails as that; what ends too early is truncated, and never whole."""
    (failed,) = of(run(data), Failed)
    assert type(failed.error) is cls


def test_a_last_event_without_its_blank_line_counts() -> None:
    """The body may end right after the last byte of message_stop."""
    assert fold(run(sse(start(), *text(0, "x"), *ending()).rstrip(b"\n"))).text == "x"


@pytest.mark.parametrize("data", [RICH, RICH.replace(b"\n", b"\r\n")], ids=["LF", "CRLF"])
def test_events_do_not_depend_on_the_reads(data: bytes) -> None:
    """Byte by byte, as a whole, with either line end: the same events."""
    whole = run(RICH)
    assert run(data) == whole
    assert run(data[i : i + 1] for i in range(len(data))) == whole
    assert [event.kind for event in of(whole, BlockStart)] == ["reasoning", "text", "tool_call"]


def test_a_stream_cut_anywhere_is_never_whole() -> None:
    """Cut after each byte, the stream fails until the last event is complete."""
    end = RICH.rstrip(b"\n")
    for cut in range(len(end)):
        assert type(run(RICH[:cut])[-1]) is Failed
    assert type(run(end)[-1]) is Completed


def test_deltas_reach_the_caller_as_they_come() -> None:
    """Nothing is held back to the end of a block: each piece is its own event."""
    parser = wire().stream_parser(Exchange(call(), 200, {}))
    parser.feed(sse(start(), opened(0, "text", text="")))
    assert parser.feed(sse(piece(0, "text_delta", text="a"))) == [BlockDelta(0, "a")]
    assert [type(e) for e in parser.feed(sse(closed(0)))] == [BlockEnd]


@given(st.binary(max_size=400), st.integers(min_value=0, max_value=len(RICH)))
def test_no_bytes_make_the_parser_raise(garbage: bytes, at: int) -> None:
    """Garbage anywhere in a stream ends in exactly one terminal event."""
    events = run([RICH[:at], garbage, RICH[at:]])
    assert type(events[-1]) in (Completed, Failed)
