"""Limits against abuse: failed authentications by address, and calls in flight by key and by workspace.

Both count in this process alone, in O(1): behind several servers a caller has so many times as much.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from server.core.access import Principal
from server.core.errors import LimitExceeded

MOST_ADDRESSES: Final = 10_000
"""How many addresses are remembered, some 2 MB of them; of more, those are forgotten that failed the longest ago."""

_RETRY_IN_FLIGHT_SECONDS: Final = 1.0


class FailedAttempts:
    """A leaking bucket for each address: it holds `most` failures and loses `most` of them in `window` seconds.

    An IPv6 caller is counted by its /64, which is what one subscriber has at least. most: 0 for no limit. now: a clock
    for durations, in seconds.
    """

    def __init__(
        self,
        most: int,
        window: float,
        *,
        most_addresses: int = MOST_ADDRESSES,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._each = window / most if most else 0.0
        self._most_addresses = most_addresses
        self._now = now
        # When each bucket will be empty, by address; the one that failed last is the last.
        self._empty_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._empty_at)

    def wait(self, address: str) -> float:
        """Seconds until the address may fail again, 0.0 where it may now."""
        if not self._empty_at:
            return 0.0
        empty_at = self._empty_at.get(_counted(address))
        if empty_at is None:
            return 0.0
        # The bucket takes one more as soon as what is in it leaks out within `most - 1` intervals.
        return max(0.0, empty_at - self._now() - self._each * (self._most - 1))

    def note(self, address: str) -> None:
        """The address failed. Of one that has to wait nothing more is counted, so that it need not wait for ever."""
        if not self._most or self.wait(address) > 0.0:
            return
        name, now = _counted(address), self._now()
        self._empty_at[name] = max(self._empty_at.get(name, now), now) + self._each
        self._empty_at.move_to_end(name)
        # Two looks at the oldest for each one that is added: what is over disappears without ever walking through all.
        for _ in range(2):
            oldest, empty_at = next(iter(self._empty_at.items()))
            if empty_at > now and len(self._empty_at) <= self._most_addresses:
                return
            del self._empty_at[oldest]


class Slot(NamedTuple):
    """One call in flight, as what it is counted."""

    key_id: str
    workspace: str


class CallsInFlight:
    """How many calls run at once. per_key, per_workspace: the most, 0 for no limit. An organisation's own keys, which
    belong to no workspace, are counted together as their organisation."""

    def __init__(self, per_key: int, per_workspace: int) -> None:
        self._per_key = per_key
        self._per_workspace = per_workspace
        self._keys: dict[str, int] = {}
        self._workspaces: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(self._keys.values())

    def enter(self, caller: Principal) -> Slot:
        """Count a call, until `leave` with what this returns. Raises LimitExceeded; then nothing is counted."""
        slot = Slot(caller.key_id, caller.workspace_id or caller.org_id)
        key, workspace = self._keys.get(slot.key_id, 0), self._workspaces.get(slot.workspace, 0)
        if 0 < self._per_key <= key:
            raise _too_many("key", "calls_in_flight_per_key", self._per_key)
        if 0 < self._per_workspace <= workspace:
            raise _too_many("workspace", "calls_in_flight_per_workspace", self._per_workspace)
        self._keys[slot.key_id] = key + 1
        self._workspaces[slot.workspace] = workspace + 1
        return slot

    def leave(self, slot: Slot) -> None:
        """The call has ended, however."""
        _less(self._keys, slot.key_id)
        _less(self._workspaces, slot.workspace)


def _less(counts: dict[str, int], name: str) -> None:
    left = counts[name] - 1
    if left:
        counts[name] = left
    else:
        del counts[name]


def _too_many(whose: str, limit: str, most: int) -> LimitExceeded:
    return LimitExceeded(
        f"The {whose} has {most} calls in flight, which is its most.",
        action="Wait for some of them to end and try again, or ask for a higher limit.",
        retry_after=_RETRY_IN_FLIGHT_SECONDS,
        metadata={"limit": limit, "most": str(most)},
    )


def _counted(address: str) -> str:
    """What an address is counted as."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(parsed) >> 64 << 64))
