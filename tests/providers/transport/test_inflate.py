"""Compressed bodies, announced or not, however they are cut."""

import gzip
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import ProviderProtocolError, StreamTruncated
from server.providers.transport.inflate import PIECE_BYTES, BodyDecoder

TEXT = b'data: {"text": "caf\xc3\xa9"}\n\n' * 3


def raw_deflate(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return squeeze.compress(data) + squeeze.flush()


def decode(reads: list[bytes], encoding: str) -> bytes:
    decoder = BodyDecoder(encoding)
    return b"".join(piece for read in reads for piece in decoder.feed(read)) + decoder.end()


BODIES = {
    "plain": (TEXT, "", TEXT),
    "identity": (TEXT, "identity", TEXT),
    "gzip": (gzip.compress(TEXT), "gzip", TEXT),
    "x-gzip": (gzip.compress(TEXT), " X-GZIP ", TEXT),
    "gzip that nobody announced": (gzip.compress(TEXT), "", TEXT),
    "gzip announced as identity": (gzip.compress(TEXT), "identity", TEXT),
    "deflate in zlib": (zlib.compress(TEXT), "deflate", TEXT),
    "raw deflate": (raw_deflate(TEXT), "deflate", TEXT),
    "several members": (gzip.compress(TEXT) + gzip.compress(b"") + gzip.compress(b"end"), "gzip", TEXT + b"end"),
    "padded with zeros": (gzip.compress(TEXT) + b"\0" * 5, "gzip", TEXT),
    "announced and empty": (b"", "gzip", b""),
    "empty": (b"", "", b""),
    "first byte of gzip's magic alone": (b"\x1f", "", b"\x1f"),
    "first byte of gzip's magic, then text": (b"\x1fabc", "", b"\x1fabc"),
}


@pytest.mark.parametrize(("body", "encoding", "expected"), BODIES.values(), ids=BODIES.keys())
def test_a_body_is_the_same_however_it_is_cut(body: bytes, encoding: str, expected: bytes) -> None:
    """Whole, byte by byte and cut at every position."""
    assert decode([body], encoding) == expected
    assert decode([body[i : i + 1] for i in range(len(body))], encoding) == expected
    for i in range(len(body) + 1):
        assert decode([body[:i], body[i:]] if i else [body], encoding) == expected


@pytest.mark.parametrize("squeeze", [gzip.compress, zlib.compress])
def test_a_compressed_body_cut_short_is_truncated(squeeze) -> None:
    """Wherever it ends too early."""
    body = squeeze(TEXT)
    for i in range(1, len(body)):
        with pytest.raises(StreamTruncated):
            decode([body[:i]], "deflate")


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
def test_an_encoding_that_was_not_asked_for_is_an_error(encoding: str) -> None:
    """It is named, and never passed on as text."""
    with pytest.raises(ProviderProtocolError, match="encoding"):
        BodyDecoder(encoding)


def test_damaged_data_is_an_error() -> None:
    """A wrong checksum is the provider's protocol error, not a crash."""
    body = bytearray(gzip.compress(TEXT))
    body[-6] ^= 0xFF
    with pytest.raises(ProviderProtocolError):
        decode([bytes(body)], "gzip")


def test_a_bomb_comes_out_in_bounded_pieces() -> None:
    """A thousandfold body is never in memory at once, and none of it is lost."""
    decoder = BodyDecoder("")
    sizes = [len(piece) for piece in decoder.feed(gzip.compress(bytes(50_000_000)))]
    assert max(sizes) <= PIECE_BYTES
    assert sum(sizes) == 50_000_000
    assert decoder.end() == b""


def test_what_was_flushed_comes_out_at_once() -> None:
    """A compressed event is not held back until the next one."""
    squeeze = zlib.compressobj(wbits=31)
    decoder = BodyDecoder("gzip")
    for event in (b"data: a\n\n", b"data: b\n\n"):
        assert b"".join(decoder.feed(squeeze.compress(event) + squeeze.flush(zlib.Z_SYNC_FLUSH))) == event


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=20), st.sampled_from(["", "gzip", "deflate"]))
def test_garbage_never_crashes(reads: list[bytes], encoding: str) -> None:
    """Whatever comes is given back, or refused with a provider error."""
    body = b"".join(reads)
    with suppress(ProviderProtocolError, StreamTruncated):
        decoded = decode(reads, encoding)
        assert encoding or decoded == body or body.startswith(b"\x1f\x8b")
