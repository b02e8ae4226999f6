"""What the log says: one JSON object a line, and of an exception its types and places, never its words.

An exception's text may hold a prompt or a credential (a parser quotes what it could not parse), and so may the
arguments of a foreign library's log line. So neither is written: only this project's own records are formatted with
their arguments.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePath

OWN_LOGGER = "dragoman"
"""Root of the names of this project's loggers."""

ACCESS_LOGGER = "dragoman.access"
ERROR_LOGGER = "dragoman.errors"

_MOST_CAUSES = 8
_MOST_FRAMES = 30


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, message, the mapping `fields` of `extra`, and `error`
    for an exception, as `describe` gives it."""

    def format(self, record: logging.LogRecord) -> str:
        own = record.name == OWN_LOGGER or record.name.startswith(OWN_LOGGER + ".")
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage() if own else str(record.msg).partition("\n")[0],
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            line.update(fields)
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = describe(record.exc_info[1])
        return json.dumps(line, default=lambda value: type(value).__name__)


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
