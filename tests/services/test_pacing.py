"""Pieces of streams wait for each other while the event loop lags: none is lost or overtaken, the first never waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from server.core.catalog import Catalog
from server.core.endpoint import EndpointPolicy
from server.core.events import BlockDelta, BlockEnd, BlockStart, Completed, Started, StreamEvent, Usage
from server.core.ports import CallTimeouts, EventStream
from server.core.provider_config import PROVIDERS
from server.services.gateway import Gateway
from server.services.models import ModelService
from server.services.pacing import CALM_PROBES, LATE_SECONDS, PROBE_SECONDS, LoopLag, Pace
from server.services.targets import Targets
from tests.services.fakes import Ledger, MarkingVault, OneProvider, ScriptedProvider, provider_config, snapshot_of
from tests.services.test_gateway import CALLER, REQUEST

BATCHES: Sequence[Sequence[StreamEvent]] = (
    [Started("custom", "demo-1"), BlockStart(0, "reasoning")],
    [BlockDelta(0, "a")],
    [BlockDelta(0, "b")],
    [BlockDelta(0, "c"), BlockEnd(0), BlockStart(1, "tool_call", "c", "f")],
    [BlockDelta(1, "{}"), BlockEnd(1)],
    [Completed("stop", "stop", Usage(3, 2, 5))],
)
WAITING = {2, 3, 4}
"""Which of these wait: not what comes up to the first delta, and not the end."""


class Timers:
    """Stands for the loop's timers: they fire when a test says so."""

    def __init__(self) -> None:
        self.set: list[tuple[float, Callable[[], None]]] = []

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self.set.append((seconds, call))

    def fire(self) -> None:
        ((_, call),) = self.set
        self.set.clear()
        call()


def stream(pace: Pace | None, *batches: Sequence[StreamEvent], provider: ScriptedProvider | None = None) -> EventStream:
    models = ModelService(snapshot_of(provider_config()), Catalog((), providers=dict.fromkeys(PROVIDERS, ())))
    source = OneProvider(provider or ScriptedProvider(*batches))
    gateway = Gateway(models, source, Targets(MarkingVault(), EndpointPolicy()), Ledger(), CallTimeouts(), pace)
    return gateway.chat(CALLER, "ws_1", REQUEST, stream=True, timeout=None)


async def settle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_while_the_loop_lags_each_piece_but_the_first_and_the_end_waits_for_a_tick() -> None:
    timers = Timers()
    batches = stream(Pace(0.005, lambda: True, later=timers.later), *BATCHES)
    for number, expected in enumerate(BATCHES):
        following = asyncio.ensure_future(anext(batches))
        await settle()
        assert following.done() is (number not in WAITING)
        if number in WAITING:
            assert [seconds for seconds, _ in timers.set] == [0.005]
            timers.fire()
        assert await following == expected
    assert [batch async for batch in batches] == []
    assert timers.set == []


@pytest.mark.parametrize(
    "pace", [None, Pace(0.0, lambda: True), Pace(0.005, lambda: False)], ids=["none", "off", "calm"]
)
async def test_otherwise_nothing_waits(pace: Pace | None) -> None:
    assert [batch async for batch in stream(pace, *BATCHES)] == list(BATCHES)


async def test_streams_that_wait_leave_with_one_timer() -> None:
    timers = Timers()
    pace = Pace(0.005, lambda: True, later=timers.later)
    both = [stream(pace, *BATCHES) for _ in range(2)]
    for batches in both:
        await anext(batches)
        await anext(batches)
    following = [asyncio.ensure_future(anext(batches)) for batches in both]
    await settle()
    assert not any(one.done() for one in following)
    timers.fire()
    assert await asyncio.gather(*following) == [BATCHES[2], BATCHES[2]]
    for batches in both:
        await batches.aclose()


async def test_a_stream_that_is_cancelled_while_it_waits_is_closed_and_the_others_go_on() -> None:
    timers = Timers()
    pace = Pace(0.005, lambda: True, later=timers.later)
    gone, kept = ScriptedProvider(*BATCHES), ScriptedProvider(*BATCHES)
    streams = [stream(pace, provider=one) for one in (gone, kept)]
    for batches in streams:
        await anext(batches)
        await anext(batches)
    first, second = (asyncio.ensure_future(anext(batches)) for batches in streams)
    await settle()
    first.cancel()
    await settle()
    assert first.cancelled()
    assert (gone.closed, kept.closed) == (1, 0)
    timers.fire()
    assert await second == BATCHES[2]
    await streams[1].aclose()


async def test_with_the_loops_own_timers_everything_arrives_in_order() -> None:
    pace = Pace(0.001, lambda: True)
    streams = [stream(pace, *BATCHES) for _ in range(20)]

    async def read(batches: EventStream) -> list[Sequence[StreamEvent]]:
        return [batch async for batch in batches]

    assert await asyncio.gather(*map(read, streams)) == [list(BATCHES)] * 20


# --- when the loop lags -----------------------------------------------------------------------------------------------


class Clock(Timers):
    """And a clock, by which timers come as late as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0

    def pass_by(self, late: float) -> None:
        """The next timer fires, so many seconds late."""
        ((seconds, _),) = self.set
        self.now += seconds + late
        self.fire()


def test_the_loop_lags_from_the_first_late_timer_until_they_came_in_time_for_a_second() -> None:
    clock = Clock()
    lag = LoopLag(now=lambda: clock.now, later=clock.later)
    assert not lag.lagging()
    clock.pass_by(LATE_SECONDS / 2)
    assert not lag.lagging()
    clock.pass_by(LATE_SECONDS * 2)
    for _ in range(CALM_PROBES):
        assert lag.lagging()
        clock.pass_by(0.0)
    assert not lag.lagging()


def test_nothing_is_looked_at_while_nobody_asks_and_what_was_seen_before_is_forgotten() -> None:
    clock = Clock()
    lag = LoopLag(now=lambda: clock.now, later=clock.later)
    assert clock.set == []
    lag.lagging()
    clock.pass_by(LATE_SECONDS * 2)
    clock.pass_by(0.0)
    assert clock.set == []
    assert not lag.lagging()
    assert len(clock.set) == 1


async def test_the_running_loops_own_lag_is_seen() -> None:
    lag = LoopLag()
    now = asyncio.get_running_loop().time
    while not lag.lagging():
        busy = now() + 2 * PROBE_SECONDS
        while now() < busy:
            pass
        await asyncio.sleep(0)
