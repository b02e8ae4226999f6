"""What one address may fail, and what one key and one workspace may have in flight, counted in bounded memory."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.access import Principal, Role
from server.core.errors import LimitExceeded
from server.services.limits import CallsInFlight, FailedAttempts, Most, Slot


class Clock:
    """Seconds, set by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def failures(most: int = 3, window: float = 60.0, most_addresses: int = 100) -> tuple[FailedAttempts, Clock]:
    clock = Clock()
    return FailedAttempts(most, window, most_addresses=most_addresses, now=clock), clock


def fail(attempts: FailedAttempts, address: str, times: int = 1) -> None:
    for _ in range(times):
        attempts.note(address)


# --- failed authentications ------------------------------------------------------------------------------------------


def test_an_address_may_fail_so_often_and_then_waits_for_its_share_of_the_window() -> None:
    attempts, clock = failures(most=3, window=60)
    fail(attempts, "192.0.2.1", 2)
    assert attempts.wait("192.0.2.1") == 0.0
    fail(attempts, "192.0.2.1")
    assert attempts.wait("192.0.2.1") == pytest.approx(20.0)
    clock.now += 19.9
    assert attempts.wait("192.0.2.1") == pytest.approx(0.1)
    clock.now += 0.2
    assert attempts.wait("192.0.2.1") == 0.0


def test_an_address_that_waits_is_not_counted_on_so_its_wait_ends_whatever_it_sends() -> None:
    attempts, clock = failures(most=3, window=60)
    fail(attempts, "192.0.2.1", 1000)
    assert attempts.wait("192.0.2.1") == pytest.approx(20.0)
    clock.now += 60.1
    fail(attempts, "192.0.2.1", 2)
    assert attempts.wait("192.0.2.1") == 0.0


def test_after_a_whole_window_of_quiet_all_attempts_are_there_again() -> None:
    attempts, clock = failures(most=3, window=60)
    fail(attempts, "192.0.2.1", 3)
    clock.now += 60.1
    fail(attempts, "192.0.2.1", 2)
    assert attempts.wait("192.0.2.1") == 0.0
    fail(attempts, "192.0.2.1")
    assert attempts.wait("192.0.2.1") > 0.0


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:DB8:1:2::1", "2001:db8:1:2::2", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("no:address", "no:address", True),
        ("", "", True),
    ],
)
def test_callers_are_counted_by_ipv4_address_and_by_ipv6_network(first: str, second: str, same: bool) -> None:
    attempts, _ = failures(most=1)
    fail(attempts, first)
    assert (attempts.wait(second) > 0.0) is same


def test_zero_is_no_limit() -> None:
    attempts, _ = failures(most=0)
    fail(attempts, "192.0.2.1", 1000)
    assert attempts.wait("192.0.2.1") == 0.0
    assert len(attempts) == 0


def test_memory_is_bounded_and_those_that_failed_last_are_remembered() -> None:
    attempts, _ = failures(most=1, most_addresses=100)
    for number in range(10_000):
        fail(attempts, f"10.0.{number // 256}.{number % 256}")
    assert len(attempts) == 100
    assert attempts.wait("10.0.39.15") > 0.0
    assert attempts.wait("10.0.0.0") == 0.0


def test_what_is_over_is_forgotten_as_others_fail() -> None:
    attempts, clock = failures(most=1, window=10, most_addresses=1000)
    for number in range(100):
        fail(attempts, f"10.0.0.{number}")
    clock.now += 11
    for number in range(100):
        fail(attempts, f"10.0.1.{number}")
    assert len(attempts) == 100


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.floats(0, 30, allow_nan=False)),
        max_size=60,
    )
)
def test_no_window_ever_holds_more_than_twice_the_limit(steps: list[tuple[str, float]]) -> None:
    """A leaking bucket of n allows n at once and n more as it leaks; never more, whatever the pattern."""
    attempts, clock = failures(most=4, window=20)
    let_through: dict[str, deque[float]] = {"a": deque(), "b": deque()}
    for address, pause in steps:
        clock.now += pause
        if attempts.wait(address) > 0.0:
            continue
        attempts.note(address)
        times = let_through[address]
        times.append(clock.now)
        while times[0] <= clock.now - 20:
            times.popleft()
        assert len(times) <= 8


