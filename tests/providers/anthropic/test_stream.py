"""Streams of the Messages API: each block, ending, error and accident that was seen on this wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from server.core.events import Completed, Started, Usage
from server.core.messages import Citation, Reasoning, ServerTool, Text
from server.core.stream import fold
from tests.providers.anthropic.support import closed, ending, of, opened, piece, run, sse, start, text

PING = {"type": "ping"}

CALL = [
    opened(0, "tool_use", id="toolu_1", name="weather", input={}, caller={"type": "direct"}),
    piece(0, "input_json_delta", partial_json=""),
    piece(0, "input_json_delta", partial_json='{"city": "F'),
    piece(0, "input_json_delta", partial_json='lorence"}'),
    closed(0),
]


def arguments_of(*events: Mapping[str, Any], reason: str = "tool_use") -> list[tuple[str, str, str]]:
    response = fold(run(sse(start(), *events, *ending(reason))))
    return [(call.id, call.name, call.arguments) for call in response.tool_calls]


TOOL_SHAPES: dict[str, tuple[list[dict[str, Any]], list[tuple[str, str, str]]]] = {
    "input in pieces": (CALL, [("toolu_1", "weather", '{"city": "Florence"}')]),
    "no arguments: one empty piece": (
        [opened(0, "tool_use", id="a", name="f", input={}), piece(0, "input_json_delta", partial_json=""), closed(0)],
        [("a", "f", "{}")],
    ),
    "no arguments: no piece at all": (
        [opened(0, "tool_use", id="a", name="f", input={}), closed(0)],
        [("a", "f", "{}")],
    ),
    "input null": ([opened(0, "tool_use", id="a", name="f", input=None), closed(0)], [("a", "f", "{}")]),
    "the whole input in the start": (
        [opened(0, "tool_use", id="a", name="f", input={"x": 1}), closed(0)],
        [("a", "f", '{"x": 1}')],
    ),
    "two calls": (
        [
            opened(0, "tool_use", id="a", name="f", input={}),
            piece(0, "input_json_delta", partial_json='{"x":1}'),
            closed(0),
            opened(1, "tool_use", id="b", name="f", input={}),
            piece(1, "input_json_delta", partial_json='{"x":2}'),
            closed(1),
        ],
        [("a", "f", '{"x":1}'), ("b", "f", '{"x":2}')],
    ),
    "no id": ([opened(0, "tool_use", name="f", input={}), closed(0)], [("call_0", "f", "{}")]),
    "no end of the block": (CALL[:-1], [("toolu_1", "weather", '{"city": "Florence"}')]),
}


@pytest.mark.parametrize("shape", TOOL_SHAPES)
def test_tool_calls_come_out_whole_in_every_shape(shape: str) -> None:
    """Id, name and arguments of each call, however the stream put them."""
    events, expected = TOOL_SHAPES[shape]
    assert arguments_of(*events) == expected


def test_arguments_cut_at_the_token_limit_are_passed_on_with_a_warning() -> None:
    """max_tokens in the middle of the arguments ends the block without its stop event; the call is not repaired."""
    (completed,) = of(events := run(sse(start(), *CALL[:3], *ending("max_tokens"))), Completed)
    (call,) = fold(events).tool_calls
    assert call.arguments == '{"city": "F'
    assert completed.finish_reason == "length"
    assert [(w.code, "toolu_1" in w.message) for w in completed.warnings] == [("invalid_tool_arguments", True)]


def test_a_server_tool_is_no_client_call() -> None:
    """server_tool_use and its result are steps of their own, and the answer ends with stop."""
    found = {"type": "web_search_result", "url": "https://e.example", "title": "E", "encrypted_content": "ZW5j"}
    events = [
        opened(0, "server_tool_use", id="srvtoolu_1", name="web_search", input={}),
        piece(0, "input_json_delta", partial_json='{"query":"x"}'),
        closed(0),
        opened(1, "web_search_tool_result", tool_use_id="srvtoolu_1", content=[found]),
        closed(1),
        *text(2, "Done."),
    ]
    response = fold(run(sse(start(), *events, *ending())))
    use, result, said = response.message.parts
    assert isinstance(use, ServerTool)
    assert isinstance(result, ServerTool)
    assert (use.type, use.id, use.name, use.input, use.output) == (
        "server_tool_use", "srvtoolu_1", "web_search", '{"query":"x"}', "",
    )  # fmt: skip
    assert (result.type, result.id, json.loads(result.output)) == ("web_search_tool_result", "srvtoolu_1", [found])
    assert result.opaque is not None
    assert b"encrypted_content" not in result.opaque.data, "what the output says is not kept twice"
    assert said == Text("Done.")
    assert (response.tool_calls, response.finish_reason) == ((), "stop")


@pytest.mark.parametrize(
    ("type", "members", "output"),
    [
        (
            "web_fetch_tool_result",
            {"content": {"type": "web_fetch_tool_result_error", "error_code": "unavailable"}},
            True,
        ),
        ("bash_code_execution_tool_result", {"content": {"stdout": "1\n", "return_code": 0}}, True),
        ("mcp_tool_use", {"id": "mcptoolu_1", "name": "m", "server_name": "s", "input": {"a": 1}}, False),
        ("container_upload", {"file_id": "file_1"}, False),
        ("something_of_2027", {"content": [1], "more": True}, True),
    ],
)
def test_a_block_without_deltas_is_kept_whole(type: str, members: dict[str, Any], output: bool) -> None:
    """Results, and blocks of kinds that nobody knows yet, travel as server steps: visible fields and the rest."""
    response = fold(run(sse(start(), opened(0, type, **members), closed(0), *ending())))
    (part,) = response.message.parts
    assert isinstance(part, ServerTool)
    assert part.type == type
    assert (part.output != "") is output
    assert part.opaque is not None
    rest = json.loads(part.opaque.data)
    whole = {**rest, **({"content": json.loads(part.output)} if output else {})}
    assert (whole | ({"input": json.loads(part.input)} if part.input else {})) == {"type": type, **members}


def test_thoughts_carry_their_signature_and_redacted_ones_their_data() -> None:
    """The signature may come in pieces; a redacted block is complete at its start and shows no text."""
    events = [
        opened(0, "thinking", thinking="", signature=""),
        piece(0, "thinking_delta", thinking="Hm."),
        piece(0, "signature_delta", signature="c2"),
        piece(0, "signature_delta", signature="ln"),
        closed(0),
        opened(1, "redacted_thinking", data="cmVk"),
        PING,
        closed(1),
        *text(2, "Yes."),
    ]
    response = fold(run(sse(start(), *events, *ending())))
    thought, redacted, _ = response.message.parts
    assert isinstance(thought, Reasoning)
    assert isinstance(redacted, Reasoning)
    assert thought.opaque is not None
    assert redacted.opaque is not None
    assert (thought.text, json.loads(thought.opaque.data)) == ("Hm.", {"type": "thinking", "signature": "c2ln"})
    assert (redacted.text, json.loads(redacted.opaque.data)) == ("", {"type": "redacted_thinking", "data": "cmVk"})
    assert (thought.opaque.provider, thought.opaque.model) == ("anthropic", "claude-x")
    assert (response.reasoning, response.text) == ("Hm.", "Yes.")


def test_compaction_is_a_step_and_its_usage_stays_apart() -> None:
    """The summary comes in compaction deltas; iterations are shown and not added to the counts."""
    events = [
        start(input_tokens=100, cache_read_input_tokens=55_096, cache_creation_input_tokens=0, output_tokens=7),
        opened(0, "compaction", content=None),
        piece(0, "compaction_delta", content="The story "),
        piece(0, "compaction_delta", content="so far."),
        closed(0),
        *text(1, "Hello"),
    ]
    iterations = [{"type": "compaction", "input_tokens": 100, "output_tokens": 83}]
    usage = {"input_tokens": 181, "cache_read_input_tokens": 0, "output_tokens": 8, "iterations": iterations}
    response = fold(run(sse(*events, *ending("end_turn", usage))))
    step = response.message.parts[0]
    assert isinstance(step, ServerTool)
    assert (step.type, json.loads(step.output)) == ("compaction", "The story so far.")
    assert (response.usage.prompt_tokens, response.usage.cached_tokens, response.usage.completion_tokens) == (181, 0, 8)
    assert json.loads(response.provider_metadata)["usage"]["iterations"] == iterations


def test_citations_belong_to_their_block_and_go_back_as_they_came() -> None:
    """Both kinds of source; offsets into the source are no offsets into the text, and stay in the opaque data."""
    char = {
        "type": "char_location", "cited_text": "By M.", "document_title": "facts", "document_index": 0,
        "start_char_index": 3, "end_char_index": 8,
    }  # fmt: skip
    web = {
        "type": "web_search_result_location", "url": "https://e.example", "title": "E", "cited_text": "x",
        "encrypted_index": "aWR4",
    }  # fmt: skip
    events = [
        opened(0, "text", text="", citations=[]),
        piece(0, "citations_delta", citation=char),
        piece(0, "text_delta", text="M made it."),
        piece(0, "citations_delta", citation=web),
        closed(0),
        *text(1, " And more."),
    ]
    cited, plain = fold(run(sse(start(), *events, *ending()))).message.parts
    assert isinstance(cited, Text)
    assert cited.citations == (Citation(None, "facts", "By M."), Citation("https://e.example", "E", "x"))
    assert cited.opaque is not None
    assert json.loads(cited.opaque.data)["citations"] == [char, web]
    assert plain == Text(" And more.")


USAGES: dict[str, tuple[dict[str, Any], dict[str, Any], Usage]] = {
    "prompt with cache reads and writes": (
        {"input_tokens": 3, "cache_creation_input_tokens": 418, "cache_read_input_tokens": 1111, "output_tokens": 1},
        {"output_tokens": 33},
        Usage(1532, 33, 1565, 1111, 418),
    ),
    "repeated and corrected at the end": (
        {"input_tokens": 2049, "output_tokens": 1},
        {"input_tokens": 13_520, "cache_read_input_tokens": None, "output_tokens": 415},
        Usage(13_520, 415, 13_935),
    ),
    "thinking is part of the output": (
        {"input_tokens": 13},
        {"output_tokens": 44, "output_tokens_details": {"thinking_tokens": 33}},
        Usage(13, 44, 57, None, None, 33),
    ),
    "only at the end": ({}, {"input_tokens": 5, "output_tokens": 6}, Usage(5, 6, 11)),
    "none of the prompt": ({}, {"output_tokens": 6}, Usage(None, 6)),
    "numbers as fractions, details null": (
        {"input_tokens": 5.0, "output_tokens_details": None},
        {"output_tokens": 6.0},
        Usage(5, 6, 11),
    ),
}


@pytest.mark.parametrize("case", USAGES)
def test_usage_is_merged_field_by_field_and_the_output_is_cumulative(case: str) -> None:
    """What message_delta gives replaces, what it leaves out or has as null stays, and nothing is added up."""
    first, last, expected = USAGES[case]
    assert fold(run(sse(start(**first), *text(0, "x"), *ending("end_turn", last)))).usage == expected


def test_usage_that_cannot_be_read_is_a_warning() -> None:
    """Broken counts do not break the answer."""
    response = fold(run(sse(start(input_tokens="many"), *text(0, "x"), *ending())))
    assert response.text == "x"
    assert {warning.code for warning in response.warnings} == {"usage_unreadable"}


FINISH = [
    ("end_turn", "stop"),
    ("stop_sequence", "stop"),
    ("max_tokens", "length"),
    ("model_context_window_exceeded", "length"),
    ("refusal", "content_filter"),
    ("pause_turn", "pause_turn"),
    ("compaction", "compaction"),
    ("word_of_2027", "word_of_2027"),
    ("tool_use", "stop"),
]


@pytest.mark.parametrize(("raw", "neutral"), FINISH)
def test_finish_reasons_of_an_answer_without_calls(raw: str, neutral: str) -> None:
    """Neutral where there is an equal, the provider's word where not; the raw one beside it."""
    (completed,) = of(run(sse(start(), *text(0, "x"), *ending(raw))), Completed)
    assert (completed.finish_reason, completed.raw_finish_reason) == (neutral, raw)


