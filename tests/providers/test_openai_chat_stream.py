"""Chat Completions streams: every shape of tool call, reasoning, usage, error and ending that servers send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import (
    ProviderInvalidRequest,
    ProviderOverloaded,
    ProviderProtocolError,
    ProviderQuotaExceeded,
    ProviderRateLimited,
    ProviderUnavailable,
    StreamTruncated,
)
from server.core.events import BlockEnd, Completed, Failed, Started, StreamEvent, Usage
from server.core.stream import fold
from tests.providers.chat_support import answer, delta, of, run, sse, tool

TRANSCRIPTS = Path(__file__).parent / "transcripts" / "openai_chat"
DONE = "[DONE]"


def calls_of(*pieces: dict[str, Any] | list[dict[str, Any]], finish: str = "tool_calls") -> list[tuple[str, str, str]]:
    """Streams the pieces, one chunk each (a list: all in one), and gives the calls as (id, name, arguments)."""
    chunks = [delta(tool_calls=piece if isinstance(piece, list) else [piece]) for piece in pieces]
    response = fold(run(sse(*chunks, delta(finish=finish), DONE)))
    return [(c.id, c.name, c.arguments) for c in response.tool_calls]


TOOL_SHAPES: dict[str, tuple[list[Any], list[tuple[str, str, str]]]] = {
    "one call in pieces": (
        [tool(0, "a", "f", ""), tool(0, arguments='{"x"'), tool(0, arguments=":1}")],
        [("a", "f", '{"x":1}')],
    ),
    "two calls one after the other": (
        [tool(0, "a", "f", '{"x":1}'), tool(1, "b", "g", '{"y"'), tool(1, arguments=":2}")],
        [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')],
    ),
    "two calls interleaved piece by piece": (
        [
            [tool(0, "a", "f", '{"x"'), tool(1, "b", "g", '{"y"')],
            [tool(0, arguments=":1"), tool(1, arguments=":2}")],
            [tool(0, arguments="}")],
        ],
        [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')],
    ),
    "all announced first, arguments in reverse order": (
        [tool(0, "a", "f", ""), tool(1, "b", "g", ""), tool(1, arguments='{"y":2}'), tool(0, arguments='{"x":1}')],
        [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')],
    ),
    "index starts at 1": ([tool(1, "a", "f", '{"x":1}')], [("a", "f", '{"x":1}')]),
    "index missing, id on the first piece": (
        [tool(None, "a", "f", '{"x"'), tool(None, arguments=":1}"), tool(None, "b", "g", "{}")],
        [("a", "f", '{"x":1}'), ("b", "g", "{}")],
    ),
    "index always 0, a new id is a new call": (
        [tool(0, "a", "f", '{"x":1}'), tool(0, "b", "g", '{"y":2}')],
        [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')],
    ),
    "index always 0 and no ids, whole calls": (
        [tool(0, None, "f", '{"x":1}'), tool(0, None, "f", '{"x":2}')],
        [("call_0", "f", '{"x":1}'), ("call_1", "f", '{"x":2}')],
    ),
    "id and name repeated in every piece": (
        [tool(0, "a", "f", ""), tool(0, "a", "f", '{"x"'), tool(0, "a", "f", ":1}")],
        [("a", "f", '{"x":1}')],
    ),
    "name empty in later pieces": (
        [tool(0, "a", "f", ""), tool(0, None, "", '{"x":1}')],
        [("a", "f", '{"x":1}')],
    ),
    "name comes later than the id": (
        [tool(0, "a", None, ""), tool(0, None, "f", '{"x":1}')],
        [("a", "f", '{"x":1}')],
    ),
    "arguments null, absent and empty": (
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": None}},
            {"index": 1, "id": "b", "function": {"name": "g"}},
            tool(2, "c", "h", ""),
        ],
        [("a", "f", "{}"), ("b", "g", "{}"), ("c", "h", "{}")],
    ),
    "arguments as an object": ([tool(0, "a", "f", {"x": 1})], [("a", "f", '{"x": 1}')]),
    "id empty": ([tool(0, "", "f", "{}")], [("call_0", "f", "{}")]),
    "the same id for two calls": (
        [tool(0, "a", "f", '{"x":1}'), tool(1, "a", "f", '{"x":2}')],
        [("a", "f", '{"x":1}'), ("call_0", "f", '{"x":2}')],
    ),
    "blanks after complete arguments": (
        [tool(0, "a", "f", '{"x":1}'), tool(1, "b", "g", "{}"), tool(0, arguments="\n ")],
        [("a", "f", '{"x":1}'), ("b", "g", "{}")],
    ),
    "an entry that says nothing is no call": (
        [tool(0, "a", "f", "{}"), {"index": 1, "function": {}}],
        [("a", "f", "{}")],
    ),
    "numeric id": ([{"index": 0, "id": 7, "function": {"name": "f", "arguments": "{}"}}], [("7", "f", "{}")]),
    "index as a float": ([tool(0, "a", "f", "{"), {"index": 0.0, "function": {"arguments": "}"}}], [("a", "f", "{}")]),
}  # fmt: skip


@pytest.mark.parametrize(("pieces", "expected"), TOOL_SHAPES.values(), ids=TOOL_SHAPES)
def test_tool_calls_of_every_known_shape_are_assembled(pieces: list[Any], expected: list[tuple[str, str, str]]) -> None:
    """Whatever pieces a server sends, the calls come out whole, in order, each with an id of its own."""
    assert calls_of(*pieces) == expected


@given(st.data())
def test_any_interleaving_of_parallel_calls_gives_the_same_calls(data: st.DataObject) -> None:
    """However the pieces of parallel calls are mixed, each call keeps its own arguments."""
    arguments = data.draw(
        st.lists(
            st.dictionaries(st.text(max_size=4), st.text('ab{}"\\é😀', max_size=8), max_size=3).map(json.dumps),
            min_size=1,
            max_size=4,
        )
    )
    pieces: list[list[dict[str, Any]]] = []
    for index, text in enumerate(arguments):
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=3)))
        parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        pieces.append(
            [tool(index, f"id{index}", f"f{index}", parts[0]), *[tool(index, arguments=p) for p in parts[1:]]]
        )
    # Calls are announced in order; after that the pieces may come in any mixture.
    mixed = [queue.pop(0) for queue in pieces]
    while any(pieces):
        queue = data.draw(st.sampled_from([queue for queue in pieces if queue]))
        mixed.append(queue.pop(0))
    expected = [(f"id{i}", f"f{i}", text) for i, text in enumerate(arguments)]
    assert calls_of(*mixed) == expected


def test_a_complete_call_is_shown_before_the_next_one_is() -> None:
    """A call whose arguments are whole ends as soon as the next one begins: nobody waits for the finish."""
    events = run(sse(delta(tool_calls=[tool(0, "a", "f", "{}")]), delta(tool_calls=[tool(1, "b", "g", "{")])))
    names = [type(event).__name__ for event in events]
    assert names == ["Started", "BlockStart", "BlockDelta", "BlockEnd", "BlockStart", "BlockDelta", "Failed"]


def test_more_arguments_for_an_ended_call_are_a_protocol_error() -> None:
    """What cannot belong anywhere is not dropped: the stream fails."""
    events = run(sse(*[delta(tool_calls=[piece]) for piece in (
        tool(0, "a", "f", "{}"), tool(1, "b", "g", "{}"), tool(0, arguments='{"x":1}'))]))  # fmt: skip
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, ProviderProtocolError)


def test_text_after_tool_calls_is_a_block_of_its_own() -> None:
    """Text, call, text: three blocks in the order in which they came."""
    response = fold(run(sse(delta(content="one"), delta(tool_calls=[tool(0, "a", "f", "{}")]), delta(content="two"),
                            delta(finish="tool_calls"), DONE)))  # fmt: skip
    assert [type(part).__name__ for part in response.message.parts] == ["Text", "ToolCall", "Text"]
    assert response.text == "onetwo"


def test_text_inside_unfinished_arguments_waits_and_is_kept() -> None:
    """Text between two pieces of one call comes after the call, nothing is lost."""
    begin, rest = (delta(tool_calls=[piece]) for piece in (tool(0, "a", "f", '{"x"'), tool(0, arguments=":1}")))
    mixed = [begin, delta(content="\n"), delta(content="so"), rest]
    response = fold(run(sse(*mixed, delta(finish="tool_calls"), DONE)))
    assert response.tool_calls[0].arguments == '{"x":1}'
    assert response.text == "\nso"


def test_arguments_cut_at_the_token_limit_are_passed_on_with_a_warning() -> None:
    """finish length inside arguments: what came, as it came, and a warning that names the call."""
    response = fold(run(sse(delta(tool_calls=[tool(0, "a", "f", '{"x":')]), delta(finish="length"), DONE)))
    assert response.finish_reason == "length"
    assert response.tool_calls[0].arguments == '{"x":'
    assert [warning.code for warning in response.warnings] == ["invalid_tool_arguments"]


@pytest.mark.parametrize(
    ("raw", "with_call", "expected"),
    [
        ("stop", False, "stop"),
        ("stop", True, "tool_calls"),
        ("tool_calls", True, "tool_calls"),
        ("tool_calls", False, "stop"),
        ("function_call", True, "tool_calls"),
        ("length", True, "length"),
        ("model_length", False, "length"),
        ("content_filter", False, "content_filter"),
        ("a_new_one", False, "a_new_one"),
    ],
)
def test_finish_reasons_are_neutral_and_the_raw_word_stays(raw: str, with_call: bool, expected: str) -> None:
    """What is in the answer decides between stop and tool_calls; unknown words pass."""
    first = delta(tool_calls=[tool(0, "a", "f", "{}")]) if with_call else delta(content="x")
    response = fold(run(sse(first, delta(finish=raw), DONE)))
    assert (response.finish_reason, response.raw_finish_reason) == (expected, raw)


CALL = delta(tool_calls=[tool(0, "a", "f", "{}")])

ENDINGS: dict[str, tuple[bytes, str, type]] = {
    "done after finish": (sse(delta(content="x"), delta(finish="stop"), DONE), "openai", Completed),
    "no done after finish": (sse(delta(content="x"), delta(finish="stop")), "openai", Completed),
    "done without its blank line": (sse(delta(content="x", finish="stop")) + b"data: [DONE]", "openai", Completed),
    "no finish, no done": (sse(delta(content="x")), "custom", Failed),
    "done without finish": (sse(delta(content="x"), DONE), "custom", Failed),
    "calls and done without finish, known server": (sse(CALL, DONE), "custom", Completed),
    "calls and done without finish, OpenAI": (sse(CALL, DONE), "openai", Failed),
    "broken calls and done without finish": (sse(delta(tool_calls=[tool(0, "a", "f", '{"x')]), DONE), "custom", Failed),
    "calls without finish or done": (sse(CALL), "custom", Failed),
    "nothing at all": (b"", "custom", Failed),
    "cut inside the last event": (sse(delta(content="x")) + b'data: {"choices":[{"in', "custom", Failed),
}  # fmt: skip


@pytest.mark.parametrize(("data", "preset", "last"), ENDINGS.values(), ids=ENDINGS)
def test_an_answer_is_whole_only_if_the_server_said_so(data: bytes, preset: str, last: type) -> None:
    """A finish is never made up at the end of the connection."""
    event = run(data, preset)[-1]
    assert type(event) is last
    if isinstance(event, Failed):
        assert isinstance(event.error, StreamTruncated)


STREAM_ERRORS: dict[str, tuple[dict[str, Any], type, bool]] = {
    "OpenAI server error": ({"error": {"message": "m", "type": "server_error"}}, ProviderUnavailable, True),
    "Groq tool_use_failed": (
        {"error": {"message": "m", "type": "invalid_request_error", "code": "tool_use_failed", "status_code": 400}},
        ProviderInvalidRequest, False,
    ),
    "OpenRouter integer code": ({"error": {"code": 429, "message": "m"}, "choices": []}, ProviderRateLimited, True),
    "OpenRouter 502": ({"error": {"code": 502, "message": "m"}}, ProviderUnavailable, True),
    "LM Studio without type": ({"error": {"message": "m"}, "message": "m"}, ProviderUnavailable, True),
    "Ollama string": ({"error": "m"}, ProviderUnavailable, True),
    "quota": ({"error": {"message": "m", "code": "insufficient_quota"}}, ProviderQuotaExceeded, False),
    "overloaded": ({"error": {"message": "m", "type": "overloaded_error"}}, ProviderOverloaded, True),
    "x_groq": ({"x_groq": {"error": "m"}, "choices": []}, ProviderUnavailable, True),
    "in a choice": ({"choices": [{"delta": {}, "error": {"code": 503, "message": "m"}}]}, ProviderOverloaded, True),
}  # fmt: skip


@pytest.mark.parametrize(("chunk", "error", "retryable"), STREAM_ERRORS.values(), ids=STREAM_ERRORS)
def test_errors_inside_a_stream_end_it_with_their_class(chunk: dict[str, Any], error: type, retryable: bool) -> None:
    """An error event fails the stream, after what came before, with class, words and retryability."""
    events = run(sse(delta(content="part"), chunk))
    last = events[-1]
    assert isinstance(last, Failed)
    assert type(last.error) is error
    assert last.error.retryable is retryable
    assert getattr(last.error, "provider_message", None) == "m"
    assert any(isinstance(event, Started) for event in events)


@pytest.mark.parametrize("finish", ["error", "insufficient_system_resource"])
def test_a_finish_reason_that_means_broken_fails(finish: str) -> None:
    """Mistral's and OpenRouter's `error`, DeepSeek's `insufficient_system_resource` are no ends of a whole answer."""
    last = run(sse(delta(content="x"), delta(finish=finish), DONE))[-1]
    assert isinstance(last, Failed)
    assert last.error.retryable


