"""Opaque data (signatures, encrypted thoughts) as one string, for dialects whose own field holds another provider's.

Whoever speaks the dialect sends it back like a signature of the API's own, and it reaches its provider unchanged.
"""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

import msgspec

from server.core.messages import Opaque

MARK: Final = "dgm1."
"""What such a string begins with. No provider's own signature does: `.` is in no alphabet of base64."""

PREVIOUS: Final = ""
"""`Sealed.of` where the data belong to the part before."""


class Sealed(msgspec.Struct, frozen=True, array_like=True):
    """The data, and what they belong to: None for the part that carries them, PREVIOUS, or a tool call by its id."""

    provider: str
    model: str
    data: bytes
    of: str | None = None

    @property
    def opaque(self) -> Opaque:
        """The data as the core has them."""
        return Opaque(self.provider, self.model, self.data)


_DECODER: Final = msgspec.msgpack.Decoder(Sealed)


def seal(opaque: Opaque, of: str | None = None) -> str:
    """The container: `dgm1.` and base64url of a checksum and [provider, model, data, of]."""
    packed = msgspec.msgpack.encode(Sealed(opaque.provider, opaque.model, opaque.data, of))
    return MARK + urlsafe_b64encode(_checksum(packed) + packed).decode().rstrip("=")


def unseal(text: str) -> Sealed | None:
    """What `seal` was given; None for any other string, a damaged container too."""
    if not text.startswith(MARK):
        return None
    body = text.removeprefix(MARK)
    try:
        raw = urlsafe_b64decode(body + "=" * (-len(body) % 4))
        return _DECODER.decode(raw[4:]) if _checksum(raw[4:]) == raw[:4] else None
    except (ValueError, msgspec.MsgspecError):
        return None


def _checksum(packed: bytes) -> bytes:
    return zlib.crc32(packed).to_bytes(4, "big")
