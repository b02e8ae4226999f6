"""Embeddings: texts in, one vector a text out. What a caller asks for, and what comes back.

Vectors are 32-bit floats, as the contract carries them and as OpenAI's base64 form does; a provider that writes more
digits is rounded to the nearest.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import starmap
from math import isfinite

import msgspec

from server.core.events import Usage, Warning
from server.core.messages import Passthrough

Vector = array
"""An `array.array` of type code "f"."""

FLOAT_BYTES = 4

_BIG_ENDIAN = array("H", [1]).tobytes() == b"\x00\x01"

Tokens = tuple[int, ...]
"""A text as ids of a provider's own tokenizer, which means something to that provider's models alone."""

OPENAI_WIRE = "openai_embeddings"
"""`Passthrough.wire` of OpenAI's POST /embeddings."""


class EmbedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call of an embedding model.

    input: at least one, each a text, or its tokens where the wire takes such. model, provider, provider_name,
    passthrough: as in ChatRequest. dimensions: length of the vectors, None for the model's own. user: an id of the end
    user. provider_options: JSON text of an object that is merged into each of the provider's request bodies last, ""
    for none.
    """

    input: tuple[str | Tokens, ...]
    model: str
    provider: str | None = None
    provider_name: str | None = None
    dimensions: int | None = None
    user: str | None = None
    provider_options: str = ""
    passthrough: Passthrough | None = None


class EmbedResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The vectors, in the order of the input. usage: the sum over the provider's answers. model: as the provider names
    it. request_id: the provider's, of its first answer."""

    vectors: tuple[Vector[float], ...]
    usage: Usage
    model: str
    provider: str
    warnings: tuple[Warning, ...] = ()
    request_id: str = ""


def vector(numbers: Iterable[float]) -> Vector[float]:
    """The numbers as 32-bit floats. Raises ValueError where one is not finite, or not as a 32-bit float."""
    return _checked(array("f", numbers))


def vector_of_bytes(data: bytes) -> Vector[float]:
    """From 32-bit floats, little endian. Raises ValueError for a broken length and as `vector` does."""
    if len(data) % FLOAT_BYTES:
        raise ValueError("not a whole number of 32-bit floats")
    found = array("f", data)
    if _BIG_ENDIAN:
        found.byteswap()
    return _checked(found)


def vector_bytes(values: Vector[float]) -> bytes:
    """As 32-bit floats, little endian."""
    if _BIG_ENDIAN:
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _checked(values: Vector[float]) -> Vector[float]:
    # A sum of finite 32-bit floats cannot leave a double, and anything else among them shows in it.
    if not isfinite(sum(values)):
        raise ValueError("not finite")
    return values


def add_usage(parts: Sequence[Usage]) -> Usage:
    """The sum, field by field: None where no part has a count."""

    def added(*counts: int | None) -> int | None:
        known = [count for count in counts if count is not None]
        return sum(known) if known else None

    rows = [msgspec.structs.astuple(part) for part in parts]
    return Usage(*starmap(added, zip(*rows, strict=True))) if rows else Usage()
