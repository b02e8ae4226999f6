"""Answers of Gemini, streamed and whole: one transcript per trap."""

from __future__ import annotations

import json

import pytest

from server.core.errors import (
    ProviderOverloaded,
    ProviderProtocolError,
    ProviderUnavailable,
    StreamTruncated,
)
from server.core.events import BlockStart, Completed, Failed, Started, Usage
from server.core.messages import Reasoning, ServerTool, Text, ToolCall
from server.core.stream import fold
from tests.providers.gemini.support import (
    answer,
    chunk,
    done,
    ends,
    exchange,
    function,
    read,
    sse,
    streamed,
    text,
    whole,
    wire,
)


def test_text_over_several_events_is_one_block() -> None:
    """Deltas join, the response's id and model are the provider's, and the body's end completes the answer."""
    events = streamed(chunk(text("Grüße")), chunk(text(" 😀")), chunk(text("!"), finish="STOP"))
    assert events[0] == Started("gemini", "m-001", "r1")
    assert [type(event) for event in events].count(BlockStart) == 1
    response = fold(events)
    assert (response.text, response.finish_reason, response.raw_finish_reason) == ("Grüße 😀!", "stop", "STOP")


def test_a_whole_answer_is_the_same_as_a_streamed_one() -> None:
    """Thoughts, text, a call and counts, in one document or in pieces, fold to the same response."""
    parts = [text("Hm.", thought=True), text("So"), function("f", {"a": 1}, "sig")]
    counts = {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}}
    document = chunk(*parts, finish="STOP") | counts
    in_pieces = answer(chunk(parts[0]), chunk(parts[1]), chunk(parts[2]), chunk(finish="STOP") | counts)
    assert fold(whole(document)) == in_pieces
    assert fold(whole([chunk(*parts), chunk(finish="STOP") | counts])) == in_pieces


@pytest.mark.parametrize("cut", range(1, 4))
def test_a_stream_that_ends_before_its_finish_reason_failed(cut: int) -> None:
    """Whole events, but no finish reason: truncated, never completed."""
    chunks = [chunk(text("a")), chunk(text("b")), chunk(text("c")), chunk(text("d"), finish="STOP")]
    events = read([sse(*chunks[:cut])])
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, StreamTruncated)


def test_a_stream_cut_at_any_byte_is_never_completed() -> None:
    """The last event's closing brace is what makes it whole."""
    data = sse(chunk(text("é")), chunk(text("b"), finish="STOP"))
    for cut in range(len(data.rstrip())):
        assert isinstance(read([data[:cut]])[-1], Failed), cut


def test_more_parts_after_a_finish_reason_still_count() -> None:
    """STOP may come before the first part; only the end of the body ends the answer."""
    response = answer(chunk(finish="STOP"), chunk(text("late")), chunk(text("r")))
    assert (response.text, response.finish_reason) == ("later", "stop")


def test_a_terminator_that_only_proxies_send_says_nothing() -> None:
    """[DONE] neither breaks a whole answer nor completes one without a finish reason."""
    assert answer(chunk(text("a"), finish="STOP"), "[DONE]").text == "a"
    failed = streamed(chunk(text("a")), "[DONE]")[-1]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, StreamTruncated)


@pytest.mark.parametrize(
    "data", ["text", '{"candidates": 5}', "[1]", '{"candidates":[{"content":{"parts":[{"text":5}]}}]}']
)
def test_garbage_in_a_stream_fails_it(data: str) -> None:
    """JSON of another shape is no answer either."""
    events = streamed(chunk(text("a")), data)
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, ProviderProtocolError)


# --- function calls ---------------------------------------------------------------------------------------------------


def test_calls_without_ids_get_ids_and_stop_becomes_tool_calls() -> None:
    """Gemini sends calls whole, mostly without an id, and says STOP."""
    response = answer(chunk(function("a", {"x": 1}), function("a")), chunk(text(""), finish="STOP"))
    assert [(c.id, c.name, c.arguments) for c in response.tool_calls] == [
        ("call_0", "a", '{"x":1}'),
        ("call_1", "a", "{}"),
    ]
    assert (response.finish_reason, response.raw_finish_reason) == ("tool_calls", "STOP")


