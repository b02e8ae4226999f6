"""gRPC's framing and metadata, as HTTP/1.1 carries them (github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

import grpc
from multidict import CIMultiDict

CONTENT_TYPE: Final = "application/grpc"

OK: Final = (("grpc-status", "0"),)

_PREFIX_BYTES: Final = 5
"""A byte that says whether the message is compressed, and its length in four."""
_PRINTABLE: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


class FrameError(Exception):
    """Says what is wrong with a body."""


def frame(message: bytes) -> bytes:
    """A message with its prefix."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def unframe(body: bytes) -> memoryview:
    """The one message of a body, not copied. Raises FrameError."""
    if len(body) < _PREFIX_BYTES:
        raise FrameError("The body holds no message.")
    if body[0]:
        raise FrameError("The message is compressed, which is not supported here.")
    if int.from_bytes(body[1:_PREFIX_BYTES], "big") != len(body) - _PREFIX_BYTES:
        raise FrameError("The body is not one whole message.")
    return memoryview(body)[_PREFIX_BYTES:]


def headers(*metadata: Iterable[tuple[str, str | bytes]], content_type: bool = False) -> CIMultiDict[str]:
    """Metadata as HTTP headers or trailers: what is binary, by name, as base64 without padding. content_type: whether
    gRPC's is said too."""
    found: CIMultiDict[str] = CIMultiDict({"content-type": CONTENT_TYPE} if content_type else {})
    for pairs in metadata:
        for name, value in pairs:
            found.add(name, _base64(value) if name.endswith("-bin") else _text(value))
    return found


def status(code: grpc.StatusCode, message: str) -> tuple[tuple[str, str], ...]:
    """How a call ended, as metadata."""
    return ("grpc-status", str(code.value[0])), ("grpc-message", quote(message, safe=_PRINTABLE))


def _base64(value: str | bytes) -> str:
    raw = value.encode() if isinstance(value, str) else value
    return base64.b64encode(raw).rstrip(b"=").decode()


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("ascii")
