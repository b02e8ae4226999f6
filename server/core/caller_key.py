"""What a caller's key looks like: `dgm_`, 43 base62 digits of 32 random bytes, and a checksum of 6 base62 digits.

The prefix lets secret scanners find a leaked key; the checksum tells a mistyped or cut one without asking the store.
Neither adds or takes any secrecy: that is the 256 random bits.
"""

from __future__ import annotations

import re
from zlib import crc32

from server.core.secret import Secret

KEY_ENTROPY_BYTES = 32
"""How many random bytes `caller_key` takes."""

KEY_PREFIX = "dgm_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_DIGITS = 43  # 62 ** 43 > 2 ** 256
_CHECK_DIGITS = 6  # 62 ** 6 > 2 ** 32
_SHAPE = re.compile(rf"{KEY_PREFIX}[0-9A-Za-z]{{{_RANDOM_DIGITS + _CHECK_DIGITS}}}")


def caller_key(entropy: bytes) -> Secret:
    """A new key in clear, to be shown once. Raises ValueError unless `entropy` is KEY_ENTROPY_BYTES long."""
    if len(entropy) != KEY_ENTROPY_BYTES:
        raise ValueError(f"entropy must be {KEY_ENTROPY_BYTES} bytes")
    body = KEY_PREFIX + _base62(int.from_bytes(entropy, "big"), _RANDOM_DIGITS)
    return Secret(body + _checksum(body))


def is_caller_key(text: str) -> bool:
    """Whether `text` can be a key at all; what fails here needs no look-up."""
    return _SHAPE.fullmatch(text) is not None and _checksum(text[:-_CHECK_DIGITS]) == text[-_CHECK_DIGITS:]


def _checksum(body: str) -> str:
    return _base62(crc32(body.encode()), _CHECK_DIGITS)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
