"""What the log says: one JSON object a line, and of an exception its types and places, never its words.

An exception's text may hold a prompt or a credential (a parser quotes what it could not parse), and so may the
arguments of a foreign library's log line. So neither is written: only this project's own records are formatted with
their arguments.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from types import NoneType
from typing import TextIO

import msgspec

OWN_LOGGER = "dragoman"
"""Root of the names of this project's loggers."""

ACCESS_LOGGER = "dragoman.access"
ERROR_LOGGER = "dragoman.errors"

_PLAIN = frozenset({str, int, float, bool, NoneType})
"""Types whose values are written as they are; of any other, the type's name alone, whatever it holds."""

_MOST_CAUSES = 8
_MOST_FRAMES = 30

_ATOMIC_WRITE = 4096
"""Most characters that a pipe takes as one piece on Linux (PIPE_BUF), so that lines of processes that share one do not
mix."""


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, message, the mapping `fields` of `extra`, and `error`
    for an exception, as `describe` gives it."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = Clock()

    def format(self, record: logging.LogRecord) -> str:
        own = record.name == OWN_LOGGER or record.name.startswith(OWN_LOGGER + ".")
        line: dict[str, object] = {
            "time": self._clock.text(record.created),
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


class Clock:
    """Times as lines have them. Lines come by the hundred a second: a second's text is kept for it."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, at: float) -> str:
        """`at`, in seconds since the epoch, by RFC 3339 in UTC, to the millisecond."""
        second = int(at)
        if second != self._second:
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._text}.{int((at - second) * 1000):03}+00:00"


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


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes records to `stream` as JsonFormatter has them, and ready lines of one turn of the event loop together.

    What was handed over does not stay unwritten: a record takes the lines before it along, and `logging` flushes its
    handlers when the process exits.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.setFormatter(JsonFormatter())
        self._lines: deque[str] = deque()
        self._due = False

    def write_soon(self, line: str) -> None:
        """Write a line, without its end, when the event loop's turn is over; at once where no loop runs."""
        self._lines.append(line)  # atomic, as taking it is: whoever holds the lock writes it, and none is written twice
        if not self._due:
            self._due = True
            try:
                asyncio.get_running_loop().call_soon(self.flush)
            except RuntimeError:
                self.flush()

    def emit(self, record: logging.LogRecord) -> None:
        self._write_lines()
        super().emit(record)

    def flush(self) -> None:
        self.acquire()
        try:
            self._write_lines()
            super().flush()
        finally:
            self.release()

    def _write_lines(self) -> None:
        self._due = False  # before they are taken: a line that comes now is taken too, or has a flush of its own
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        try:
            for piece in _pieces(lines):
                self.stream.write(piece)
        except Exception:  # noqa: BLE001 - as `logging` takes what a stream raises: a log that fails stops no call
            self.handleError(logging.makeLogRecord({"name": OWN_LOGGER, "msg": "%d lines", "args": (len(lines),)}))


def _pieces(lines: list[str]) -> Iterator[str]:
    """The lines with their ends, as many at once as a pipe takes in one piece."""
    piece = ""
    for line in lines:
        if piece and len(piece) + len(line) >= _ATOMIC_WRITE:
            yield piece
            piece = ""
        piece += line + "\n"
    if piece:
        yield piece
