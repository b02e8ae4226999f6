"""The one timer: which silence expires in which phase, on a clock that the test moves."""

from collections.abc import Callable

import pytest

from server.core.ports import CallTimeouts
from server.providers.transport.watchdog import Watchdog


class Clock:
    """What the watchdog needs of an event loop, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Timer]] = []
        self.made = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> "Timer":
        timer = Timer(callback)
        self.timers.append((when, timer))
        self.made += 1
        return timer

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [entry for entry in self.timers if entry[0] <= end and not entry[1].cancelled]:
            first = min(due, key=lambda entry: entry[0])
            self.timers.remove(first)
            self.now = max(self.now, first[0])
            first[1].callback()
        self.now = end


class Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Watched:
    def __init__(self, **timeouts: float) -> None:
        self.clock = Clock()
        self.expired: list[tuple[str, float]] = []
        self.dog = Watchdog(
            self.clock,  # type: ignore[arg-type]  # as much of a loop as it uses
            CallTimeouts(**timeouts),
            self.clock.now,
            lambda error: self.expired.append((error.phase, self.clock.now - 100)),
        )

    def read(self, seconds: float) -> None:
        """A read that gets its bytes after so long."""
        self.dog.reading()
        self.clock.pass_time(seconds)
        self.dog.since = None


@pytest.mark.parametrize("keepalive_every", [0.5, 1.0, 3.0, 50.0])
def test_keepalives_do_not_stop_the_first_token_timeout(keepalive_every: float) -> None:
    """Bytes without content may come as often as they like: the first token is due when it is due."""
    watched = Watched(first_token=10, idle=2)
    while not watched.expired:
        watched.read(keepalive_every)
    assert watched.expired == [("first_token", 10)]


def test_a_silence_after_the_first_token_is_idle() -> None:
    """The first-token timeout is over, and the idle one counts from the read's own begin."""
    watched = Watched(first_token=10, idle=2)
    watched.read(9)
    watched.dog.mark_first_token()
    watched.read(1.5)
    watched.read(60)
    assert watched.expired == [("idle", 9 + 1.5 + 2)]


def test_the_first_token_may_be_marked_within_a_read() -> None:
    """The idle timeout then counts from that read's begin."""
    watched = Watched(first_token=100, idle=2)
    watched.dog.reading()
    watched.clock.pass_time(1)
    watched.dog.mark_first_token()
    watched.clock.pass_time(5)
    assert watched.expired == [("idle", 2)]


def test_any_bytes_end_a_silence() -> None:
    """A stream of keep-alives never expires once it has begun."""
    watched = Watched(first_token=10, idle=2)
    watched.dog.mark_first_token()
    for _ in range(1000):
        watched.read(1.99)
    assert watched.expired == []


def test_a_slow_caller_is_no_silence() -> None:
    """Only waiting for the provider counts, not the time that the caller takes between two reads."""
    watched = Watched(first_token=10, idle=2)
    watched.dog.mark_first_token()
    for _ in range(10):
        watched.read(1)
        watched.clock.pass_time(100)
    assert watched.expired == []


@pytest.mark.parametrize("marked", [True, False])
def test_the_callers_deadline_ends_any_phase(marked: bool) -> None:
    """Total counts from the send, whatever came since."""
    watched = Watched(first_token=10, idle=2, total=5)
    if marked:
        watched.dog.mark_first_token()
    while not watched.expired:
        watched.read(1.5)
    assert watched.expired == [("total", 5)]


def test_a_stopped_watchdog_is_silent() -> None:
    """Nothing fires once the response is closed."""
    watched = Watched(first_token=10, idle=2, total=5)
    watched.dog.reading()
    watched.dog.stop()
    watched.clock.pass_time(100)
    assert watched.expired == []


def test_timers_are_few() -> None:
    """A long stream sets a timer once per idle span, not once per read."""
    watched = Watched(first_token=10, idle=10)
    watched.dog.mark_first_token()
    for _ in range(10_000):
        watched.read(0.01)
    assert watched.clock.made <= 13
