"""gRPC's framing and metadata, as HTTP/1.1 carries them (github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

import grpc

CONTENT_TYPE: Final = "application/grpc"

OK: Final = (("grpc-status", "0"),)

ENCODINGS: Final = "identity,gzip,deflate"
"""`grpc-accept-encoding`: those that gRPC's own server takes."""

_WINDOWS: Final = {"gzip": 31, "deflate": 15}
"""zlib's `wbits` for each."""
_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
PREFIX_BYTES: Final = 5
"""A byte that says whether the message is compressed, and its length in four."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PRINTABLE: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


class FrameError(Exception):
    """Says what is wrong with a body."""


class UnknownEncoding(FrameError):
    """It is compressed in another way than ENCODINGS."""


class TooLarge(FrameError):
    """Unpacked it is larger than it may be."""


def unframe(body: bytes, encoding: str, most: int) -> bytes | memoryview:
    """The one message of a body, not copied. encoding: `grpc-encoding`, for a message that says that it is compressed.
    most: bytes that it may then have. Raises FrameError, UnknownEncoding, TooLarge."""
    if len(body) < PREFIX_BYTES:
        raise FrameError("The body holds no message.")
    if int.from_bytes(body[1:PREFIX_BYTES], "big") != len(body) - PREFIX_BYTES:
        raise FrameError("The body is not one whole message.")
    message = memoryview(body)[PREFIX_BYTES:]
    return _inflated(message, encoding, most) if body[0] else message


def _inflated(message: memoryview, encoding: str, most: int) -> bytes:
    if encoding not in _WINDOWS:
        raise UnknownEncoding(f"The message is compressed by {encoding or 'nothing that has a name'}.")
    inflater = zlib.decompressobj(_WINDOWS[encoding])
    try:
        found = inflater.decompress(message, most)
    except zlib.error as error:
        raise FrameError("The message is not compressed as it says.") from error
    if inflater.unconsumed_tail:
        raise TooLarge(f"The message is larger than {most} bytes.")
    if not inflater.eof:
        raise FrameError("The message is not compressed as it says.")
    return found


def seconds(timeout: str) -> float | None:
    """What `grpc-timeout` says; None for what it cannot say."""
    match = _TIMEOUT.fullmatch(timeout)
    return int(match[1]) * _UNITS[match[2]] if match else None


def lines(*metadata: Iterable[tuple[str, str | bytes]]) -> bytes:
    """Metadata as the lines of HTTP headers or trailers: what is binary, by name, as base64 without padding. Raises
    ValueError for a control character, which would begin another line."""
    said = [
        f"{name}: {_base64(value) if name.endswith('-bin') else _text(value)}"
        for pairs in metadata
        for name, value in pairs
    ]
    bare = "".join(said)
    if not bare.isprintable() and _CONTROL.search(bare) is not None:
        raise ValueError("metadata holds a control character")
    said.append("")
    return "\r\n".join(said).encode()


def status(code: grpc.StatusCode, message: str) -> tuple[tuple[str, str], ...]:
    """How a call ended, as metadata."""
    return ("grpc-status", str(code.value[0])), ("grpc-message", quote(message, safe=_PRINTABLE))


def _base64(value: str | bytes) -> str:
    raw = value.encode() if isinstance(value, str) else value
    return base64.b64encode(raw).rstrip(b"=").decode()


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("ascii")
