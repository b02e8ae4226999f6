"""The transport for tests of what stands above it: scripted answers, and a record of what was sent and closed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec

from server.core.errors import DragomanError, ProviderProtocolError
from server.core.ports import CallTimeouts
from server.providers.http import HttpRequest, HttpResponse


class FakeReply(msgspec.Struct, frozen=True, kw_only=True):
    """One scripted response.

    chunks: what a reader gets, in order. An error among them is raised at its place; an asyncio.Event makes the reader
    wait until it is set, which is how a test stalls a stream.
    """

    status: int = 200
    headers: Mapping[str, str] = {}
    chunks: Sequence[bytes | DragomanError | asyncio.Event] = ()


class FakeTransport:
    """A `Transport` that answers each `send` with the next reply; an error as a reply is raised by `send`.

    requests, timeouts: what was sent, in order. closed_early: how many responses were left before their body's end.
    first_tokens: how many responses were marked. closed: whether `aclose` was called.
    """

    def __init__(self, *replies: FakeReply | DragomanError) -> None:
        self._replies = deque(replies)
        self.requests: list[HttpRequest] = []
        self.timeouts: list[CallTimeouts] = []
        self.closed_early = 0
        self.first_tokens = 0
        self.closed = False

    @asynccontextmanager
    async def send(self, request: HttpRequest, timeouts: CallTimeouts) -> AsyncIterator[HttpResponse]:
        self.requests.append(request)
        self.timeouts.append(timeouts)
        if not self._replies:
            raise AssertionError(f"no reply is scripted for {request!r}")
        reply = self._replies.popleft()
        if isinstance(reply, DragomanError):
            raise reply
        response = _FakeResponse(reply)
        try:
            yield response
        finally:
            self.closed_early += not response.ended
            self.first_tokens += response.marked

    async def aclose(self) -> None:
        self.closed = True


class _FakeResponse:
    def __init__(self, reply: FakeReply) -> None:
        self.status = reply.status
        self.headers = {name.lower(): value for name, value in reply.headers.items()}
        self._left = deque(reply.chunks)
        self.ended = False
        self.marked = False

    async def read(self, limit: int) -> bytes:
        body = b""
        while piece := await self.receive():
            body += piece
        if len(body) > limit:
            raise ProviderProtocolError(
                f"The provider's answer is larger than {limit} bytes.", http_status=self.status, retryable=False
            )
        return body

    async def receive(self) -> bytes:
        while self._left:
            step = self._left.popleft()
            if isinstance(step, DragomanError):
                raise step
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif step:
                return step
        self.ended = True
        return b""

    def mark_first_token(self) -> None:
        self.marked = True

    async def discard_rest(self, seconds: float) -> None:  # noqa: ARG002  nothing here takes time
        self._left.clear()
        self.ended = True
