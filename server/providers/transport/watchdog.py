"""One timer for all timeouts of one response.

A stream reads thousands of chunks, and a timer (or a `wait_for` task) for each costs more than the read. So a read only
notes the time; the one timer looks at that when it fires, and is set again for what is left. It runs late at worst by
the length of a read that is still allowed, never early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from server.core.errors import ProviderTimeout, TimeoutPhase
from server.core.ports import CallTimeouts

# Event loop clocks tick in milliseconds (uvloop): a timer that fires this much early is on time.
_CLOCK_STEP = 0.001


class Watchdog:
    """Calls `on_expiry` once, when a read has waited past the timeout of its phase.

    started: loop time at which the request was sent. since: when the read that waits began; whoever has waited sets it
    to None, for only waiting counts: while the caller works on a chunk, nothing expires.
    """

    __slots__ = ("_first_due", "_handle", "_idle", "_loop", "_on_expiry", "_timeouts", "_total_due", "since")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeouts: CallTimeouts,
        started: float,
        on_expiry: Callable[[ProviderTimeout], None],
    ) -> None:
        self._loop = loop
        self._timeouts = timeouts
        self._on_expiry = on_expiry
        self._idle = timeouts.idle
        first_due = started + timeouts.first_token
        self._first_due: float | None = first_due
        self._total_due = None if timeouts.total is None else started + timeouts.total
        self.since: float | None = None
        due = first_due if self._total_due is None or first_due < self._total_due else self._total_due
        self._handle: asyncio.TimerHandle | None = loop.call_at(due, self._fire)

    def reading(self) -> None:
        """A read begins to wait."""
        self.since = self._loop.time()
        if self._handle is None:
            self._arm(self.since)

    def mark_first_token(self) -> None:
        """From here on the idle timeout holds instead of the first-token one."""
        if self._first_due is None:
            return
        self._first_due = None
        # Idle may be due sooner than the timer that is set; the next read sets a new one.
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self.since is not None:
            self._arm(self.since)

    def stop(self) -> None:
        """Stop for good: nobody is told any more. Without a hold on who was, neither needs the garbage collector."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._on_expiry = _nobody

    def due(self, since: float) -> tuple[float, TimeoutPhase, float]:
        """When a read that has waited since `since` expires, in which phase, and that phase's seconds."""
        if self._first_due is not None:
            due: tuple[float, TimeoutPhase, float] = (self._first_due, "first_token", self._timeouts.first_token)
        else:
            due = (since + self._idle, "idle", self._idle)
        if self._total_due is not None and self._timeouts.total is not None and self._total_due < due[0]:
            return self._total_due, "total", self._timeouts.total
        return due

    def _arm(self, since: float) -> None:
        self._handle = self._loop.call_at(self.due(since)[0], self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self.since is None:
            return
        due, phase, seconds = self.due(self.since)
        if due - self._loop.time() > _CLOCK_STEP:
            self._arm(self.since)
        else:
            self._on_expiry(ProviderTimeout(phase, seconds))


def _nobody(error: ProviderTimeout) -> None:
    """Nothing waits any more."""
