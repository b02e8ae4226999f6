"""What the log says: one JSON object a line, and of an exception its types and places, never its words.

An exception's text may hold a prompt or a credential (a parser quotes what it could not parse), and so may the
arguments of a foreign library's log line. So neither is written: only this project's own records are formatted with
their arguments.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Mapping
from pathlib import PurePath
from types import NoneType

import msgspec

OWN_LOGGER = "dragoman"
"""Root of the names of this project's loggers."""

ACCESS_LOGGER = "dragoman.access"
ERROR_LOGGER = "dragoman.errors"

_PLAIN = frozenset({str, int, float, bool, NoneType})
"""Types whose values are written as they are; of any other, the type's name alone, whatever it holds."""

_MOST_CAUSES = 8
_MOST_FRAMES = 30


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, message, the mapping `fields` of `extra`, and `error`
    for an exception, as `describe` gives it."""

    def __init__(self) -> None:
        super().__init__()
        self._second = (-1, "")

    def format(self, record: logging.LogRecord) -> str:
        own = record.name == OWN_LOGGER or record.name.startswith(OWN_LOGGER + ".")
        line: dict[str, object] = {
            "time": self._time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage() if own else str(record.msg).partition("\n")[0],
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            line.update(fields)
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = describe(record.exc_info[1])
        return _encode(line)

    def _time(self, created: float) -> str:
        """RFC 3339 in UTC, to the millisecond. Lines come by the hundred a second: its text is kept for one."""
        second = int(created)
        if second != self._second[0]:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        return f"{self._second[1]}.{int((created - second) * 1000):03}+00:00"


def _encode(line: dict[str, object]) -> str:
    """ASCII JSON. Every call has its line, so the common one, of plain values, takes msgspec: 1 us against 7."""
    if all(type(value) in _PLAIN for value in line.values()):
        try:
            text = msgspec.json.encode(line)
        except ValueError:  # half a surrogate pair
            pass
        else:
            if text.isascii():
                return text.decode()
    return json.dumps(line, default=lambda value: type(value).__name__, separators=(",", ":"))


def describe(error: BaseException) -> list[dict[str, object]]:
    """An exception and what caused it, outermost first: `type` and `frames` (file:line function, innermost last)."""
    chain: list[dict[str, object]] = []
    current: BaseException | None = error
    while current is not None and len(chain) < _MOST_CAUSES:
        chain.append({"type": type(current).__name__, "frames": _frames(current)})
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return chain


def _frames(error: BaseException) -> list[str]:
    walked = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    return [f"{'/'.join(PurePath(code.co_filename).parts[-3:])}:{line} {code.co_name}" for code, line in walked][
        -_MOST_FRAMES:
    ]
