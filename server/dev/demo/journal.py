"""What the demo saw, for tests: requests, how each ended, and when callers went away."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

Outcome = Literal["open", "answered", "client_went_away", "provider_cut", "stopped"]

POLL_SECONDS = 0.005


@dataclass(slots=True, eq=False)
class Exchange:
    """One request. Times are `time.monotonic()` seconds. Body and headers are not in the repr: they hold secrets.

    outcome: open until it ends; answered: the whole response was handed to the socket; client_went_away: the caller
    closed first; provider_cut: the scenario broke the connection; stopped: the server was stopped meanwhile.
    """

    id: str
    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    task: asyncio.Task[Any] | None = field(repr=False, default=None)
    scenario: str = ""
    outcome: Outcome = "open"
    started_at: float = field(default_factory=time.monotonic)
    ended_at: float | None = None

    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


class Journal:
    """Keeps the last `keep` exchanges whole and counts all of them. keep 0: no prompt outlives its request."""

    def __init__(self, keep: int) -> None:
        self.exchanges: deque[Exchange] = deque(maxlen=keep)
        self.open: set[Exchange] = set()
        self.requests_total = 0
        self.hangups: deque[float] = deque(maxlen=1000)
        self.hangups_total = 0
        self.client_went_away = asyncio.Event()
        self._script: deque[str] = deque()
        self._stopping = False

    def begin(self, exchange: Exchange) -> None:
        """Take down a request that just came in."""
        self.requests_total += 1
        self.exchanges.append(exchange)
        self.open.add(exchange)

    def end(self, exchange: Exchange, outcome: Outcome) -> None:
        """Take down how it ended; only the first word counts."""
        if exchange.outcome != "open":
            return
        if self._stopping and outcome == "client_went_away":
            outcome = "stopped"
        exchange.outcome = outcome
        exchange.ended_at = time.monotonic()
        self.open.discard(exchange)
        if outcome == "client_went_away":
            self.hangups_total += 1
            self.hangups.append(exchange.ended_at)
            self.client_went_away.set()

    def script(self, *scenarios: str) -> None:
        """The next chat requests take these scenarios in turn, before any other rule; "chat" answers normally."""
        self._script.extend(scenarios)

    def next_scripted(self) -> str | None:
        """The scenario the script has for this request, if any."""
        return self._script.popleft() if self._script else None

    def stop(self) -> None:
        """Cancel what is still running."""
        self._stopping = True
        for exchange in tuple(self.open):
            if exchange.task is not None:
                exchange.task.cancel()


async def wait_until(is_so: Callable[[], bool], within: float, what: str) -> None:
    """Return as soon as `is_so`; raise TimeoutError that names `what` when it is not so within that many seconds."""
    try:
        async with asyncio.timeout(within):
            while not is_so():  # noqa: ASYNC110 -- what is waited for (open connections) sends no event
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError as exc:
        raise TimeoutError(f"waited {within} s in vain: {what}") from exc
