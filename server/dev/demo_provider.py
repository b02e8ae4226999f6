"""The demo provider: a Chat Completions server for `make run` and for tests, with errors on demand.

In a test: `async with await start() as demo: ...`. As a process: `python -m server.dev.demo_provider --port 9000`,
which prints one line when it listens and ends on SIGTERM. It logs no request. What it answers: docs/demo-provider.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from server.dev.demo.app import DEFAULT_API_KEY, build_app
from server.dev.demo.journal import Exchange, Journal, wait_until
from server.dev.demo.scenarios import DEFAULT_MODEL, Pace

__all__ = [
    "DEFAULT_API_KEY",
    "DEFAULT_MODEL",
    "DemoServer",
    "Exchange",
    "Journal",
    "Pace",
    "build_app",
    "main",
    "start",
]

SHUTDOWN_SECONDS = 0.5


class DemoServer:
    """A running demo provider, and what it saw.

    host, port, api_key; base_url ends in `/v1`. journal has the exchanges, the callers that went away, and the script.
    """

    def __init__(self, runner: web.AppRunner, journal: Journal, host: str, port: int, api_key: str) -> None:
        self._runner = runner
        self.journal = journal
        self.host = host
        self.port = port
        self.api_key = api_key

    @property
    def base_url(self) -> str:
        """What a custom configuration takes as its endpoint."""
        return f"http://{self.host}:{self.port}/v1"

    @property
    def connections(self) -> int:
        """TCP connections open now, idle ones included."""
        server = self._runner.server
        return len(server.connections) if server is not None else 0

    @property
    def exchanges(self) -> list[Exchange]:
        """The last requests, oldest first."""
        return list(self.journal.exchanges)

    def script(self, *scenarios: str) -> None:
        """The next chat requests take these scenarios in turn, whatever model they name."""
        self.journal.script(*scenarios)

    async def wait_for_exchange(self, count: int = 1, within: float = 5.0) -> Exchange:
        """The newest exchange, once `count` requests have come in all."""
        await wait_until(lambda: self.journal.requests_total >= count, within, f"{count} requests")
        return self.journal.exchanges[-1]

    async def wait_for_hangup(self, count: int = 1, within: float = 5.0) -> float:
        """When the `count`th caller went away, in `time.monotonic()` seconds."""
        await wait_until(lambda: self.journal.hangups_total >= count, within, f"{count} callers to go away")
        return self.journal.hangups[count - 1 - self.journal.hangups_total]

    async def wait_for_connections(self, count: int, within: float = 5.0) -> None:
        """Return once exactly `count` connections are open."""
        await wait_until(lambda: self.connections == count, within, f"{count} open connections")

    async def stop(self) -> None:
        """Close every connection and the port; running answers are cancelled."""
        self.journal.stop()
        await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def start(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    api_keys: Collection[str] = (DEFAULT_API_KEY,),
    keep_requests: int = 100,
    pace: Pace | None = None,
) -> DemoServer:
    """Start a demo provider in the running event loop. port 0 picks a free one.

    keep_requests: how many exchanges stay in memory whole. Raises OSError when the port is taken.
    """
    journal = Journal(keep=keep_requests)
    app = build_app(api_keys=api_keys, journal=journal, pace=pace)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
    except BaseException:
        await runner.cleanup()
        raise
    bound: int = runner.addresses[0][1]
    return DemoServer(runner, journal, host, bound, next(iter(api_keys)))


def main(argv: Sequence[str] | None = None) -> int:
    """The process: serve until SIGTERM or SIGINT. Returns 1, with one line of reason, when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m server.dev.demo_provider", description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument(
        "--key-file", type=Path, help=f"a file with the bearer key to take (default: {DEFAULT_API_KEY})"
    )
    args = parser.parse_args(argv)
    # aiohttp's own log quotes what a caller sent when that is not HTTP.
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL + 1)
    try:
        key = args.key_file.read_text().strip() if args.key_file else DEFAULT_API_KEY
        return asyncio.run(_serve(args.host, args.port, key))
    except OSError as exc:
        where = f": {exc.filename}" if exc.filename else ""
        print(f"demo provider: {exc.strerror or exc}{where}", file=sys.stderr)
        return 1


async def _serve(host: str, port: int, key: str) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    async with await start(host, port, api_keys=(key,), keep_requests=0) as demo:
        print(f"demo provider listening on {demo.base_url}", flush=True)
        await stop.wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
