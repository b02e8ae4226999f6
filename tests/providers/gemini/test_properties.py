"""Whatever comes, in whatever pieces: events in order, one end, no crash."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.errors import ProviderError
from server.core.events import BlockDelta, Failed
from server.core.stream import Guard
from tests.providers.gemini.support import exchange, read, sse, wire

WORDS = st.text(max_size=6)
SCALARS = st.none() | st.booleans() | st.integers(-5, 2**40) | st.floats(allow_nan=False, allow_infinity=False) | WORDS
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3))
PATHS = st.sampled_from(["$.a", "$.a.b", "$.a[0]", "$.a[1].b", "$['x'][2]", "$", "$.b[999999]"])


def record(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with any of the fields; now and then one is of another kind."""
    return st.fixed_dictionaries({}, optional={name: st.one_of(*[kind] * 19, JSON) for name, kind in fields.items()})


PIECES = st.lists(record(jsonPath=PATHS, stringValue=WORDS, numberValue=st.integers(), willContinue=st.booleans()))
CALLS = record(name=WORDS, id=WORDS, args=JSON, partialArgs=PIECES, willContinue=st.booleans())
STEPS = record(id=WORDS, code=WORDS, output=WORDS, args=JSON, response=JSON, toolType=WORDS)
PARTS = record(
    text=WORDS, thought=st.booleans(), thoughtSignature=WORDS, functionCall=CALLS, executableCode=STEPS, toolCall=STEPS
)
SEGMENTS = record(startIndex=st.integers(-3, 30), endIndex=st.integers(-3, 30), text=WORDS)
SUPPORTS = st.lists(record(segment=SEGMENTS, groundingChunkIndices=st.lists(st.integers(-2, 3))))
GROUNDING = record(groundingChunks=st.lists(record(web=record(uri=WORDS))), groundingSupports=SUPPORTS)
CANDIDATES = record(
    content=record(parts=st.lists(PARTS, max_size=4)),
    finishReason=st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL", ""]),
    groundingMetadata=GROUNDING,
    index=st.integers(0, 1),
)
CHUNKS = record(
    candidates=st.lists(CANDIDATES, max_size=2),
    usageMetadata=record(promptTokenCount=st.integers(-1, 2**40)),
    promptFeedback=record(blockReason=WORDS),
)


@given(st.lists(CHUNKS, max_size=5))
def test_chunks_of_any_shape_obey_the_grammar(chunks: list[dict[str, Any]]) -> None:
    """As a stream, byte by byte the same, and as a document."""
    data = sse(*chunks)
    events = read([data])
    bytewise = read([data[i : i + 1] for i in range(len(data))])
    assert [type(event) for event in bytewise if type(event) is not BlockDelta] == [
        type(event) for event in events if type(event) is not BlockDelta
    ]
    with suppress(ProviderError):
        whole = wire().parse_response(exchange(stream=False), json.dumps(chunks).encode())
        assert Guard().feed(whole) == whole


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=40) | st.just(b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}\n\n')))
def test_bytes_of_any_kind_never_complete_an_answer(reads: list[bytes]) -> None:
    """Without a finish reason there is no answer, whatever else was read."""
    assert isinstance(read(reads)[-1], Failed)