# --- calls in flight -------------------------------------------------------------------------------------------------


def caller(key: str, workspace: str | None = "ws_1", org: str = "org_1") -> Principal:
    return Principal(key, org, workspace, Role.MEMBER, key)


def refused(calls: CallsInFlight, principal: Principal, size: int = 0) -> LimitExceeded:
    with pytest.raises(LimitExceeded) as caught:
        calls.enter(principal, size)
    return caught.value


def test_a_key_has_its_most_and_a_call_that_ends_makes_room() -> None:
    calls = CallsInFlight(Most(2), Most(0))
    slots = [calls.enter(caller("k1")), calls.enter(caller("k1"))]
    error = refused(calls, caller("k1"))
    assert error.metadata == {"limit": "calls_in_flight_per_key", "most": "2"}
    assert (error.retryable, error.retry_after) == (True, 1.0)
    calls.enter(caller("k2"))
    calls.leave(slots[0])
    calls.enter(caller("k1"))


def test_the_keys_of_a_workspace_share_its_most() -> None:
    calls = CallsInFlight(Most(0), Most(2))
    calls.enter(caller("k1"))
    slot = calls.enter(caller("k2"))
    assert refused(calls, caller("k3")).metadata["limit"] == "calls_in_flight_per_workspace"
    calls.enter(caller("k4", "ws_2"))
    calls.leave(slot)
    calls.enter(caller("k3"))


def test_the_messages_of_calls_in_flight_are_bounded_together() -> None:
    calls = CallsInFlight(Most(bytes=100), Most(bytes=150))
    slot = calls.enter(caller("k1"), 60)
    calls.enter(caller("k1"), 40)
    error = refused(calls, caller("k1"), 1)
    assert (error.metadata, error.retryable) == ({"limit": "bytes_in_flight_per_key", "most": "100"}, True)
    assert refused(calls, caller("k2"), 51).metadata["limit"] == "bytes_in_flight_per_workspace"
    calls.enter(caller("k2"), 50)
    calls.leave(slot)
    calls.enter(caller("k1"), 60)


def test_a_message_that_is_too_large_by_itself_is_not_worth_another_try() -> None:
    calls = CallsInFlight(Most(bytes=100), Most())
    error = refused(calls, caller("k1"), 101)
    assert (error.metadata["limit"], error.retryable, error.retry_after) == ("bytes_in_flight_per_key", False, None)
    calls.enter(caller("k1"), 100)


def test_organisation_keys_are_counted_together() -> None:
    calls = CallsInFlight(Most(0), Most(1))
    calls.enter(caller("k1", None))
    refused(calls, caller("k2", None))
    calls.enter(caller("k3", None, "org_2"))


def test_a_refused_call_takes_no_room() -> None:
    calls = CallsInFlight(Most(1), Most(2))
    calls.enter(caller("k1"))
    for _ in range(5):
        refused(calls, caller("k1"))
    calls.enter(caller("k2"))
    assert len(calls) == 2


def test_counts_are_exact_through_any_order_of_ends_and_nothing_is_left_behind() -> None:
    calls, dice = CallsInFlight(Most(3, 50), Most(5, 90)), random.Random(7)
    running: list[Slot] = []
    for _ in range(5000):
        principal, size = caller(f"k{dice.randrange(4)}", f"ws_{dice.randrange(2)}"), dice.randrange(30)
        of_key = [slot.size for slot in running if slot.key_id == principal.key_id]
        of_workspace = [slot.size for slot in running if slot.workspace == principal.workspace_id]
        room = len(of_key) < 3 and sum(of_key) + size <= 50 and len(of_workspace) < 5 and sum(of_workspace) + size <= 90
        try:
            running.append(calls.enter(principal, size))
        except LimitExceeded:
            assert not room
        else:
            assert room
        if running and dice.random() < 0.5:
            calls.leave(running.pop(dice.randrange(len(running))))
        assert len(calls) == len(running)
    for slot in running:
        calls.leave(slot)
    assert (calls._keys, calls._workspaces) == ({}, {})
