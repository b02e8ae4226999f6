"""Ids that sort by when they were made: `cfg_1jz8k...`, a short prefix that says what the thing is, time,
randomness."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32: no letter that is read as another
_TIME_DIGITS = 11  # 55 bits of microseconds: until the year 3111
_RANDOM_DIGITS = 13  # 65 bits: no two in the same microsecond
ID_ENTROPY_BYTES = 9
"""How many random bytes `sortable_id` takes."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def sortable_id(prefix: str, made_at: datetime, entropy: bytes) -> str:
    """`prefix_` and 24 digits; of two ids with one prefix, the one made in a later microsecond is the greater string.

    made_at: aware. entropy: ID_ENTROPY_BYTES random bytes. Raises ValueError for a naive time or too little entropy.
    """
    if made_at.tzinfo is None:
        raise ValueError("made_at must be timezone-aware")
    if len(entropy) < ID_ENTROPY_BYTES:
        raise ValueError(f"entropy must be at least {ID_ENTROPY_BYTES} bytes")
    microseconds = (made_at - _EPOCH) // _MICROSECOND
    return f"{prefix}_{_digits(microseconds, _TIME_DIGITS)}{_digits(int.from_bytes(entropy, 'big'), _RANDOM_DIGITS)}"


def _digits(number: int, length: int) -> str:
    """The lowest `length` base32 digits of `number`."""
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(length)))
