"""Streams that leave together while the event loop lags: fewer turns, writes and wake-ups for the same tokens.

A stream's piece that comes alone costs the loop a turn, the socket a write and whoever is behind it a wake-up. While
the loop keeps up that is the price of the shortest delay, and nobody waits. When it lags, pieces wait for the next
common tick, a few milliseconds at most: then the streams that have something are served in one go, and what else comes
for a stream until it is its turn again is one piece.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

PROBE_SECONDS: Final = 0.02
"""How often it is looked whether the loop is late, while there are streams."""

LATE_SECONDS: Final = 0.002
"""From here on it lags. A timer of the loop's is a millisecond late by itself."""

CALM_PROBES: Final = 50
"""So many probes in time (a second of them), and it keeps up again: load comes in waves."""

Later = Callable[[float, Callable[[], None]], object]
"""The loop's `call_later`: seconds, and what is called then."""


def loop_later(seconds: float, call: Callable[[], None]) -> object:
    """`call_later` of the loop that runs."""
    return asyncio.get_running_loop().call_later(seconds, call)


class LoopLag:
    """Whether the event loop lags: a timer that comes late says so. It runs only while somebody asks.

    now: seconds of a clock that only goes forward.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic, later: Later = loop_later) -> None:
        self._now = now
        self._later = later
        self._due = 0.0
        self._probing = False
        self._asked = False
        self._calm = CALM_PROBES

    def lagging(self) -> bool:
        """Whether it did within the last second; False when nobody has asked for a while."""
        self._asked = True
        if not self._probing:
            self._probing = True
            self._arm()
        return self._calm < CALM_PROBES

    def _arm(self) -> None:
        self._due = self._now() + PROBE_SECONDS
        self._later(PROBE_SECONDS, self._probe)

    def _probe(self) -> None:
        self._calm = 0 if self._now() - self._due >= LATE_SECONDS else self._calm + 1
        if self._asked:
            self._asked = False
            self._arm()
        else:
            self._probing = False
            self._calm = CALM_PROBES


class Pace:
    """When the next piece of a stream may leave; for the streams of one event loop. wait: seconds between ticks, which
    is the longest that one waits.

    together: whether pieces wait for each other now; if so, wait for `tick`. It is asked for every piece, so it is the
    lag's own answer.
    """

    def __init__(self, wait: float, lagging: Callable[[], bool] | None = None, *, later: Later | None = None) -> None:
        self.together: Callable[[], bool] = (lagging or LoopLag().lagging) if wait > 0.0 else bool  # which is False
        self._wait = wait
        self._later = later
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[asyncio.Future[None]] = []

    def tick(self) -> asyncio.Future[None]:
        """Done at the next common tick. Whoever is cancelled meanwhile leaves the others alone."""
        # Kept, as to ask for it costs a system call on CPython 3.11.
        loop = self._loop = self._loop or asyncio.get_running_loop()
        mine: asyncio.Future[None] = loop.create_future()
        self._waiting.append(mine)
        if len(self._waiting) == 1:
            (self._later or loop.call_later)(self._wait, self._release)
        return mine

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)
