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

from tests.support.wires import anthropic, bedrock, chat, embeddings, gemini, responses
from tests.support.wires.scenes import Asked, Refusal, play

MODEL = "wire-test"
COUNTS = ("/count_tokens", ":countTokens", "/count-tokens", "/input_tokens")
"""Ends of the paths by which providers count tokens."""


@dataclass
class WireServer:
    """What it was asked, newest last: (wire, headers, body), and of calls that are answered what they say. hangups:
    streams that the caller left."""

    port: int = 0
    seen: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
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
        """One call, on whichever wire. The first segment of the path names the server that is played, where servers of
        one wire differ."""
        path, server = request.path, request.path.split("/")[1]
        body = json.loads(await request.read())
        vectors = embeddings.answer(path, body)
        name, wire = ("embeddings", chat) if vectors is not None else self._wire(path)
        self.seen.append((name, {key.lower(): value for key, value in request.headers.items()}, body))
        if vectors is not None:
            known = chat.SERVERS.get(server, chat.Server()).embeds
            return web.json_response(vectors) if known else self._refuse(chat.refusal(404, server))
        asked = wire.read(body, path)
        self.asked.append(asked)
        played = play(asked)
        if played.silent:
            await self._say_nothing()
        if played.fail:
            return self._refuse(wire.refusal(played.fail, server))
        if path.endswith(COUNTS):
            return web.json_response(wire.count(sum(len(text.split()) for text in (asked.text, asked.system))))
        if not asked.stream:
            return web.json_response(wire.whole(played, MODEL, server))
        response = web.StreamResponse(headers={"content-type": getattr(wire, "CONTENT_TYPE", "text/event-stream")})
        await response.prepare(request)
        try:
            await self._stream(response, list(wire.frames(played, MODEL, server)), endless=played.endless)
        except (asyncio.CancelledError, ConnectionError):
            self.hangups.release()
            raise
        return response

    @staticmethod
    def _refuse(refusal: Refusal) -> web.Response:
        wait = {"retry-after": "7"} if refusal.status == 429 else {}
        return web.json_response(refusal.body, status=refusal.status, headers={**refusal.headers, **wait})

    async def _say_nothing(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.hangups.release()
            raise

    @staticmethod
    async def _stream(response: web.StreamResponse, frames: list[bytes], *, endless: bool) -> None:
        if not endless:
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
        if path.endswith(("/responses", "/responses/input_tokens")):
            return "responses", responses
        if path.endswith(("/messages", "/messages/count_tokens")):
            return "anthropic", anthropic
        return ("bedrock", bedrock) if "/model/" in path else ("gemini", gemini)


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
