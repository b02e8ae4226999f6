"""Limits against abuse: failed authentications by address; calls in flight, and their bytes, by key and by workspace.

Both count in this process alone, in O(1): behind several servers a caller has so many times as much.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from server.core.access import Principal
from server.core.errors import LimitExceeded

MOST_ADDRESSES: Final = 10_000
"""How many addresses are remembered, some 2 MB of them; of more, those are forgotten that failed the longest ago."""

_RETRY_IN_FLIGHT_SECONDS: Final = 1.0
_NO_LIMIT: Final = math.inf


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


class Slot(msgspec.Struct, frozen=True):
    """One call in flight, as what it is counted. size: bytes of its message."""

    key_id: str
    workspace: str
    size: int


class Most(NamedTuple):
    """What may be in flight at once; 0 for no limit. bytes: of the messages of these calls together."""

    calls: int = 0
    bytes: int = 0


class CallsInFlight:
    """How many calls run at once, and how large their messages are. An organisation's own keys, which belong to no
    workspace, are counted together as their organisation."""

    def __init__(self, key: Most, workspace: Most) -> None:
        self._key_calls, self._key_bytes = (most or _NO_LIMIT for most in key)
        self._workspace_calls, self._workspace_bytes = (most or _NO_LIMIT for most in workspace)
        # Calls and bytes, by name; without an entry where there are none.
        self._keys: dict[str, list[int]] = {}
        self._workspaces: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return sum(calls for calls, _ in self._keys.values())

    def enter(self, caller: Principal, size: int = 0) -> Slot:
        """Count a call, until `leave` with what this returns. Raises LimitExceeded; then nothing is counted."""
        key_id, workspace = caller.key_id, caller.workspace_id or caller.org_id
        of_key, of_workspace = self._keys.get(key_id) or [0, 0], self._workspaces.get(workspace) or [0, 0]
        if of_key[0] >= self._key_calls or of_key[1] + size > self._key_bytes:
            raise _too_many("key", of_key, size, self._key_calls, self._key_bytes)
        if of_workspace[0] >= self._workspace_calls or of_workspace[1] + size > self._workspace_bytes:
            raise _too_many("workspace", of_workspace, size, self._workspace_calls, self._workspace_bytes)
        of_key[0] += 1
        of_key[1] += size
        of_workspace[0] += 1
        of_workspace[1] += size
        self._keys[key_id], self._workspaces[workspace] = of_key, of_workspace
        return Slot(key_id, workspace, size)

    def leave(self, slot: Slot) -> None:
        """The call has ended, however."""
        for counts, name in ((self._keys, slot.key_id), (self._workspaces, slot.workspace)):
            held = counts[name]
            held[0] -= 1
            held[1] -= slot.size
            if not held[0]:
                del counts[name]


def _too_many(whose: str, held: Sequence[int], size: int, most_calls: float, most_bytes: float) -> LimitExceeded:
    if held[0] >= most_calls:
        return _refusal(
            f"The {whose} has {held[0]} calls in flight, which is its most.", f"calls_in_flight_per_{whose}", most_calls
        )
    limit = f"bytes_in_flight_per_{whose}"
    if size <= most_bytes:
        return _refusal(
            f"The {whose}'s calls in flight have {held[1]} bytes of at most {most_bytes}.", limit, most_bytes
        )
    return LimitExceeded(
        f"The {whose} may send {most_bytes} bytes at once; these are {size}.",
        action="Send less, or ask for a higher limit.",
        retryable=False,
        metadata={"limit": limit, "most": str(most_bytes)},
    )


def _refusal(message: str, limit: str, most: float) -> LimitExceeded:
    return LimitExceeded(
        message,
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