def test_an_id_that_the_provider_gives_is_kept_unless_it_gives_it_twice() -> None:
    """Ids are unique within an answer."""
    response = answer(chunk(function("a", {}, id="7"), function("b", {}, id="7"), finish="STOP"))
    assert [c.id for c in response.tool_calls] == ["7", "call_0"]


def test_arguments_of_a_pretty_printed_answer_are_compact() -> None:
    """Line breaks of the document are no part of the arguments; numbers keep their form."""
    document = json.dumps(chunk(function("f", {"a": [1]}), finish="STOP"), indent=2).replace("1\n", "1.50\n")
    response = fold(wire().parse_response(exchange(stream=False), document.encode()))
    assert response.tool_calls[0].arguments == '{"a":[1.50]}'


def test_calls_cut_at_the_token_limit_finish_with_length() -> None:
    """MAX_TOKENS says more than that there are calls."""
    assert answer(chunk(function("f", {}), finish="MAX_TOKENS")).finish_reason == "length"


def test_arguments_that_are_no_object_are_passed_on_with_a_warning() -> None:
    """Nothing is repaired."""
    response = answer(chunk({"functionCall": {"name": "f", "args": [1]}}, finish="STOP"))
    assert response.tool_calls[0].arguments == "[1]"
    assert [w.code for w in response.warnings] == ["invalid_tool_arguments"]


def test_a_call_without_a_name_is_no_protocol() -> None:
    """Nobody could answer it."""
    events = streamed(chunk({"functionCall": {"args": {}}}, finish="STOP"))
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, ProviderProtocolError)


# --- arguments in pieces (Vertex) -------------------------------------------------------------------------------------


def pieces(*args: dict[str, object], more: bool = True, **fields: object) -> dict[str, object]:
    call = {"partialArgs": list(args)} if args else {}
    return {"functionCall": {**fields, **call, **({"willContinue": True} if more else {})}}


def test_arguments_in_pieces_become_one_object() -> None:
    """Strings continue where they were left off; numbers, booleans, null, lists and quoted names have their place."""
    response = answer(
        chunk(pieces(name="f", id="1") | {"thoughtSignature": "sig"}),
        chunk(pieces({"jsonPath": "$.a.b[0].c", "stringValue": "x", "willContinue": True})),
        chunk(pieces({"jsonPath": "$.a.b[0].c", "stringValue": "y"})),
        chunk(pieces({"jsonPath": "$.a.b[1]", "numberValue": 2}, {"jsonPath": "$.t", "boolValue": False})),
        chunk(pieces({"jsonPath": "$['k.k']", "nullValue": "NULL_VALUE"}, {"jsonPath": "$.e", "stringValue": ""})),
        chunk(pieces(more=False), finish="STOP"),
    )
    (made,) = response.tool_calls
    assert json.loads(made.arguments) == {"a": {"b": [{"c": "xy"}, 2]}, "t": False, "k.k": None, "e": ""}
    assert (made.id, response.finish_reason, response.warnings) == ("1", "tool_calls", ())


def test_a_second_call_in_pieces_follows_the_first() -> None:
    """An unnamed piece without more ends a call, a name begins the next."""
    response = answer(
        chunk(pieces(name="f"), pieces({"jsonPath": "$.a", "numberValue": 1}), pieces(more=False)),
        chunk(pieces(name="f"), pieces({"jsonPath": "$.a", "numberValue": 2}), pieces(more=False), finish="STOP"),
    )
    assert [c.arguments for c in response.tool_calls] == ['{"a":1}', '{"a":2}']


def test_arguments_cut_at_the_token_limit_are_told_of() -> None:
    """What came is passed on; that it is not all is a warning."""
    response = answer(
        chunk(pieces(name="f"), pieces({"jsonPath": "$.a", "stringValue": "half", "willContinue": True})),
        chunk(finish="MAX_TOKENS"),
    )
    assert response.tool_calls[0].arguments == '{"a":"half"}'
    assert [w.code for w in response.warnings] == ["invalid_tool_arguments"]


