"""The SSE and NDJSON parsers: what comes out is decided by the bytes, not by the reads that brought them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import ProviderProtocolError
from server.providers.sse import NdjsonParser, SseEvent, SseParser


def parse(reads: list[bytes], limit: int = 1 << 20) -> tuple[list[SseEvent], bool]:
    """The events, and whether the parser gave up."""
    parser = SseParser(limit)
    events: list[SseEvent] = []
    try:
        for read in reads:
            events += parser.feed(read)
        events += parser.end()
    except ProviderProtocolError:
        return events, True
    return events, False


def every_cut(body: bytes) -> list[list[bytes]]:
    """The body whole, byte by byte, and in two and in three reads cut at every position."""
    cuts = [[body], [body[i : i + 1] for i in range(len(body))]]
    cuts += [[body[:i], body[i:]] for i in range(len(body) + 1)]
    cuts += [[body[:i], body[i : i + 2], body[i + 2 :]] for i in range(len(body))]
    return cuts


def unterminated(data: bytes, event: str = "") -> SseEvent:
    return SseEvent(data, event, unterminated=True)


STREAMS = {
    "one event": (b"data: a\n\n", [SseEvent(b"a")]),
    "two in one read": (b"data: a\n\ndata: b\n\n", [SseEvent(b"a"), SseEvent(b"b")]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [SseEvent(b"a"), SseEvent(b"b")]),
    "CR": (b"data: a\r\rdata: b\r\r", [SseEvent(b"a"), SseEvent(b"b")]),
    "line ends mixed": (b"data: a\n\r\ndata: b\r\n\ndata: c\r\n\r", [SseEvent(b"a"), SseEvent(b"b"), SseEvent(b"c")]),
    "CR then LF is one line end": (b"data: a\r\ndata: b\n\n", [SseEvent(b"a\nb")]),
    "LF then CR is a blank line": (b"data: a\n\rdata: b\n\n", [SseEvent(b"a"), SseEvent(b"b")]),
    "no space": (b"data:a\n\n", [SseEvent(b"a")]),
    "only one space is dropped": (b"data:  a\n\n", [SseEvent(b" a")]),
    "several data lines": (b"data: a\ndata:\ndata: b\n\n", [SseEvent(b"a\n\nb")]),
    "empty data is an event": (b"data:\n\ndata\n\n", [SseEvent(b""), SseEvent(b"")]),
    "no data is none": (b"event: ping\n\nid: 1\n\ndata: a\n\n", [SseEvent(b"a")]),
    "all fields": (b"event: e\nid: 7\nretry: 300\ndata: a\n\n", [SseEvent(b"a", "e", "7", 300)]),
    "fields do not leak into the next event": (
        b"event: e\nid: 7\nretry: 3\ndata: a\n\ndata: b\n\n",
        [SseEvent(b"a", "e", "7", 3), SseEvent(b"b")],
    ),
    "the last name counts": (b"event: a\nevent: b\ndata: x\n\n", [SseEvent(b"x", "b")]),
    "name after data": (b"data: x\nevent: e\n\n", [SseEvent(b"x", "e")]),
    "unknown and malformed fields": (
        b"foo: 1\nretry: 3s\nretry: -1\nid: a\0b\n data: no\ndata : no\ndata: a\n\n",
        [SseEvent(b"a")],
    ),
    "comments": (b": hi\n\n:\ndata: a\n: in an event\ndata: b\n\n:bye\n\n", [SseEvent(b"a\nb")]),
    "blank lines": (b"\n\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", [SseEvent(b"a"), SseEvent(b"b")]),
    "BOM": (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\ndata: c\n\n", [SseEvent(b"a"), SseEvent(b"c")]),
    "BOM before a blank line": (b"\xef\xbb\xbf\n\ndata: a\n\n", [SseEvent(b"a")]),
    "UTF-8": ("event: é\ndata: añ€🙂\n\n".encode(), [SseEvent("añ€🙂".encode(), "é")]),
    "bytes that are not UTF-8 stay": (b"data: \xff\xc3\n\n", [SseEvent(b"\xff\xc3")]),
    "colons in data": (b"data: a: b: c\n\n", [SseEvent(b"a: b: c")]),
    "done": (b"data: {}\n\ndata: [DONE]\n\n", [SseEvent(b"{}"), SseEvent(b"[DONE]")]),
    "no blank line at the end": (b"data: a\n\ndata: b\n", [SseEvent(b"a"), unterminated(b"b")]),
    "no line end at the end": (b"data: a\n\nevent: e\ndata: b", [SseEvent(b"a"), unterminated(b"b", event="e")]),
    "ends within a field name": (b"data: a\n\nda", [SseEvent(b"a")]),
    "ends after CR": (b"data: a\r\n\r", [SseEvent(b"a")]),
    "JSON instead": (b'{"error": {"message": "no"}}', []),
    "nothing": (b"", []),
    "NUL": (b"\0\0\n\ndata: \0\n\n", [SseEvent(b"\0")]),
}


@pytest.mark.parametrize(("body", "expected"), STREAMS.values(), ids=STREAMS.keys())
def test_a_stream_gives_the_same_events_however_it_is_cut(body: bytes, expected: list[SseEvent]) -> None:
    """Whole, byte by byte, and cut at every position, before and after other events: always the same."""
    for reads in every_cut(body):
        assert parse(reads) == (expected, False), reads
    # After an event the parser is at rest, where it takes its short way.
    assert parse([b"data: first\n\n", body.removeprefix(b"\xef\xbb\xbf")]) == ([SseEvent(b"first"), *expected], False)


def test_comments_are_counted_and_are_no_events() -> None:
    """A caller can tell keep-alives from silence."""
    parser = SseParser()
    assert parser.feed(b": keep-alive\n\n") == []
    assert parser.feed(b": keep-al") == []
    assert parser.feed(b"ive\r\n\r\n:\n") == []
    assert parser.comments == 3


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"data: " + b"x" * 30 + b"\n\n", id="one line"),
        pytest.param(b"data: xx\n" * 5 + b"\n", id="many lines"),
        pytest.param(b"foo: xx\n" * 5 + b"\n", id="unknown fields"),
        pytest.param(b":" + b"x" * 40 + b"\n\n", id="a comment"),
        pytest.param(b"x" * 60, id="a line without end"),
        pytest.param(b"data: xxxxxxxxxxxxxxxxxxxx\ndata: xxxxxxxxx", id="cut in the line that is too much"),
    ],
)
def test_an_event_over_the_limit_is_an_error_after_the_events_before_it(body: bytes) -> None:
    """However it is cut, what was complete before comes out, nothing after it, and then the error, for good."""
    for reads in every_cut(b"data: ok\n\n" + body + b"data: later\n\n"):
        assert parse(reads, limit=32) == ([SseEvent(b"ok")], True), reads
    parser = SseParser(32)
    parser.feed(b"data: ok\n\n" + body)
    for _ in range(2):
        with pytest.raises(ProviderProtocolError, match="32 bytes"):
            parser.feed(b"data: a\n\n")


def test_an_event_of_exactly_the_limit_passes() -> None:
    """The limit counts the event's lines without their ends, and begins anew with each event."""
    body = (b"data: " + b"x" * 26 + b"\n\n") * 3 + b": a comment of its own\n" * 9
    for reads in every_cut(body):
        assert parse(reads, limit=32) == ([SseEvent(b"x" * 26)] * 3, False)


