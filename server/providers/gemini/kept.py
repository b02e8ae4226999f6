"""What an answer's parts carry as opaque data so that the next turn can send them back unchanged.

A server tool's step keeps its whole part as it came. Text, thoughts and function calls keep what the neutral part has
no place for: signatures, where the text was split into parts (a signature belongs to its own part and must not move),
and the id that the provider itself gave a call.
"""

from __future__ import annotations

from typing import Final

import msgspec

from server.providers.parsing import try_decode


class Piece(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """A run of a block's text that was parts of their own. chars: its length. thought: as the part was marked."""

    chars: int
    signature: str | None = None
    thought: bool = False


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """pieces: of text and thoughts, in order. signature, id: of a function call."""

    pieces: tuple[Piece, ...] = ()
    signature: str | None = None
    id: str | None = None

    def encoded(self) -> bytes:
        return msgspec.json.encode(self)


_KEPT: Final = msgspec.json.Decoder(Kept)
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def kept_of(data: bytes | None) -> Kept | None:
    """What `Kept.encoded` gave; None for nothing, and for bytes that are not from here (they come from callers)."""
    return try_decode(_KEPT, data) if data else None


def raw_part(data: bytes | None) -> msgspec.Raw | None:
    """A part as it came; None for what is none."""
    return msgspec.Raw(data) if data and try_decode(_OBJECT, data) else None
