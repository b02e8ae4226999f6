"""What a stream comes to: blocks in order, reasoning, calls, steps of server tools, citations, refusals, the end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.errors import StreamTruncated
from server.core.events import BlockStart, Completed, Started, Usage
from server.core.messages import Citation, Reasoning, ServerTool, Text, ToolCall
from server.core.stream import fold
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
    thought,
    wire,
)  # fmt: skip


def test_text_in_the_order_that_openai_has() -> None:
    """created, in_progress, the message with its part, completed: one text block, once, whatever is repeated."""
    events = run(
        sse(*created(), *said(0, "Grüße ", "😀"), completed(message("Grüße 😀"))), headers={"x-request-id": "req_9"}
    )
    (started,) = of(events, Started)
    assert (started.id, started.model, started.request_id, started.provider) == ("resp_1", "m-1", "req_9", "openai")
    whole = fold(events)
    assert whole.message.parts == (Text("Grüße 😀"),)
    assert (whole.finish_reason, whole.raw_finish_reason) == ("stop", "completed")
    assert whole.usage == Usage(5, 7, 12)


def test_reasoning_is_shown_in_parts_and_kept_whole() -> None:
    """Each part of a summary is a block; the last of them carries the item as it is to be sent back, byte for byte."""
    item = thought("First.", "Second.", status="completed")
    events = run(
        sse(
            *created(),
            added(0, "reasoning", id="rs_1", summary=[], encrypted_content="half"),
            piece(0, "reasoning_summary_text", "Fir"),
            piece(0, "reasoning_summary_text", "st."),
            piece(0, "reasoning_summary_text", "Second.", 1),
            done(0, item),
            *said(1, "Yes."),
            completed(),
        )
    )
    whole = fold(events)
    first, second, text = whole.message.parts
    assert isinstance(first, Reasoning)
    assert isinstance(second, Reasoning)
    assert (first.text, first.opaque, second.text, text) == ("First.", None, "Second.", Text("Yes."))
    assert second.opaque is not None
    assert (second.opaque.provider, second.opaque.model) == ("openai", "m")
    assert json.loads(second.opaque.data) == item
    assert whole.reasoning == "First.Second."


def test_encrypted_reasoning_without_a_summary_is_a_block_without_text() -> None:
    """Nothing to read, and all the same it must go back with the next turn."""
    (part,) = fold(run(sse(added(0, "reasoning"), done(0, thought()), completed()))).message.parts
    assert isinstance(part, Reasoning)
    assert part.text == ""
    assert part.opaque is not None


def test_reasoning_that_nobody_could_send_back_is_not_kept() -> None:
    """Without ciphertext its id means nothing to a server that stores nothing (Copilot sends null)."""
    (part,) = fold(run(sse(done(0, thought("Hm.", encrypted=None)), completed()))).message.parts
    assert part == Reasoning("Hm.")


def test_reasoning_text_of_open_models_is_reasoning() -> None:
    """LM Studio streams `reasoning_text`, parts of `content`; such an item can go back."""
    item = thought(encrypted=None, content=[{"type": "reasoning_text", "text": "Hm."}])
    (part,) = fold(
        run(sse(added(0, "reasoning"), piece(0, "reasoning_text", "Hm."), done(0, item), completed()))
    ).message.parts
    assert isinstance(part, Reasoning)
    assert part.text == "Hm."
    assert part.opaque is not None


def test_what_the_contract_has_no_word_for_is_kept() -> None:
    """`phase` of a message, `namespace` of a call: as opaque data of their parts; ids and states are not."""
    output = [message("Let me see.", phase="commentary"), function(namespace="crm")]
    text, made = fold(answer(response("completed", output))).message.parts
    assert isinstance(text, Text)
    assert isinstance(made, ToolCall)
    assert text.opaque is not None
    assert made.opaque is not None
    assert json.loads(text.opaque.data) == {"phase": "commentary"}
    assert json.loads(made.opaque.data) == {"namespace": "crm"}


def test_a_message_of_several_parts_is_several_blocks() -> None:
    """Each part has citations of its own, so each is a block of its own."""
    events = [
        added(0, "message"),
        piece(0, "output_text", "a"),
        piece(0, "output_text", "b", 1),
        done(0, message("a", "b")),
        completed(),
    ]
    assert fold(run(sse(*events))).message.parts == (Text("a"), Text("b"))
    assert fold(answer(response("completed", [message("a", "b")]))).message.parts == (Text("a"), Text("b"))


URL = {"type": "url_citation", "url": "https://e.x", "title": "E", "start_index": 0, "end_index": 3}
FILE = {"type": "file_citation", "file_id": "file_1", "filename": "a.pdf", "index": 2}


def test_citations_and_log_probabilities_stand_at_their_text() -> None:
    """Streamed one by one and repeated at the end: each counts once. What is no URL is in the metadata besides."""
    token = {"token": "yes", "logprob": -0.1, "bytes": None, "top_logprobs": []}
    whole = message("yes")
    whole["content"][0] |= {"annotations": [URL, FILE], "logprobs": [token]}
    events = [
        added(0, "message"),
        piece(0, "output_text", "yes"),
        {"type": "response.output_text.annotation.added", "output_index": 0, "content_index": 0, "annotation": URL},
        {"type": "response.output_text.annotation.added", "output_index": 0, "content_index": 0, "annotation": FILE},
        done(0, whole),
        completed(whole),
    ]
    for found in (run(sse(*events)), answer(response("completed", [whole]))):
        result = fold(found)
        (text,) = result.message.parts
        assert isinstance(text, Text)
        assert text.citations == (Citation("https://e.x", "E", None, 0, 3), Citation(None, "a.pdf"))
        assert json.loads(text.logprobs) == {"content": [token]}
        assert json.loads(result.provider_metadata)["annotations"] == [FILE]


def test_citations_that_are_only_streamed_count() -> None:
    """A server that does not repeat them at the end."""
    events = [
        added(0, "message"),
        piece(0, "output_text", "yes"),
        {"type": "response.output_text.annotation.added", "output_index": 0, "content_index": 0, "annotation": URL},
        completed(),
    ]
    (text,) = fold(run(sse(*events))).message.parts
    assert isinstance(text, Text)
    assert len(text.citations) == 1


def test_a_refusal_is_no_text() -> None:
    """Trap 23: its words are in `refusal`, and the answer is whole."""
    item = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "I can't."}]}
    events = [
        added(0, "message"),
        piece(0, "refusal", "I "),
        piece(0, "refusal", "can't."),
        {"type": "response.refusal.done", "output_index": 0, "content_index": 0, "refusal": "I can't."},
        done(0, item),
        completed(item),
    ]
    for found in (run(sse(*events)), answer(response("completed", [item]))):
        whole = fold(found)
        assert (whole.text, whole.refusal, whole.finish_reason) == ("", "I can't.", "stop")


ENDS = [
    ("completed", None, [], "stop", "completed"),
    ("incomplete", {"reason": "max_output_tokens"}, [], "length", "incomplete:max_output_tokens"),
    ("incomplete", {"reason": "content_filter"}, [], "content_filter", "incomplete:content_filter"),
    ("incomplete", {"reason": "new"}, [], "incomplete:new", "incomplete:new"),
    ("incomplete", None, [], "incomplete", "incomplete"),
    ("incomplete", {"reason": "max_output_tokens"}, [function(arguments='{"a":')], "length",
     "incomplete:max_output_tokens"),
    ("queued", None, [], "queued", "queued"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "details", "output", "reason", "raw"), ENDS)
def test_how_an_answer_ends(
    status: str, details: dict[str, str] | None, output: list[dict[str, Any]], reason: str, raw: str
) -> None:
    """Trap 20: an incomplete answer is one too, with the reason in neutral words where there are some."""
    whole = fold(answer(response(status, output, incomplete_details=details)))
    assert (whole.finish_reason, whole.raw_finish_reason) == (reason, raw)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ({"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}, Usage(0, 0, 0)),
        ({"input_tokens": 3.0, "output_tokens": 4}, Usage(3, 4, 7)),
        (
            {
                "input_tokens": 30,
                "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 5},
                "output_tokens": 9,
                "output_tokens_details": {"reasoning_tokens": 8},
                "total_tokens": 39,
            },
            Usage(30, 9, 39, 20, 5, 8),
        ),
        ({"input_tokens": 3, "input_tokens_details": None, "output_tokens": None}, Usage(3)),
    ],
)
def test_usage(usage: Any, expected: Usage) -> None:
    """Trap 16: null is no count and 0 is one; reasoning is inside of output_tokens."""
    assert fold(answer(response("completed", [message("x")], usage=usage))).usage == expected


def test_unreadable_usage_is_a_warning_and_not_the_end() -> None:
    """The answer is whole all the same."""
    whole = fold(answer(response("completed", [message("x")], usage={"input_tokens": "many"})))
    assert (whole.text, [warning.code for warning in whole.warnings]) == ("x", ["usage_unreadable"])


def test_events_and_items_that_nobody_knows() -> None:
    """Trap 32: an unknown event is passed over whatever it holds; an unknown item is a step, and can go back."""
    item = {"type": "oracle_call", "id": "or_1", "status": "completed", "question": "?", "output": ["!"]}
    events = [
        *created(),
        {"type": "response.keepalive", "delta": {"deep": [1]}, "output_index": "x"},
        {"type": "codex.rate_limits"},
        added(0, "oracle_call", id="or_1"),
        {"type": "response.oracle_call.thinking", "output_index": 0, "delta": 7},
        done(0, item),
        completed(item),
    ]
    (step,) = fold(run(sse(*events))).message.parts
    assert isinstance(step, ServerTool)
    assert (step.type, step.id, step.name) == ("oracle_call", "or_1", "oracle")
    assert (step.input, step.output) == ('{"question":"?"}', '{"output":["!"]}')
    assert step.opaque is not None
    assert json.loads(step.opaque.data) == item


def test_a_type_that_only_the_event_line_has() -> None:
    """A server that leaves it out of the data."""
    events = [*said(0, "a"), completed()]
    lean = b"".join(
        f"event: {event['type']}\ndata: ".encode()
        + json.dumps({key: value for key, value in event.items() if key != "type"}).encode()
        + b"\n\n"
        for event in events
    )
    assert fold(run(lean)).text == "a"


def test_started_waits_for_something_to_show() -> None:
    """OpenAI says `created` before it has looked at the account: an error right after it is no answer at all."""
    parser = wire().stream_parser(Exchange(call(), 200, {}))
    assert parser.feed(sse(*created())) == []
    assert [type(event) for event in parser.feed(sse(*said(0, "a")))][:2] == [Started, BlockStart]
    assert isinstance(parser.end()[-1].error, StreamTruncated)  # type: ignore[union-attr]


def test_provider_metadata() -> None:
    """The raw counts, the tier, and what the head says of the account's limits."""
    end = completed(message("x"), service_tier="flex", usage={"input_tokens": 1, "cost_in_usd_ticks": 5})
    (last,) = of(run(sse(end), headers={"x-ratelimit-remaining-tokens": "9"}), Completed)
    assert json.loads(last.provider_metadata) == {
        "service_tier": "flex",
        "usage": {"input_tokens": 1, "cost_in_usd_ticks": 5},
        "rate_limit": {"remaining-tokens": "9"},
    }
