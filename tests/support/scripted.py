"""A provider that says exactly what a test wrote: any wire, any path, byte by byte.

The demo provider speaks Chat Completions by itself; this one speaks nothing until told. A test gives replies in turn
and reads back the requests.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field

import pytest_asyncio
from aiohttp import web

from server.dev.demo.journal import Exchange, Journal, wait_until
from server.dev.demo.steps import CloseConnection, Pause, ResetConnection, Silence, Step, play

__all__ = ["CloseConnection", "Pause", "Reply", "ResetConnection", "ScriptedProvider", "Silence", "Step"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP response: each bytes step in a write of its own, chunked."""

    steps: Iterable[Step] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})

    @staticmethod
    def sse(*steps: Step) -> Reply:
        """A 200 with an event stream."""
        return Reply(steps, headers={"content-type": "text/event-stream"})


class ScriptedProvider:
    """A real HTTP server on a free loopback port that answers from its script; without a line left, with 599."""

    def __init__(self) -> None:
        self.journal = Journal(keep=100)
        self.port = 0
        self._replies: deque[Reply] = deque()
        self._runner: web.AppRunner | None = None

    @property
    def origin(self) -> str:
        """`http://127.0.0.1:PORT`, with no path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def exchanges(self) -> list[Exchange]:
        """The requests so far, oldest first."""
        return list(self.journal.exchanges)

    def reply(self, *replies: Reply) -> None:
        """Append to the script."""
        self._replies.extend(replies)

    async def wait_for_hangup(self, count: int = 1, within: float = 5.0) -> float:
        """When the `count`th caller went away, in `time.monotonic()` seconds."""
        await wait_until(lambda: self.journal.hangups_total >= count, within, f"{count} callers to go away")
        return self.journal.hangups[count - 1 - self.journal.hangups_total]

    async def start(self, port: int = 0) -> None:
        """Listen. port: 0 for any that is free."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close every connection and the port."""
        self.journal.stop()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        exchange = Exchange(
            id=str(self.journal.requests_total + 1),
            method=request.method,
            path=request.path_qs,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=b"",
            task=asyncio.current_task(),
        )
        self.journal.begin(exchange)
        try:
            exchange.body = await request.read()
            reply = self._replies.popleft() if self._replies else Reply([b"the script has no reply left"], 599)
            response = web.StreamResponse(status=reply.status, headers=reply.headers)
            await play(request, response, reply.steps, lambda: self.journal.end(exchange, "provider_cut"))
        except (asyncio.CancelledError, ConnectionError):
            self.journal.end(exchange, "client_went_away")
            raise
        self.journal.end(exchange, "answered")
        return response


@pytest_asyncio.fixture
async def scripted_provider() -> AsyncIterator[ScriptedProvider]:
    """A ScriptedProvider that listens."""
    provider = ScriptedProvider()
    await provider.start()
    yield provider
    await provider.stop()