@pytest.mark.parametrize(
    "path", ["", "a", "$", "$[0]", "$.a[", "$.a.", "$.a[1000000000]", "$.a[200000]", "$..a", "$.list.b", "$.text[0]"]
)
def test_a_path_that_leads_nowhere_fails_the_stream(path: str) -> None:
    """It neither crashes nor makes memory out of a number."""
    before: list[dict[str, object]] = [
        {"jsonPath": "$.list[0]", "numberValue": 1},
        {"jsonPath": "$.text", "stringValue": "t"},
    ]
    events = streamed(chunk(pieces(*before, {"jsonPath": path, "numberValue": 1}, name="f")), chunk(finish="STOP"))
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, ProviderProtocolError)


# --- thoughts, tools of the provider ----------------------------------------------------------------------------------


def test_thoughts_are_reasoning_and_text_is_text() -> None:
    """`thought: true` tells them apart, also where they take turns."""
    response = answer(
        chunk(text("A", thought=True), text("1")), chunk(text("B", thought=True)), chunk(text("2"), finish="STOP")
    )
    assert [type(part) for part in response.message.parts] == [Reasoning, Text, Reasoning, Text]
    assert (response.reasoning, response.text) == ("AB", "12")


def test_code_that_ran_at_the_provider_is_a_step_of_a_server_tool() -> None:
    """Its code and its result are steps, not calls for the client, and the finish stays a stop."""
    response = answer(
        chunk({"executableCode": {"language": "PYTHON", "code": "1+1", "id": "7"}, "thoughtSignature": "s"}),
        chunk({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2\n", "id": "7"}}),
        chunk(text("2"), finish="STOP"),
    )
    run, result, _ = response.message.parts
    assert isinstance(run, ServerTool)
    assert isinstance(result, ServerTool)
    assert (run.type, run.name, run.id) == ("executableCode", "code_execution", "7")
    assert json.loads(run.input) == {"language": "PYTHON", "code": "1+1"}
    assert json.loads(result.output) == {"outcome": "OUTCOME_OK", "output": "2\n"}
    assert (response.tool_calls, response.finish_reason) == ((), "stop")


def test_tool_calls_of_the_server_are_no_client_calls() -> None:
    """Gemini 3 shows its own searches as toolCall and toolResponse."""
    response = answer(
        chunk({"toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "id": "t", "args": {"queries": ["q"]}}}),
        chunk({"toolResponse": {"toolType": "GOOGLE_SEARCH_WEB", "id": "t", "response": {"n": 1}}}),
        chunk(text("x"), finish="STOP"),
    )
    asked, told, _ = response.message.parts
    assert isinstance(asked, ServerTool)
    assert isinstance(told, ServerTool)
    assert (asked.type, asked.name, asked.input) == ("toolCall", "GOOGLE_SEARCH_WEB", '{"queries":["q"]}')
    assert (told.type, told.output, response.tool_calls) == ("toolResponse", '{"n":1}', ())


def test_media_in_an_answer_is_told_of() -> None:
    """The neutral answer has no place for an image, and says so."""
    response = answer(chunk(text("x"), {"inlineData": {"mimeType": "image/png", "data": "AA=="}}, finish="STOP"))
    assert [w.code for w in response.warnings] == ["content_dropped"]
    assert "inlineData" in response.warnings[0].message


def test_other_candidates_are_not_mixed_in() -> None:
    """Only the first one counts."""
    document = chunk(text("one"), finish="STOP")
    document["candidates"].append({"index": 1, "content": {"parts": [{"text": "two"}]}, "finishReason": "SAFETY"})
    response = fold(whole(document))
    assert (response.text, response.finish_reason) == ("one", "stop")


# --- finish, usage, blocks --------------------------------------------------------------------------------------------

FINISHES = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "LANGUAGE": "LANGUAGE",
    "OTHER": "OTHER",
    "A_NEW_ONE": "A_NEW_ONE",
}


@pytest.mark.parametrize(("raw", "neutral"), FINISHES.items())
def test_finish_reasons(raw: str, neutral: str) -> None:
    """Each word of Google's has its neutral one, or stands for itself."""
    response = answer(chunk(text("x"), finish=raw))
    assert (response.finish_reason, response.raw_finish_reason) == (neutral, raw)


@pytest.mark.parametrize("raw", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"])
def test_a_model_that_failed_at_its_answer_is_a_retryable_error(raw: str) -> None:
    """There is no answer to act on; asking again may give one."""
    events = streamed(chunk(finish=raw, finishMessage="Malformed function call: secret words"))
    assert isinstance(events[-1], Failed)
    error = events[-1].error
    assert isinstance(error, ProviderUnavailable)
    assert (error.code, error.retryable) == (raw, True)
    assert "secret" not in str(error)
    with pytest.raises(ProviderUnavailable):
        whole(chunk(finish=raw))


@pytest.mark.parametrize("content", [{}, {"role": "model"}, {"parts": None}, {"parts": [{"text": ""}]}, None])
def test_an_empty_answer_is_whole_and_told_of(content: object) -> None:
    """STOP with nothing said: an answer as the provider gave it, with a warning."""
    document = {"candidates": [{"content": content, "finishReason": "STOP"}]}
    for events in (whole(document), streamed(document)):
        response = fold(events)
        assert (response.text, response.finish_reason) == ("", "stop")
        assert [w.code for w in response.warnings] == ["empty_answer"]


def test_a_blocked_answer_says_why() -> None:
    """SAFETY with empty content: filtered, with the ratings in the metadata and the provider's words as refusal."""
    ratings = [{"category": "HARM_CATEGORY_HATE_SPEECH", "probability": "HIGH", "blocked": True}]
    completed = done(whole(chunk(finish="SAFETY", safetyRatings=ratings, finishMessage="Blocked for safety.")))
    assert (completed.finish_reason, completed.refusal) == ("content_filter", "Blocked for safety.")
    assert json.loads(completed.provider_metadata)["safetyRatings"] == ratings
    assert done(whole(chunk(finish="SPII"))).refusal == "SPII"


def test_a_blocked_prompt_is_a_filtered_answer_without_candidates() -> None:
    """promptFeedback alone: whole, filtered, nothing counted."""
    feedback = {"blockReason": "MODEL_ARMOR", "blockReasonMessage": "Jailbreak."}
    document = {"promptFeedback": feedback, "usageMetadata": {"trafficType": "ON_DEMAND"}, "responseId": "r"}
    for events in (whole(document), streamed(document)):
        completed = done(events)
        assert (completed.finish_reason, completed.raw_finish_reason) == ("content_filter", "MODEL_ARMOR")
        assert (completed.refusal, completed.usage) == ("Jailbreak.", Usage(0, 0, 0))
        assert json.loads(completed.provider_metadata)["promptFeedback"] == feedback


@pytest.mark.parametrize("document", [{}, {"candidates": []}, {"usageMetadata": {}}, {"promptFeedback": {}}])
def test_a_document_that_holds_no_answer_is_an_error(document: object) -> None:
    """Neither candidates nor a reason for having none."""
    with pytest.raises(ProviderProtocolError):
        whole(document)


def test_a_whole_answer_without_a_finish_reason_is_truncated() -> None:
    """An empty finish reason says that the model has not stopped."""
    with pytest.raises(StreamTruncated):
        whole(chunk(text("a")))


def test_usage_is_what_the_last_count_says() -> None:
    """Counts are cumulative, thoughts and tool prompts are added to their sides, a later chunk without counts changes
    nothing."""
    counts = {"promptTokenCount": 10, "totalTokenCount": 10}
    last = {
        "promptTokenCount": 10,
        "cachedContentTokenCount": 4,
        "toolUsePromptTokenCount": 5,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 20,
        "totalTokenCount": 42,
    }
    events = streamed(
        chunk(text("a")) | {"usageMetadata": counts},
        chunk(text("b"), finish="STOP") | {"usageMetadata": last},
        chunk() | {"usageMetadata": {"trafficType": "ON_DEMAND"}},
    )
    assert done(events).usage == Usage(15, 27, 42, 4, None, 20)


def test_a_failed_stream_keeps_what_was_counted() -> None:
    """Failed carries the usage so far; nothing counted is not zero."""
    counts = {"usageMetadata": {"promptTokenCount": 10, "totalTokenCount": 10}}
    failed = read([sse(chunk(text("a")) | counts)])[-1]
    assert isinstance(failed, Failed)
    assert failed.usage == Usage(10, 0, 10)
    failed = read([sse(chunk(text("a")) | {"usageMetadata": {"trafficType": "X"}})])[-1]
    assert isinstance(failed, Failed)
    assert failed.usage == Usage()


def test_logprobs_stay_with_their_text() -> None:
    """Those of several chunks are joined; without a text block they are metadata."""
    rows = [{"token": "a", "logProbability": -0.1}, {"token": "b", "logProbability": -0.2}]
    events = streamed(
        chunk(text("a"), logprobsResult={"chosenCandidates": rows[:1]}),
        chunk(text("b"), function("f", {}), logprobsResult={"chosenCandidates": rows[1:]}, finish="STOP"),
    )
    assert json.loads(ends(events)[0].logprobs) == {"chosenCandidates": rows}
    lone = done(streamed(chunk(function("f", {}), logprobsResult={"chosenCandidates": rows}, finish="STOP")))
    assert json.loads(lone.provider_metadata)["logprobsResult"] == {"chosenCandidates": rows}


# --- errors after the beginning ---------------------------------------------------------------------------------------

OVERLOADED = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}


def test_an_error_inside_a_stream_fails_it_with_its_class() -> None:
    """As data of an event, after text."""
    events = streamed(chunk(text("a")), OVERLOADED)
    assert isinstance(events[-1], Failed)
    error = events[-1].error
    assert isinstance(error, ProviderOverloaded)
    assert (error.type, error.code, error.http_status, error.retryable) == ("UNAVAILABLE", "503", 503, True)


BARE = json.dumps(OVERLOADED, indent=2).encode()


@pytest.mark.parametrize("bare", [BARE, b"[" + BARE + b"]", BARE + b"\n" + BARE], ids=["once", "in a list", "twice"])
def test_a_bare_error_behind_the_events_is_found(bare: bytes) -> None:
    """Google writes some errors into a running stream as plain JSON, which is no event."""
    data = sse(chunk(text("a"))) + bare
    for reads in ([data], [data[i : i + 1] for i in range(len(data))]):
        events = read(reads)
        assert isinstance(events[-1], Failed)
        assert isinstance(events[-1].error, ProviderOverloaded)


def test_an_error_in_a_2xx_document_is_raised() -> None:
    """Also as a list, as streams without alt=sse have it."""
    for document in (OVERLOADED, [OVERLOADED]):
        with pytest.raises(ProviderOverloaded):
            whole(document)


def test_an_answer_never_completes_twice() -> None:
    """What comes after the end is ignored."""
    parser = wire().stream_parser(exchange())
    parser.feed(sse(chunk(text("a"), finish="STOP")))
    assert isinstance(parser.end()[-1], Completed)
    assert parser.end() == []
    assert parser.feed(sse(chunk(text("b")))) == []


def test_a_long_stream_keeps_little() -> None:
    """The tail that is watched for a bare error is bounded."""
    parser = wire().stream_parser(exchange())
    for _ in range(50):
        parser.feed(sse(chunk(text("x" * 10_000))))
    assert len(parser._tail) <= 160_000  # type: ignore[attr-defined]


def test_parts_of_the_message_are_ready_to_go_back() -> None:
    """Every part of the folded message is of a kind that a history takes."""
    response = answer(chunk(text("t", thought=True), text("a"), function("f", {}, "s"), finish="STOP"))
    assert [type(part) for part in response.message.parts] == [Reasoning, Text, ToolCall]