@pytest.mark.parametrize(
    ("raw", "neutral"), [("tool_use", "tool_calls"), ("end_turn", "tool_calls"), ("max_tokens", "length")]
)
def test_calls_win_over_stop_and_not_over_the_limit(raw: str, neutral: str) -> None:
    """With client calls in the answer, an ordinary end is tool_calls."""
    (completed,) = of(run(sse(start(), *CALL, *ending(raw))), Completed)
    assert completed.finish_reason == neutral


@pytest.mark.parametrize(
    ("details", "refusal"),
    [
        ({"type": "refusal", "category": "cyber", "explanation": "Not this."}, "Not this."),
        ({"type": "refusal", "category": "bio", "explanation": None}, "bio"),
        ({"type": "refusal", "category": None, "explanation": None}, ""),
        (None, ""),
    ],
)
def test_a_refusal_completes_with_its_explanation(details: dict[str, Any] | None, refusal: str) -> None:
    """HTTP 200, no content or some: content_filter, the explanation, the details as they came."""
    (completed,) = of(run(sse(start(), *ending("refusal", stop_details=details))), Completed)
    assert (completed.finish_reason, completed.refusal) == ("content_filter", refusal)
    metadata = json.loads(completed.provider_metadata)
    assert metadata.get("stop_details") == details


def test_what_has_no_neutral_place_is_in_the_metadata() -> None:
    """Container, matched stop sequence, applied edits, rate limits."""
    told = ending("stop_sequence", container={"id": "container_1"}, stop_sequence="END")
    told[0]["context_management"] = {"applied_edits": []}
    # The API sends retry-after with good answers too, where it means nothing.
    headers = {"anthropic-ratelimit-requests-remaining": "49", "request-id": "req_1", "retry-after": "27"}
    events = run(sse(start(input_tokens=1), *text(0, "x"), *told), headers=headers)
    (completed,) = of(events, Completed)
    assert json.loads(completed.provider_metadata) == {
        "stop_sequence": "END",
        "container": {"id": "container_1"},
        "context_management": {"applied_edits": []},
        "usage": {"input_tokens": 1, "output_tokens": 7},
        "rate_limit": {"requests-remaining": "49"},
    }
    (started,) = of(events, Started)
    assert (started.id, started.model, started.request_id) == ("msg_1", "claude-x-1", "req_1")
