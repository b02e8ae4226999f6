"""One line for each call: who called what, how it ended, how long it took and what it cost."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec

from server.rpc.log import ACCESS_LOGGER, Clock, LineHandler


class AccessLine(msgspec.Struct, omit_defaults=True, gc=False):
    """What the access log says of one call; what is not known is left out. Its members are those of the line, after
    the four that every line begins with, which AccessLog fills in.

    duration_ms: until the call ended. transport: `rest`, `sse`, `grpc` or `direct`. reason: of the error that ended it.
    """

    time: str = ""
    level: str = ""
    logger: str = ""
    message: str = ""
    method: str = ""
    status: str = ""
    duration_ms: float | None = None
    request_id: str = ""
    transport: str = ""
    reason: str = ""
    key_id: str = ""
    workspace_id: str = ""
    provider: str = ""
    model: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


_LEVELS: Final = {logging.DEBUG: "debug", logging.INFO: "info"}
"""Those of calls."""


class AccessLog:
    """Writes one line for each call. `logging` decides whether and where to; only where all that it would do is to
    hand the line to one LineHandler, that is done without its records, which cost four times as much.

    logger: the one of the access log. now: seconds since the epoch.
    """

    def __init__(self, logger: logging.Logger | None = None, *, now: Callable[[], float] = time.time) -> None:
        self._logger = logger or logging.getLogger(ACCESS_LOGGER)
        self._now = now
        self._clock = Clock()
        self.wants = self._logger.isEnabledFor
        """Whether lines of a level are written."""

    def write(self, level: int, line: AccessLine) -> None:
        """Write the line of a call. level: one that the log wants."""
        handler = self._only_handler(level)
        if handler is None:
            self._logger.log(level, "call", extra={"fields": msgspec.to_builtins(line)})
            return
        line.time = self._clock.text(self._now())
        line.level = _LEVELS.get(level) or logging.getLevelName(level).lower()
        line.logger = self._logger.name
        line.message = "call"
        handler.write_soon(_encode(line))

    def _only_handler(self, level: int) -> LineHandler | None:
        """The handler that the line goes to, if handing it over is all that `logging` would do."""
        if self._logger.filters:
            return None
        found: LineHandler | None = None
        logger: logging.Logger | None = self._logger
        while logger is not None:
            for handler in logger.handlers:
                if found or not isinstance(handler, LineHandler) or handler.filters or level < handler.level:
                    return None
                found = handler
            logger = logger.parent if logger.propagate else None
        return found


def _encode(line: AccessLine) -> str:
    """ASCII JSON."""
    try:
        text = msgspec.json.encode(line)
    except ValueError:  # half a surrogate pair
        pass
    else:
        if text.isascii():
            return text.decode()
    return json.dumps(msgspec.to_builtins(line), separators=(",", ":"))
