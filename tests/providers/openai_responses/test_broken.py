"""Streams that fail, break off or hold garbage, and error bodies: never whole unless the provider said so."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import (
    ContextLengthExceeded,
    ProviderContentFiltered,
    ProviderError,
    ProviderInvalidRequest,
    ProviderModelNotFound,
    ProviderOverloaded,
    ProviderProtocolError,
    ProviderQuotaExceeded,
    ProviderRateLimited,
    ProviderUnauthenticated,
    ProviderUnavailable,
    StreamTruncated,
)
from server.core.events import Completed, Failed, Started, StreamEvent, Usage
from server.core.stream import Guard, fold
from server.providers.wire import Exchange
from tests.providers.openai_responses.support import (
    added,
    answer,
    call,
    completed,
    created,
    done,
    function,
    message,
    of,
    piece,
    response,
    run,
    said,
    sse,
    target,
    thought,
    wire,
)

QUOTA = {"type": "insufficient_quota", "code": "insufficient_quota", "message": "No credit.", "param": None}

FAILURES: list[tuple[dict[str, Any], type[ProviderError], bool]] = [
    ({"type": "error", "error": QUOTA}, ProviderQuotaExceeded, False),
    ({"type": "error", "code": "insufficient_quota", "message": "No credit."}, ProviderQuotaExceeded, False),
    ({"type": "error", "error": {"message": "oh"}}, ProviderUnavailable, True),
    ({"error": {"message": "oh"}, "message": "oh"}, ProviderUnavailable, True),
    ({"type": "error"}, ProviderUnavailable, True),
    ({"type": "error", "code": "rate_limit_exceeded", "message": "slow"}, ProviderRateLimited, True),
    ({"type": "error", "code": "server_error", "message": "oh", "param": None}, ProviderUnavailable, True),
    (
        {"type": "error", "error": {"type": "invalid_request_error", "code": "context_length_exceeded"}},
        ContextLengthExceeded,
        False,
    ),
    *(
        ({"type": "response.failed", "response": response("failed", error=error)}, cls, retryable)
        for error, cls, retryable in (
            ({"code": "server_error", "message": "oh"}, ProviderUnavailable, True),
            ({"code": "rate_limit_exceeded", "message": "slow"}, ProviderRateLimited, True),
            ({"code": "invalid_prompt", "message": "flagged"}, ProviderContentFiltered, False),
            ({"code": "invalid_image_url", "message": "where?"}, ProviderInvalidRequest, False),
            ({"code": "new", "message": "?"}, ProviderUnavailable, True),
            (None, ProviderUnavailable, True),
        )
    ),
]


@pytest.mark.parametrize("before", [[], created(), [*created(), *said(0, "part")]], ids=["first", "early", "late"])
@pytest.mark.parametrize(("event", "cls", "retryable"), FAILURES)
def test_a_stream_that_fails(
    event: dict[str, Any], cls: type[ProviderError], retryable: bool, before: list[dict[str, Any]]
) -> None:
    """Trap 19: nested or flat, as an event or as the answer's state: one Failed, by code and type, and nothing after
    it. Before anything was shown it is all there is, so that the call itself fails."""
    head = {"retry-after": "7"}
    events = run(sse(*before, event, *said(1, "never"), completed()), headers=head)
    (failed,) = of(events, Failed)
    assert (type(failed.error), failed.error.retryable, failed.error.retry_after) == (cls, retryable, None)
    assert bool(of(events, Started)) == (len(before) > 2)


def test_a_failed_answer_tells_what_was_counted() -> None:
    """The usage of response.failed goes into Failed."""
    event = {"type": "response.failed", "response": response("failed", usage={"input_tokens": 3, "output_tokens": 4})}
    (failed,) = of(run(sse(*created(), event)), Failed)
    assert failed.usage == Usage(3, 4, 7)


@pytest.mark.parametrize(
    ("document", "cls"),
    [
        (response("failed", error={"code": "server_error", "message": "oh"}), ProviderUnavailable),
        ({"error": QUOTA}, ProviderQuotaExceeded),
        ({"choices": []}, ProviderProtocolError),
        (b"[1]", ProviderProtocolError),
        (b"<html>", ProviderProtocolError),
        (b"", ProviderProtocolError),
    ],
)
def test_a_good_status_and_no_answer(document: Any, cls: type[ProviderError]) -> None:
    """An error in a 200, and what is no answer at all."""
    with pytest.raises(cls):
        answer(document)


RICH = sse(
    *created(),
    added(0, "reasoning", id="rs_1", summary=[]),
    piece(0, "reasoning_summary_text", "Größer 😀"),
    done(0, thought("Größer 😀")),
    *said(1, "é", "\n\n", "data: x"),
    added(2, "web_search_call", id="ws_1"),
    done(2, {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "ü"}}),
    added(3, "function_call", call_id="call_a", name="f"),
    piece(3, "function_call_arguments", '{"a":'),
    piece(3, "function_call_arguments", '"ü"}'),
    done(3, function(arguments='{"a":"ü"}')),
    completed(),
)
"""Every kind of item, with characters of all lengths."""

BOUNDARIES = [at + 2 for at in range(len(RICH) - 2) if RICH[at : at + 2] == b"\n\n"]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_stream_does_not_depend_on_its_reads(line_end: bytes) -> None:
    """Traps 1 and 2: byte by byte and with either line end, the same events as at once."""
    data = RICH.replace(b"\n", line_end)
    assert run(data[i : i + 1] for i in range(len(data))) == run(RICH)


@given(st.lists(st.integers(0, len(RICH)), max_size=12))
def test_a_stream_cut_anywhere_into_reads(cuts: list[int]) -> None:
    """Whatever the reads, the answer is the same."""
    edges = sorted({0, len(RICH), *cuts})
    assert run(RICH[start:end] for start, end in pairwise(edges)) == run(RICH)


@pytest.mark.parametrize("cut", BOUNDARIES)
def test_a_stream_cut_at_an_event(cut: int) -> None:
    """Trap 6: without its last event an answer is cut, however much of it came."""
    (failed,) = of(run(RICH[:cut]), Failed)
    assert isinstance(failed.error, StreamTruncated)
    assert failed.error.retryable


@given(st.integers(0, len(RICH) - 3))
def test_a_stream_cut_anywhere(cut: int) -> None:
    """In the middle of an event too: truncated, and not garbage."""
    (failed,) = of(run(RICH[:cut]), Failed)
    assert isinstance(failed.error, StreamTruncated)


def test_done_is_no_end() -> None:
    """Trap 2: [DONE] is not of this protocol; an answer before it is not whole by that."""
    (failed,) = of(run(sse(*created(), *said(0, "x")) + b"data: [DONE]\n\n"), Failed)
    assert isinstance(failed.error, StreamTruncated)
    assert fold(run(sse(*said(0, "x"), completed()) + b"data: [DONE]\n\n")).text == "x"


@pytest.mark.parametrize(
    "garbage",
    [
        b"data: {\n\n",
        b"data: <html>\n\n",
        b"data: [1]\n\n",
        b'data: {"type":"response.output_item.done","output_index":0,"item":7}\n\n',
        b'data: {"type":"response.output_text.delta","delta":{"a":1}}\n\n',
        sse(done(0, {**function(), "name": None})),
        b'data: {"type":"response.completed","response":[]}\n\n',
    ],
)
def test_garbage_fails_the_stream(garbage: bytes) -> None:
    """What is not the protocol ends the stream as such, in band."""
    (failed,) = of(run(sse(*said(1, "x")) + garbage + sse(completed())), Failed)
    assert isinstance(failed.error, ProviderProtocolError)


EVENTS = st.sampled_from(
    [
        *created(),
        *said(0, "a", "b"),
        *said(1, "c"),
        added(0, "function_call", call_id="x", name="f"),
        piece(0, "function_call_arguments", "{"),
        done(0, function()),
        done(2, thought("t")),
        piece(2, "reasoning_summary_text", "t"),
        {"type": "response.output_text.delta", "delta": "loose"},
        {"type": "error", "error": QUOTA},
        completed(message("a"), function()),
        completed(status="incomplete"),
        {"type": "response.unknown"},
    ]
)


@given(st.lists(EVENTS, max_size=20))
def test_events_in_any_order_obey_the_grammar(events: list[dict[str, Any]]) -> None:
    """Whatever a server sends, and in which order: a legal stream with one end, and no crash."""
    parser = wire().stream_parser(Exchange(call(), 200, {}))
    found: list[StreamEvent] = [*parser.feed(sse(*events)), *parser.end()]
    guard = Guard()
    assert guard.feed(found) == found
    assert guard.end() == []
    assert isinstance(found[-1], (Completed, Failed))


@given(st.binary(max_size=400))
def test_any_bytes_end_a_stream_in_order(data: bytes) -> None:
    """Garbage of every kind: one Failed at the end."""
    parser = wire().stream_parser(Exchange(call(), 200, {}))
    assert isinstance([*parser.feed(data), *parser.end()][-1], Failed)


# --- refusals ---------------------------------------------------------------------------------------------------------

ERRORS: list[tuple[str, int, dict[str, Any], type[ProviderError], bool]] = [
    ("openai", 401, {"error": {"code": "invalid_api_key", "message": "no"}}, ProviderUnauthenticated, False),
    ("openai", 404, {"error": {"code": "model_not_found", "message": "no"}}, ProviderModelNotFound, False),
    ("openai", 429, {"error": {"type": "tokens", "code": "rate_limit_exceeded"}}, ProviderRateLimited, True),
    ("openai", 429, {"error": QUOTA}, ProviderQuotaExceeded, False),
    ("openai", 400, {"error": {"code": "context_length_exceeded", "message": "x"}}, ContextLengthExceeded, False),
    ("openai", 400, {"error": {"code": "invalid_prompt", "message": "flagged"}}, ProviderContentFiltered, False),
    ("openai", 400, {"error": {"code": None, "param": "stop", "message": "no"}}, ProviderInvalidRequest, False),
    ("openai", 500, {"error": {"type": "server_error", "message": "oh"}}, ProviderUnavailable, True),
    ("openai", 503, {"error": {"type": "server_error", "message": "busy"}}, ProviderOverloaded, True),
    ("openai", 503, {}, ProviderOverloaded, True),
    ("xai", 400, {"code": "invalid-argument", "error": "Incorrect API key provided."}, ProviderUnauthenticated, False),
    ("xai", 400, {"code": "invalid-argument", "error": "Bad model."}, ProviderInvalidRequest, False),
]


@pytest.mark.parametrize(("slug", "status", "document", "cls", "retryable"), ERRORS)
def test_refusals(slug: str, status: int, document: dict[str, Any], cls: type[ProviderError], retryable: bool) -> None:
    """By code, type and status, as in Chat Completions, and the codes that only this API has."""
    error = wire(slug).map_error(target(slug), status, {"x-request-id": "r"}, json.dumps(document).encode())
    assert isinstance(error, cls)
    assert (error.http_status, error.retryable, error.request_id) == (status, retryable, "r")
