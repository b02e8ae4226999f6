"""The event-stream framing: AWS's own vectors, every cut, every kind of garbage."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from itertools import pairwise
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import ProviderProtocolError
from server.core.events import BlockDelta, Completed, Failed
from server.core.stream import fold
from server.providers.bedrock.frames import EventFrame, EventFrames
from tests.providers.bedrock.support import ending, event, exception, frame, run, start, text
from tests.providers.conformance import fixtures_root

VECTORS = fixtures_root() / "_vectors" / "aws-eventstream"
NAMES = json.loads((VECTORS / "INDEX.json").read_text())["vectors"] if VECTORS.is_dir() else []

STREAM = start() + text(0, "é😀", " wörld") + ending()


def frames(*reads: bytes) -> list[EventFrame]:
    framing = EventFrames()
    return [found for read in reads for found in framing.feed(read)] + list(framing.end())


@pytest.mark.skipif(not NAMES, reason=f"no vectors at {VECTORS} (DRAGOMAN_WIRE_FIXTURES)")
@pytest.mark.parametrize("name", NAMES)
def test_vectors_of_aws(name: str) -> None:
    """A valid message is one frame with its payload, an invalid one is refused; whole and byte by byte."""
    data = (VECTORS / f"{name}.bin").read_bytes()
    expected = json.loads((VECTORS / f"{name}.expected.json").read_text())
    for reads in ([data], [data[i : i + 1] for i in range(len(data))]):
        if not expected["valid"]:
            with pytest.raises(ProviderProtocolError):
                frames(*reads)
            continue
        (found,) = frames(*reads)
        assert found.payload == expected["payload"].encode()
        if ":error-code" in expected["headers"]:
            assert found == EventFrame("error", "code", b"", "message")


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({":message-type": "event", ":event-type": "metadata"}, ("event", "metadata")),
        ({":event-type": "metadata"}, ("event", "metadata")),
        ({}, ("event", "")),
        (
            {":message-type": "exception", ":exception-type": "throttlingException"},
            ("exception", "throttlingException"),
        ),
        ({":exception-type": "throttlingException"}, ("exception", "throttlingException")),
        ({":message-type": "event", ":event-type": "throttlingException"}, ("exception", "throttlingException")),
        ({":message-type": "error", ":error-code": "500", ":error-message": "boom"}, ("error", "500")),
        ({":error-code": "500"}, ("error", "500")),
    ],
)
def test_what_a_message_is_stands_in_its_headers(headers: dict[str, str], found: tuple[str, str]) -> None:
    """With and without :message-type, which some servers leave out."""
    (only,) = frames(frame(headers, b"{}"))
    assert (only.kind, only.name) == found


def _impossible() -> Iterable[bytes]:
    for total, headers in ((0, 0), (12, 0), (15, 0), (20, 5), (16, 1)):
        prelude = struct.pack(">II", total, headers)
        yield prelude + struct.pack(">I", crc32(prelude)) + bytes(64)


@pytest.mark.parametrize("data", [*_impossible(), b"HTTP/1.1 502 Bad Gateway", bytes(12)])
def test_a_prelude_that_cannot_be_is_refused_at_once(data: bytes) -> None:
    """Its checksum and its lengths are looked at before the message is waited for."""
    with pytest.raises(ProviderProtocolError):
        frames(data)


def test_a_message_that_is_too_large_is_refused_by_its_prelude() -> None:
    """Nothing of it is kept: memory is bounded by what a message may have."""
    prelude = struct.pack(">II", 64 * 1024 * 1024, 0)
    with pytest.raises(ProviderProtocolError):
        frames(prelude + struct.pack(">I", crc32(prelude)))


def test_messages_before_the_broken_one_count() -> None:
    """Their events are out when the stream fails."""
    broken = bytearray(STREAM)
    broken[-1] ^= 1
    events = run(bytes(broken))
    assert BlockDelta(0, "é😀 wörld") in events
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, ProviderProtocolError)
    assert events[-1].error.retryable


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_split_gives_the_same_answer(cuts: list[int]) -> None:
    """What comes out depends on the bytes alone."""
    places = [0, *sorted(cuts), len(STREAM)]
    events = run([STREAM[a:b] for a, b in pairwise(places)])
    assert events == run(STREAM)
    assert fold(events).text == "é😀 wörld"


@given(st.binary(max_size=200))
def test_any_garbage_fails_in_order(data: bytes) -> None:
    """No crash, no answer: one Failed."""
    assert isinstance(run(data)[-1], Failed)


@given(st.integers(0, len(STREAM) - 1), st.integers(1, 255))
def test_any_wrong_byte_is_found(place: int, change: int) -> None:
    """Two checksums: no change of a byte passes for an answer."""
    broken = bytearray(STREAM)
    broken[place] ^= change
    assert not isinstance(run(bytes(broken))[-1], Completed)


@given(st.integers(0, len(STREAM) - 1))
def test_a_stream_that_is_cut_anywhere_has_failed(place: int) -> None:
    """Before the last byte of the last message it is not whole."""
    events = run(STREAM[:place])
    assert isinstance(events[-1], Failed)
    assert events[-1].error.retryable


EVENTS = [
    "messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata", "unknown",
]  # fmt: skip
KEYS = [
    "contentBlockIndex", "delta", "start", "toolUse", "toolResult", "text", "reasoningContent", "citation", "input",
    "usage", "stopReason", "trace", "name", "toolUseId", "image",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)


@given(st.lists(st.tuples(st.sampled_from(EVENTS), JSON), max_size=6))
def test_any_payloads_in_any_order_obey_the_grammar(events: list[tuple[str, object]]) -> None:
    """`run` holds the events against the grammar: nothing that a provider sends is an adapter's defect."""
    headers = {":message-type": "event"}
    run(b"".join(frame({**headers, ":event-type": name}, json.dumps(payload).encode()) for name, payload in events))


def test_an_exception_frame_ends_the_stream_at_once() -> None:
    """What comes after it is of no interest."""
    events = run(start() + text(0, "a") + exception("internalServerException", message="x") + event("metadata"))
    assert isinstance(events[-1], Failed)
