"""The form of `Native.members`: what an adapter keeps of its wire for a caller who speaks it, by the place it stood in.

Chat Completions: `top` (members of the chunk or completion), `choice`, `message` (of the delta or the message).
Messages: `top` and `message` (of the message), `events` (a list of whole events of kinds that are not known here).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec


def keep(places: Mapping[str, Any]) -> str:
    """`Native.members` for what stood in each place, "" where nothing did."""
    found = {place: members for place, members in places.items() if members}
    return msgspec.json.encode(found).decode() if found else ""


def kept(members: str) -> dict[str, Any]:
    """What `keep` was given."""
    found: dict[str, Any] = msgspec.json.decode(members)
    return found


def others(raw: object, known: Iterable[str]) -> dict[str, Any]:
    """The members of an object but the known ones and nulls; {} for what is no object."""
    if not isinstance(raw, dict):
        return {}
    names = frozenset(known)
    return {name: value for name, value in raw.items() if name not in names and value is not None}