@pytest.mark.parametrize("endless", [b"x" * 4096, b"data: xx\n" * 512, b"data\n" * 512])
def test_memory_is_bounded_by_the_limit(endless: bytes) -> None:
    """A line that never ends is not kept beyond the limit, and neither is an event of countless lines."""
    with pytest.raises(ProviderProtocolError):
        flood(SseParser(16_384), endless)


def flood(parser: SseParser, read: bytes) -> None:
    for _ in range(16):
        parser.feed(read)


LINES = st.sampled_from(
    [b"data: x", b"data:y", b"data", b"event: e", b"id: 1", b": c", b"", b"\xef\xbb\xbfdata: z", b"?"]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
STREAM = st.lists(st.tuples(LINES, ENDS)).map(lambda lines: b"".join(line + end for line, end in lines))
GARBAGE = st.one_of(st.binary(max_size=300), STREAM, st.text("dat:ev \n\r\0é", max_size=100).map(str.encode))


def cut(body: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[a:b] for a, b in pairwise(at)]


@given(GARBAGE, st.lists(st.integers(min_value=0)), st.sampled_from([8, 24, 1 << 20]))
def test_any_split_gives_the_same(body: bytes, places: list[int], limit: int) -> None:
    """For any bytes and any limit: the same events, and the same verdict, however the reads were cut."""
    assert parse(cut(body, places), limit) == parse([body], limit)


@given(st.lists(st.binary(max_size=64), max_size=30))
def test_garbage_neither_crashes_nor_is_kept(reads: list[bytes]) -> None:
    """Whatever comes, only ProviderProtocolError is raised, and no event holds more than the limit."""
    events, _ = parse(reads, limit=100)
    assert all(len(event.data) <= 100 for event in events)


def ndjson(reads: list[bytes], limit: int = 1 << 20) -> tuple[list[bytes], bool]:
    parser = NdjsonParser(limit)
    lines: list[bytes] = []
    try:
        for read in reads:
            lines += parser.feed(read)
        lines += parser.end()
    except ProviderProtocolError:
        return lines, True
    return lines, False


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\r\n\r\n \n{"b":"\xc3\xa9"}', [b'{"a":1}', b'{"b":"\xc3\xa9"}']),
        (b"", []),
    ],
)
def test_ndjson_gives_the_same_lines_however_it_is_cut(body: bytes, expected: list[bytes]) -> None:
    """Blank lines are none, and the last line needs no line feed."""
    for reads in every_cut(body):
        assert ndjson(reads) == (expected, False)


@given(st.binary(max_size=200), st.lists(st.integers(min_value=0)), st.sampled_from([8, 1 << 20]))
def test_any_split_of_ndjson_gives_the_same(body: bytes, places: list[int], limit: int) -> None:
    """For any bytes and any limit: the same lines and the same verdict."""
    assert ndjson(cut(body, places), limit) == ndjson([body], limit)
