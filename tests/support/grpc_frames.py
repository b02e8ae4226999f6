"""gRPC's frames as a caller writes them."""

from __future__ import annotations


def frame(message: bytes) -> bytes:
    """A message, not compressed, with its prefix."""
    return b"\0" + len(message).to_bytes(4, "big") + message
