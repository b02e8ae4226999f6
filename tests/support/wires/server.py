"""The server: the wire by its path, the scene by its words."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.wires import anthropic, chat, gemini
from tests.support.wires.scenes import Played, play

MODEL = "wire-test"
COUNT = "/count_tokens"


@dataclass
class WireServer:
    """What it was asked, newest last: (wire, headers, body). hangups: streams that the caller left."""

    port: int = 0
    seen: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    hangups: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    @property
    def origin(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def last(self) -> dict[str, Any]:
        """The newest body."""
        return self.seen[-1][2]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One call, on whichever wire."""
        name, wire = self._wire(request.path.removesuffix(COUNT))
        body = json.loads(await request.read())
        self.seen.append((name, {key.lower(): value for key, value in request.headers.items()}, body))
        asked = wire.read(body, request.path)
        played = play(asked)
        if played.silent:
            await self._say_nothing()
        if played.fail:
            headers = {"retry-after": "7"} if played.fail == 429 else {}
            return web.json_response(wire.refusal(played.fail), status=played.fail, headers=headers)
        if request.path.endswith((COUNT, ":countTokens")):
            return web.json_response(wire.count(sum(len(text.split()) for text in (asked.text, asked.system))))
        if not asked.stream:
            return web.json_response(wire.whole(played, MODEL))
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            await self._stream(response, wire, played)
        except (asyncio.CancelledError, ConnectionError):
            self.hangups.release()
            raise
        return response

    async def _say_nothing(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.hangups.release()
            raise

    @staticmethod
    async def _stream(response: web.StreamResponse, wire: Any, played: Played) -> None:
        frames = list(wire.frames(played, MODEL))
        if not played.endless:
            for frame in frames:
                await response.write(frame)
            return
        # What opens the text, and then the same piece of it for ever.
        piece = next(n for n, frame in enumerate(frames) if b"on " in frame)
        for frame in frames[:piece]:
            await response.write(frame)
        while True:
            await response.write(frames[piece])
            await asyncio.sleep(0.001)

    @staticmethod
    def _wire(path: str) -> tuple[str, Any]:
        if path.endswith("/chat/completions"):
            return "chat", chat
        return ("anthropic", anthropic) if path.endswith("/messages") else ("gemini", gemini)


@contextmanager
def wire_server() -> Iterator[WireServer]:
    """Run it on a free port, in a thread and event loop of its own."""
    server = WireServer()
    loop = asyncio.new_event_loop()
    started, done = threading.Event(), asyncio.Event()

    async def serve() -> None:
        app = web.Application(client_max_size=32 * 1024 * 1024)
        app.router.add_post("/{path:.*}", server.answer)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.port = runner.addresses[0][1]
        started.set()
        await done.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(10), "the wire server did not start"
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(10)
        loop.close()
