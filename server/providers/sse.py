"""Server-sent events, parsed from bytes as they arrive: one parser for every provider; NDJSON beside it.

The grammar is the HTML standard's (section 9.2.6, "Interpreting an event stream"), with two differences that providers
need: the last event counts even when its blank line is missing at the end of the body, and `data` stays bytes, so that
a UTF-8 sequence cut by a read is whole again before anybody decodes it.

What comes out depends on the bytes alone, never on how they were cut into reads; the work is linear in their number.
Measured costs: docs/decisions/provider-transport.md.
"""

from __future__ import annotations

from typing import Final

import msgspec

from server.core.errors import ProviderProtocolError

DEFAULT_MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
"""Room for an event that carries an image in base64."""

_BOM: Final = b"\xef\xbb\xbf"


class SseEvent(msgspec.Struct, frozen=True, gc=False):
    """One event.

    data: its `data` lines joined by a line feed, not decoded. event: its name, "" where it has none. id: as this event
    gave it, "" where it did not. retry: milliseconds, None where it gave none. unterminated: the body ended before the
    event's blank line, so the data may be cut.
    """

    data: bytes
    event: str = ""
    id: str = ""
    retry: int | None = None
    unterminated: bool = False


class SseParser:
    """Feed it the body in order; it gives the events that each read completes. `end` at the end of the body.

    max_event_bytes: most bytes of one line, and of all lines of one event. Beyond it ProviderProtocolError is raised,
    after the events that were complete before; the parser is then of no more use. Nothing else makes it raise.
    """

    __slots__ = ("_at_rest", "_data", "_error", "_event", "_first_line", "_id", "_lines", "_retry", "_size", "comments")

    def __init__(self, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._lines = _LineBuffer(max_event_bytes)
        self._error: ProviderProtocolError | None = None
        self._first_line = True
        # True between two events with nothing held back: only then may a read take the short way.
        self._at_rest = False
        self._size = 0
        self._data: list[bytes] = []
        self._event = ""
        self._id = ""
        self._retry: int | None = None
        self.comments = 0
        """How many comment lines came: keep-alives, which are no events."""

    def feed(self, data: bytes) -> list[SseEvent]:
        """The events that these bytes complete."""
        if self._error is not None:
            raise self._error
        events: list[SseEvent] = []
        if self._at_rest and len(data) <= self._lines.limit:
            text = data.replace(b"\r\n", b"\n") if b"\r" in data else data
            if text.endswith(b"\n\n") and b"\r" not in text:
                for block in text[:-2].split(b"\n\n"):
                    if block.startswith(b"data: ") and b"\n" not in block:
                        events.append(SseEvent(block[6:]))
                    else:
                        self._take(block.split(b"\n"), events)
                        self._dispatch(events)
                return events
        self._take(self._lines.feed(data), events)
        self._at_rest = not (self._size or self._first_line) and self._lines.empty
        return self._checked(events)

    def end(self) -> list[SseEvent]:
        """The event that the end of the body completes, if one is left."""
        if self._error is not None:
            raise self._error
        events: list[SseEvent] = []
        self._take(self._lines.end(), events)
        if self._size <= self._lines.limit:
            self._dispatch(events, unterminated=True)
        return self._checked(events)

    def _checked(self, events: list[SseEvent]) -> list[SseEvent]:
        """The events, or the error if there are none before it; it is raised by the next call otherwise."""
        if self._lines.overflow or self._size > self._lines.limit:
            self._error = _too_large("an event", self._lines.limit)
            if not events:
                raise self._error
        return events

    def _take(self, lines: list[bytes], events: list[SseEvent]) -> None:
        if self._first_line and lines:
            self._first_line = False
            lines[0] = lines[0].removeprefix(_BOM)
        for line in lines:
            if not line:
                self._dispatch(events)
            elif line[:1] == b":":
                self.comments += 1
            else:
                self._size += len(line)
                if self._size > self._lines.limit:
                    return
                if line.startswith(b"data: "):  # as `_field` would, for what nearly every line is
                    self._data.append(line[6:])
                else:
                    self._field(line)

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) < 10:
            self._retry = int(value)

    def _dispatch(self, events: list[SseEvent], *, unterminated: bool = False) -> None:
        if not self._size:
            return
        # As the standard has it, an event without a data field is none.
        if self._data:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            events.append(SseEvent(data, self._event, self._id, self._retry, unterminated))
        self._size = 0
        self._data = []
        self._event = self._id = ""
        self._retry = None


class NdjsonParser:
    """Newline-delimited JSON (Ollama's own API): feed it the body, get the lines that are not blank, not decoded.

    max_line_bytes: as SseParser's limit.
    """

    __slots__ = ("_error", "_lines")

    def __init__(self, max_line_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._lines = _LineBuffer(max_line_bytes)
        self._error: ProviderProtocolError | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that these bytes complete."""
        return self._checked(self._lines.feed(data))

    def end(self) -> list[bytes]:
        """The last line, if its line feed is missing."""
        return self._checked(self._lines.end())

    def _checked(self, lines: list[bytes]) -> list[bytes]:
        if self._error is not None:
            raise self._error
        lines = [line for line in lines if line and not line.isspace()]
        if self._lines.overflow:
            self._error = _too_large("a line", self._lines.limit)
            if not lines:
                raise self._error
        return lines


class _LineBuffer:
    """Cuts bytes into lines at LF, CR and CRLF, wherever the reads were cut.

    limit: most bytes of a line. A longer one sets `overflow`; lines before it are given, nothing from it on.
    """

    __slots__ = ("_held", "_skip_lf", "limit", "overflow")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.overflow = False
        self._held = bytearray()
        self._skip_lf = False

    @property
    def empty(self) -> bool:
        return not self._held and not self._skip_lf

    def feed(self, data: bytes) -> list[bytes]:
        if not data or self.overflow:
            return []
        # A CR ends its line at once; the LF that may follow in the next read belongs to it.
        if self._skip_lf and data[:1] == b"\n":
            data = data[1:]
        self._skip_lf = data[-1:] == b"\r" if data else False
        cut = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if not cut:
            self._hold(data)
            return []
        complete, rest = data[:cut], data[cut:]
        if self._held:
            self._held += complete
            complete = bytes(self._held)
            self._held.clear()
        lines = complete.splitlines()
        if len(complete) > self.limit:
            for index, line in enumerate(lines):
                if len(line) > self.limit:
                    self.overflow = True
                    return lines[:index]
        self._hold(rest)
        return lines

    def end(self) -> list[bytes]:
        if not self._held or self.overflow:
            return []
        line = bytes(self._held)
        self._held.clear()
        return [line]

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > self.limit:
            self.overflow = True
            self._held.clear()


def _too_large(what: str, limit: int) -> ProviderProtocolError:
    return ProviderProtocolError(f"The provider sent {what} of more than {limit} bytes.", retryable=False)
