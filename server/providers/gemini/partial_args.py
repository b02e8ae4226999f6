"""A function call whose arguments come in pieces (Vertex, `streamFunctionCallArguments`).

Each piece names a place by JSON path (`$.recipe.steps[0]`, `$['a b']`) and gives a value of one kind; strings continue
where they were left off.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, Final

import msgspec

from server.core.errors import ProviderProtocolError
from server.providers.gemini.chunks import ABSENT, PartialArg

MAX_ITEMS: Final = 100_000
"""Largest list that a path may make, against a path that makes memory out of a number."""

_STEP: Final = re.compile(r"""\.([^.\[\]]+)|\[(\d+)\]|\[(['"])((?:\\.|(?!\3).)*)\3\]""", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


class PartialArgs:
    """The arguments as they grow. `text` is what they have become."""

    def __init__(self) -> None:
        self._root: dict[str, Any] = {}
        self._open: list[str | int] | None = None
        """The path of the string that continues."""

    @property
    def complete(self) -> bool:
        """Whether no string is left in the middle."""
        return self._open is None

    def text(self) -> str:
        """JSON text of an object."""
        return msgspec.json.encode(self._root).decode()

    def add(self, piece: PartialArg) -> None:
        """Put one piece in its place. Raises ProviderProtocolError for a path that leads nowhere."""
        path = _parse(piece.json_path)
        value = _value(piece)
        holder: Any = self._root
        for step, following in pairwise(path):
            empty: Any = [] if isinstance(following, int) else {}
            found = _get(holder, step)
            if found is None:
                _put(holder, step, found := empty)
            holder = found
        last = path[-1]
        if isinstance(value, str) and path == self._open:
            before = _get(holder, last)
            value = before + value if isinstance(before, str) else value
        _put(holder, last, value)
        self._open = path if piece.will_continue else None


def _value(piece: PartialArg) -> Any:
    if piece.string_value is not None:
        return piece.string_value
    if piece.bool_value is not None:
        return piece.bool_value
    if piece.number_value is not None:
        return piece.number_value
    # A string that begins or ends with nothing in it may come without a value.
    return None if piece.null_value is not ABSENT else ""


def _parse(path: str) -> list[str | int]:
    steps: list[str | int] = []
    at = 1
    while path.startswith("$") and at < len(path) and (match := _STEP.match(path, at)):
        name, index, _, quoted = match.groups()
        steps.append(int(index[:9]) if index else name or _ESCAPE.sub(r"\1", quoted or ""))
        at = match.end()
    if not steps or at != len(path) or isinstance(steps[0], int):
        raise _broken()
    return steps


def _get(holder: Any, step: str | int) -> Any:
    if isinstance(holder, dict) and isinstance(step, str):
        return holder.get(step)
    if isinstance(holder, list) and isinstance(step, int):
        return holder[step] if step < len(holder) else None
    raise _broken()


def _put(holder: Any, step: str | int, value: Any) -> None:
    if isinstance(holder, dict) and isinstance(step, str):
        holder[step] = value
    elif isinstance(holder, list) and isinstance(step, int) and step < MAX_ITEMS:
        holder.extend([None] * (step + 1 - len(holder)))
        holder[step] = value
    else:
        raise _broken()


def _broken() -> ProviderProtocolError:
    return ProviderProtocolError("The provider sent a piece of a tool call's arguments that has no place in them.")
