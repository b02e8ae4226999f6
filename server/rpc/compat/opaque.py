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
"""What such a string begins with; no provider's own signature does: `.` is not in their alphabets (base64, base64url)."""


def seal(opaque: Opaque) -> str:
    """The container: `dgm1.` and base64url of [provider, model, data] with a checksum."""
    packed = msgspec.msgpack.encode((opaque.provider, opaque.model, opaque.data))
    return MARK + urlsafe_b64encode(zlib.crc32(packed).to_bytes(4, "big") + packed).decode().rstrip("=")


def unseal(text: str) -> Opaque | None:
    """What `seal` was given; None for any other string, a damaged container too."""
    if not text.startswith(MARK):
        return None
    body = text.removeprefix(MARK)
    try:
        raw = urlsafe_b64decode(body + "=" * (-len(body) % 4))
        if zlib.crc32(raw[4:]).to_bytes(4, "big") != raw[:4]:
            return None
        provider, model, data = msgspec.msgpack.decode(raw[4:], type=tuple[str, str, bytes])
    except (ValueError, msgspec.MsgspecError):
        return None
    return Opaque(provider, model, data)
