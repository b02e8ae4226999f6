"""Bodies as they were meant: identity, gzip or deflate, inflated as they arrive and in pieces of bounded size.

Requests ask for identity, and some edges compress all the same, some of them without a content-encoding header (seen
with relays and gateways in front of SSE), so the first two bytes decide as well: neither JSON, SSE nor an AWS event
stream begins with gzip's magic.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from server.core.errors import ProviderProtocolError, StreamTruncated

PIECE_BYTES: Final = 64 * 1024
"""Largest piece that inflating gives out at once, whatever the ratio."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_RAW_DEFLATE: Final = -zlib.MAX_WBITS
_IDENTITY: Final = frozenset({"", "identity", "none"})
_DEFLATED: Final = frozenset({"gzip", "x-gzip", "deflate"})


def is_plain(start: bytes) -> bool:
    """Whether a body without a content-encoding that begins so is known to be plain: it needs no decoder."""
    return len(start) > 1 and not start.startswith(_GZIP_MAGIC)


class BodyDecoder:
    """Feed it the body's bytes in order; it gives them back inflated. `end` at the end of the body.

    content_encoding: the header's value, "" without one. Raises ProviderProtocolError for an encoding that was not
    asked for and is none of the above (br, zstd, a list), and for bytes that cannot be inflated.
    """

    __slots__ = ("_between", "_compressed", "_held", "_inflater", "passthrough")

    def __init__(self, content_encoding: str) -> None:
        encoding = content_encoding.strip().lower()
        if encoding not in _IDENTITY and encoding not in _DEFLATED:
            raise ProviderProtocolError(
                f"The provider sent a body in an encoding that was not asked for ({encoding[:40]!r}).", retryable=False
            )
        self._compressed = encoding in _DEFLATED
        # A gzip body may have several members, and zeros as padding after each.
        self._between = False
        self._held = b""
        self._inflater: zlib._Decompress | None = None
        self.passthrough = False
        """True once the body is known to be plain: from there `feed` may be skipped."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The next bytes of the body, in pieces of at most PIECE_BYTES unless they are plain."""
        if self.passthrough:
            yield data
            return
        if self._inflater is None:
            data = self._held + data
            if self._between:
                data = data.lstrip(b"\0")
            if len(data) < 2 and (self._compressed or _GZIP_MAGIC.startswith(data)):
                self._held = data
                return
            self._held = b""
            if not self._compressed and not data.startswith(_GZIP_MAGIC):
                self.passthrough = True
                yield data
                return
            self._compressed = True
        yield from self._inflate(data)

    def end(self) -> bytes:
        """The body has ended: what was held back. Raises StreamTruncated when compressed data stops in its middle."""
        if self._inflater is not None or (self._compressed and self._held):
            raise StreamTruncated("The provider's answer ended in the middle of its compressed body.")
        held, self._held = self._held, b""
        return held

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._inflater is None:
                if len(data) < 2:
                    self._held = data
                    return
                self._inflater = _new_inflater(data)
            try:
                piece = self._inflater.decompress(data, PIECE_BYTES)
            except zlib.error as exc:
                raise ProviderProtocolError("The provider's compressed answer cannot be inflated.") from exc
            if piece:
                yield piece
            if self._inflater.eof:
                data = self._inflater.unused_data.lstrip(b"\0")
                self._inflater = None
                self._between = True
                continue
            data = self._inflater.unconsumed_tail
            if not data and len(piece) < PIECE_BYTES:
                return


def _new_inflater(data: bytes) -> zlib._Decompress:
    """Tell gzip and zlib by their headers; what is neither is the raw deflate that some servers send as `deflate`."""
    wrapped = data.startswith(_GZIP_MAGIC) or (data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0)
    return zlib.decompressobj(_GZIP_OR_ZLIB if wrapped else _RAW_DEFLATE)
