"""gRPC's framing and metadata over HTTP/1.1."""

from __future__ import annotations

import gzip
import zlib
from urllib.parse import unquote

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.rpc.edge.frames import (
    FrameError,
    TooLarge,
    UnknownEncoding,
    lines,
    seconds,
    status,
    unframe,
)
from tests.support.grpc_frames import frame


@given(st.binary(max_size=4096))
def test_a_framed_message_comes_back(message: bytes) -> None:
    assert unframe(frame(message), "", 0) == message


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no message"),
        (b"\0\0\0\0", "no message"),
        (b"\1\0\0\0\1x", "not compressed as it says"),
        (b"\1" + frame(gzip.compress(b"x")[:-1])[1:], "not compressed as it says"),
        (b"\0\0\0\0\2x", "one whole"),
        (frame(b"x") + frame(b"y"), "one whole"),
        (frame(b"x") + b"\0", "one whole"),
    ],
)
def test_what_is_not_one_whole_message_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(FrameError, match=why):
        unframe(body, "gzip", 100)


@given(st.binary(max_size=4096), st.sampled_from(["gzip", "deflate"]))
def test_a_compressed_message_is_unpacked(message: bytes, name: str) -> None:
    packed = gzip.compress(message) if name == "gzip" else zlib.compress(message)
    assert unframe(b"\1" + frame(packed)[1:], name, 4096) == message


def test_a_compressed_message_is_unpacked_no_further_than_a_message_may_be_long() -> None:
    bomb = b"\1" + frame(gzip.compress(bytes(1_000_001)))[1:]
    assert len(unframe(bomb, "gzip", 1_000_001)) == 1_000_001
    with pytest.raises(TooLarge):
        unframe(bomb, "gzip", 1_000_000)


def test_another_compression_is_named() -> None:
    with pytest.raises(UnknownEncoding, match="br"):
        unframe(b"\1\0\0\0\1x", "br", 100)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("1H", 3600),
        ("2M", 120),
        ("3S", 3),
        ("250m", 0.25),
        ("5u", 5e-6),
        ("7n", 7e-9),
        ("1", None),
        ("1s", None),
        ("", None),
    ],
)
def test_a_timeout_is_a_number_and_a_unit(said: str, expected: float | None) -> None:
    assert seconds(said) == (expected and pytest.approx(expected))


@given(st.text())
def test_a_status_message_is_printable_and_comes_back(message: str) -> None:
    """Percent-encoded, as grpc-message is; half a surrogate pair cannot be said."""
    if any(0xD800 <= ord(character) < 0xE000 for character in message):
        return
    said = dict(status(grpc.StatusCode.NOT_FOUND, message))
    assert said["grpc-status"] == "5"
    assert all(" " <= character <= "~" for character in said["grpc-message"])
    assert unquote(said["grpc-message"]) == message


def test_binary_metadata_is_base64_without_padding_and_names_may_repeat() -> None:
    assert lines((("x-bin", b"\0\1"), ("warning", "a")), (("warning", "b"),)) == (
        b"x-bin: AAE\r\nwarning: a\r\nwarning: b\r\n"
    )
    assert lines() == lines(()) == b""


@given(st.text())
def test_metadata_makes_no_line_of_its_own(value: str) -> None:
    """Whatever a value holds, it is one line or none."""
    try:
        said = lines((("x", value),))
    except ValueError:
        return
    assert said.count(b"\r") == said.count(b"\n") == 1
    assert said.decode() == f"x: {value}\r\n"