GARBAGE = {
    "no JSON": "hello",
    "a number": "42",
    "a list": "[]",
    "choices of another type": '{"choices": 5}',
    "content of another type": '{"choices":[{"delta":{"content":{"a":1}}}]}',
    "truncated JSON": '{"choices":[',
    "deep nesting": "[" * 100_000,
    "bad UTF-8": None,
}


@pytest.mark.parametrize("text", GARBAGE.values(), ids=GARBAGE)
def test_garbage_in_a_stream_is_a_protocol_error(text: str | None) -> None:
    """Whatever comes instead of a chunk, the stream fails in order and nothing is raised."""
    bad = b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n' if text is None else sse(text)
    last = run(sse(delta(content="x")) + bad)[-1]
    assert isinstance(last, Failed)
    assert isinstance(last.error, ProviderProtocolError)


@given(st.binary(max_size=200))
def test_random_bytes_never_raise(data: bytes) -> None:
    """Any bytes give a legal stream that has failed, before or after a good beginning."""
    for head in (b"", sse(delta(content="x"))):
        assert isinstance(run([head, data])[-1], Failed)


DELTAS = st.lists(
    st.one_of(
        st.text("ab", max_size=2).map(lambda text: {"content": text}),
        st.text("ab", max_size=2).map(lambda text: {"reasoning": text}),
        st.just({"tool_calls": [tool(0, "a", "f", "{}")]}),
        st.just({"content": "x", "annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}]}),
        st.just({"content": "x", "reasoning_details": [{"type": "reasoning.text", "text": "t"}]}),
        st.just({"role": "assistant", "content": "x"}),
        st.just({}),
    ),
    max_size=8,
)


@given(DELTAS, st.booleans(), st.booleans())
def test_the_short_way_of_a_delta_of_text_says_what_the_long_one_says(
    deltas: list[dict[str, Any]], logprobs: bool, whole: bool
) -> None:
    """An empty refusal beside a delta says nothing, and takes it from the short way to the long one."""

    def events(beside: dict[str, Any]) -> list[StreamEvent]:
        chunks = [delta(**fields, **beside) for fields in deltas]
        for chunk in chunks if logprobs else ():
            chunk["choices"][0]["logprobs"] = {"content": [{"token": "a", "logprob": -1}]}
        return run(sse(*chunks, delta(finish="stop"), DONE) if whole else sse(*chunks))

    def told(found: list[StreamEvent]) -> list[object]:
        return [(type(event.error), event.usage) if isinstance(event, Failed) else event for event in found]

    assert told(events({})) == told(events({"refusal": ""}))


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    """Servers that cut text anywhere send half a pair; the rest of the answer is unharmed."""
    data = b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n' + sse(
        delta(content="\\n😀"), delta(finish="stop"), DONE
    )
    assert fold(run(data)).text == "a�\\n😀"
    # So it does for a caller who speaks this wire, to whom members that are not known are handed on.
    odd = data.replace(b'"a\\ud83d"', b'"a\\ud83d","odd":"b\\ud83d"')
    assert fold(run(odd, dialect="openai_chat")).native == ('{"message":{"odd":"b�"}}',)


def test_a_character_cut_by_two_reads_is_whole() -> None:
    """UTF-8 is decoded per event, never per read."""
    data = 'data: {"choices":[{"delta":{"content":"é😀"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'.encode()
    for cut in range(len(data)):
        assert fold(run([data[:cut], data[cut:]])).text == "é😀"


USAGES: dict[str, tuple[dict[str, Any] | None, Usage]] = {
    "plain": ({"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}, Usage(3, 5, 8)),
    "no total": ({"prompt_tokens": 3, "completion_tokens": 5}, Usage(3, 5, 8)),
    "floats": ({"prompt_tokens": 3.0, "completion_tokens": 5.0, "total_tokens": 8.0}, Usage(3, 5, 8)),
    "all zero": ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Usage()),
    "null": (None, Usage()),
    "DeepSeek's cache": (
        {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8, "prompt_cache_hit_tokens": 2},
        Usage(3, 5, 8, cached_tokens=2),
    ),
    "details": (
        {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14,
         "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3, "audio_tokens": None},
         "completion_tokens_details": {"reasoning_tokens": 2}},
        Usage(9, 5, 14, 4, 3, 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "expected"), USAGES.values(), ids=USAGES)
def test_usage_is_counted_neutrally(raw: dict[str, Any] | None, expected: Usage) -> None:
    """What was not said stays None; details are parts of the totals."""
    done = run(sse(delta(content="x"), {**delta(finish="stop"), "usage": raw}, DONE))[-1]
    assert isinstance(done, Completed)
    assert done.usage == expected


def test_usage_on_every_chunk_is_cumulative_and_the_last_one_holds() -> None:
    """vLLM's continuous usage, and Groq's three copies, are never added up."""
    counts = [{"prompt_tokens": 3, "completion_tokens": n, "total_tokens": 3 + n} for n in (1, 2, 2)]
    events = run(sse(
        {**delta(content="a"), "usage": counts[0]}, {**delta(finish="stop"), "x_groq": {"usage": counts[1]}},
        {"choices": [], "usage": counts[2]}, DONE))  # fmt: skip
    assert of(events, Completed)[0].usage == Usage(3, 2, 5)


def test_xai_counts_reasoning_beside_the_completion() -> None:
    """xAI's completion_tokens leave reasoning out, so it is added; elsewhere it is inside."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 15,
             "completion_tokens_details": {"reasoning_tokens": 10}}  # fmt: skip
    data = sse({**delta(content="x", finish="stop"), "usage": usage}, DONE)
    assert of(run(data, "xai"), Completed)[0].usage == Usage(3, 12, 15, reasoning_tokens=10)
    assert of(run(data, "openai"), Completed)[0].usage == Usage(3, 2, 15, reasoning_tokens=10)


def test_a_failed_stream_carries_the_usage_that_was_counted() -> None:
    """Tokens are spent even when the answer breaks."""
    chunk = {"error": {"message": "m"}, "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}
    assert of(run(sse(delta(content="x"), chunk)), Failed)[0].usage == Usage(3, 1, 4)


def test_unreadable_usage_does_not_cost_the_answer() -> None:
    """The answer completes, its usage is unknown, and a warning says so."""
    done = of(run(sse({**delta(content="x", finish="stop"), "usage": "many"}, DONE)), Completed)[0]
    assert done.usage == Usage()
    assert [warning.code for warning in done.warnings] == ["usage_unreadable"]


@pytest.mark.parametrize(
    "thought",
    [
        {"reasoning": "why"},
        {"reasoning_content": "why"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "why", "index": 0}]},
        {"reasoning": "why", "reasoning_details": [{"type": "reasoning.text", "text": "why", "index": 0}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "why"}]}]},
    ],
    ids="+".join,
)
def test_reasoning_of_every_shape_is_a_reasoning_block(thought: dict[str, Any]) -> None:
    """Five spellings, one block before the text, and no word of it twice."""
    response = fold(run(sse(delta(**thought), delta(content="so"), delta(finish="stop"), DONE)))
    assert (response.reasoning, response.text) == ("why", "so")
    assert [type(part).__name__ for part in response.message.parts] == ["Reasoning", "Text"]


def transcript(name: str) -> bytes:
    return (TRANSCRIPTS / name).read_bytes()


@pytest.mark.parametrize("path", sorted(TRANSCRIPTS.glob("*.sse")), ids=lambda path: path.stem)
def test_transcripts_do_not_depend_on_reads(path: Path) -> None:
    """Whole, bytewise and cut at every position in two: the same events."""
    data = path.read_bytes()
    at_once = run(data, "openrouter")
    assert run([data[i : i + 1] for i in range(len(data))], "openrouter") == at_once
    for cut in range(len(data)):
        assert run([data[:cut], data[cut:]], "openrouter") == at_once


def test_openrouter_reasoning_details_are_joined_and_kept_for_the_next_turn() -> None:
    """Pieces of one index become one detail with its signature, as opaque data of the reasoning block."""
    response = fold(run(transcript("reasoning-details.sse"), "openrouter"))
    assert response.reasoning == "Two and two."
    (reasoning,) = [part for part in response.message.parts if type(part).__name__ == "Reasoning"]
    opaque = getattr(reasoning, "opaque", None)
    assert opaque is not None
    assert (opaque.provider, opaque.model) == ("custom", "m")
    detail = {"type": "reasoning.text", "text": "Two and two.", "signature": "c2ln", "index": 0}
    assert json.loads(opaque.data) == [{**detail, "format": "anthropic-claude-v1"}]


def test_annotations_and_logprobs_belong_to_the_text_block() -> None:
    """Citations and logprobs of all chunks stand at the block's end."""
    (end,) = of(run(transcript("annotations-logprobs.sse"), "openai"), BlockEnd)
    assert [(c.url, c.title, c.start, c.end) for c in end.citations] == [("https://a.example/x", "A", 0, 5)]
    assert [token["token"] for token in json.loads(end.logprobs)["content"]] == ["Hel", "lo"]


def test_a_refusal_is_told() -> None:
    """The refusal's words stand in Completed, whole."""
    done = of(run(transcript("refusal.sse"), "openai"), Completed)[0]
    assert done.refusal == "I cannot help with that."


def test_tools_that_groq_ran_are_server_tool_blocks() -> None:
    """executed_tools become a block with input and output, before the text that uses them, and are no client calls."""
    response = fold(run(transcript("executed-tools.sse"), "groq"))
    assert [type(part).__name__ for part in response.message.parts] == ["Reasoning", "ServerTool", "Text"]
    step = response.message.parts[1]
    assert getattr(step, "type", "") == "search"
    assert json.loads(getattr(step, "input", "")) == {"query": "weather"}
    assert response.tool_calls == ()
    assert response.finish_reason == "stop"


def test_only_the_first_of_several_choices_is_read() -> None:
    """A server that answers more often than it was asked does not mix its answers."""
    second = {"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]}
    assert fold(run(sse(second, delta(content="yes"), second, delta(finish="stop"), DONE))).text == "yes"


# --- whole answers ----------------------------------------------------------------------------------------------------


def test_a_whole_answer_gives_the_events_of_a_stream() -> None:
    """Reasoning, text and calls of one document, after the empty lines that keep a connection alive."""
    message = {
        "reasoning_content": "why",
        "content": "so",
        "tool_calls": [
            {"id": "", "function": {"name": "f", "arguments": "{}"}},
            {"id": "b", "function": {"name": "g", "arguments": {"y": 1}}},
        ],
    }
    document = {"id": "r1", "model": "m-1", "choices": [{"message": message, "finish_reason": "stop"}]}  # fmt: skip
    response = fold(answer(b"\n\n\n" + json.dumps(document).encode()))
    assert (response.id, response.model, response.reasoning, response.text) == ("r1", "m-1", "why", "so")
    assert [(c.id, c.name, c.arguments) for c in response.tool_calls] == [("call_0", "f", "{}"), ("b", "g", '{"y": 1}')]
    assert response.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"error": {"message": "m", "code": 429}}, ProviderRateLimited),
        ({"error": "m"}, ProviderUnavailable),
        ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, ProviderInvalidRequest),
        ({"choices": []}, ProviderProtocolError),
        ({}, ProviderProtocolError),
        ({"choices": [{"message": {"content": "x"}}]}, StreamTruncated),
        (b"<html>busy</html>", ProviderProtocolError),
        (b"", ProviderProtocolError),
    ],
)
def test_a_200_that_is_no_answer_raises(document: dict[str, Any] | bytes, error: type) -> None:
    """An error in a 200, an empty one, a document without a finish reason: never an answer."""
    with pytest.raises(error):
        answer(document)


def test_what_has_no_neutral_place_is_provider_metadata() -> None:
    """Cost, tier and the like stand in provider_metadata; rate limits of the head beside them."""
    data = sse(
        {**delta(content="x", finish="stop"), "service_tier": "flex", "usage": {"prompt_tokens": 1, "cost": 0.5}}, DONE
    )
    done = of(run(data, headers={"x-ratelimit-remaining-requests": "9"}), Completed)[0]
    metadata = json.loads(done.provider_metadata)
    assert metadata["service_tier"] == "flex"
    assert metadata["usage"]["cost"] == 0.5
    assert metadata["rate_limit"] == {"remaining-requests": "9"}
