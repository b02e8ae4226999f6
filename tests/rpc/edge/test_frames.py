"""gRPC's framing and metadata over HTTP/1.1."""

from __future__ import annotations

import base64
from urllib.parse import unquote

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.rpc.edge.frames import FrameError, frame, headers, status, unframe


@given(st.binary(max_size=4096))
def test_a_framed_message_comes_back(message: bytes) -> None:
    assert unframe(frame(message)) == message


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no message"),
        (b"\0\0\0\0", "no message"),
        (b"\1\0\0\0\1x", "compressed"),
        (b"\0\0\0\0\2x", "one whole"),
        (frame(b"x") + frame(b"y"), "one whole"),
        (frame(b"x") + b"\0", "one whole"),
    ],
)
def test_what_is_not_one_whole_message_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(FrameError, match=why):
        unframe(body)


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
    found = headers((("x-bin", b"\0\1"), ("warning", "a")), (("warning", "b"),))
    assert base64.b64decode(found["x-bin"] + "=") == b"\0\1"
    assert found.getall("warning") == ["a", "b"]
    assert "content-type" not in found
    assert headers(content_type=True)["content-type"] == "application/grpc"
