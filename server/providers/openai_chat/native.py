"""What a server says in Chat Completions that no event says, for a caller who speaks them too."""

from __future__ import annotations

from collections.abc import Iterable
from types import GenericAlias
from typing import Any, Final

import msgspec

from server.core.events import Native
from server.core.native import keep, others
from server.providers.openai_chat.chunks import Choice, Chunk, Delta
from server.providers.parsing import decode

_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])
_TOP: Final = frozenset(Chunk.__struct_fields__) | {"object", "created", "obfuscation"}
"""obfuscation is padding; nothing is padded here."""
_CHOICE: Final = frozenset(Choice.__struct_fields__)
_MESSAGE: Final = frozenset(Delta.__struct_fields__) | {"role"}


def _known(names: Iterable[str], **typed: Any) -> Any:
    """A type that takes these members alone, and looks into those that are `typed`."""
    fields = [(name, typed.get(name, msgspec.Raw), None) for name in names]
    return msgspec.defstruct("Known", fields, forbid_unknown_fields=True)


_KnownMessage: Final = _known(_MESSAGE) | None
_KnownChoice: Final = _known(_CHOICE, delta=_KnownMessage, message=_KnownMessage)
_KnownChoices: Final[Any] = GenericAlias(list, _KnownChoice)
_KNOWN: Final = msgspec.json.Decoder(_known(_TOP, choices=_KnownChoices | None))


def natives(data: bytes) -> list[Native]:
    """The members of a chunk or a whole answer that are not known. data: JSON that was read as such already."""
    try:
        # Most chunks have none, and are not taken apart for it: 0.7 us for 1.4.
        _KNOWN.decode(data)
    except (msgspec.MsgspecError, ValueError):
        return _natives(data)
    return []


def _natives(data: bytes) -> list[Native]:
    raw = decode(_OBJECT, data, "an answer")
    choices = raw.get("choices") or [{}]
    choice = choices[0] if isinstance(choices, list) else {}
    message = choice.get("delta") or choice.get("message") or {} if isinstance(choice, dict) else {}
    places = ("top", raw, _TOP), ("choice", choice, _CHOICE), ("message", message, _MESSAGE)
    found = {}
    for place, members, known in places:
        # Asked here, as a whole stream of chunks has none: else it is six calls for each.
        if isinstance(members, dict) and not members.keys() <= known:
            found[place] = others(members, known)
    return [Native(members)] if found and (members := keep(found)) else []
