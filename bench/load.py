"""The load: callers that repeat one call until the time is over, and what they saw.

`python -m bench.load`, a Plan as JSON on stdin, a Seen as JSON on stdout.

Bare protocols on uvloop, so that the load takes little of the machine: HTTP/1.1 with a connection for each caller, or
gRPC with all callers' calls on one connection. A call counts where its answer is right (bench/answers.py).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec
import uvloop

from bench.answers import Checker, Form, WrongAnswer
from bench.h2 import Connection as GrpcConnection
from bench.mock import MARK

CALL_SECONDS: Final = 60.0
"""After which a call counts as failed."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do. form: of the answers. body: a file. tokens: of a complete stream, 0 for a whole answer. ramp: seconds
    over which the first calls are spread. seconds: after which no call begins; each caller makes one in any case."""

    form: Form
    port: int
    path: str
    headers: dict[str, str]
    body: str
    callers: int
    seconds: float
    ramp: float = 0.0
    tokens: int = 0


class Seen(msgspec.Struct, kw_only=True):
    """n: calls with the right answer. errors: all others, by what was wrong. Times in milliseconds; first: to the first
    token. cpu: seconds of the load itself."""

    n: int
    seconds: float
    tokens: int
    first_p50: float | None
    first_p99: float | None
    p50: float | None
    p99: float | None
    errors: dict[str, int]
    cpu: float


class Caller(Protocol):
    """Makes one call at a time."""

    async def call(self, port: int) -> tuple[float, bytes]:
        """When its first token came (the whole answer's end, without tokens), and the body. Raises CallError."""
        ...

    def close(self) -> None: ...


class CallError(Exception):
    """Why a call does not count, in a few words."""


class HttpCaller(asyncio.Protocol):
    """One connection of HTTP/1.1. request: what each call sends; it may be changed between calls."""

    def __init__(self, request: bytes, streams: bool) -> None:
        self.request = request
        self._streams = streams
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None

    async def call(self, port: int) -> tuple[float, bytes]:
        """See Caller."""
        loop = asyncio.get_running_loop()
        if self._transport is None or self._transport.is_closing():
            transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", port)
            self._transport = transport
        self._pieces: list[bytes] = []
        self._head = b""
        self._got = 0
        self._first = 0.0
        self._done = loop.create_future()
        self._transport.write(self.request)
        try:
            await self._done
        except BaseException:
            self._transport.abort()
            raise
        if not self._head.startswith(b"http/1.1 200"):
            raise CallError(self._head[9:12].decode())
        body = b"".join(self._pieces)
        return self._first or time.perf_counter(), dechunk(body) if self._chunked else body

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._done is None or self._done.done():
            return
        if not self._head:
            data = b"".join(self._pieces) + data
            self._pieces.clear()
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._pieces.append(data)
                return
            self._head, data = data[:end].lower(), data[end + 4 :]
            self._chunked = b"transfer-encoding: chunked" in self._head
            _, _, length = self._head.partition(b"content-length:")
            self._length = int(length.split(b"\r")[0]) if length else -1
        self._pieces.append(data)
        self._got += len(data)
        if not self._first and self._streams and MARK in data:
            self._first = time.perf_counter()
        if self._chunked:
            tail = data if len(data) >= 7 else b"".join(self._pieces[-8:])
            if tail.endswith(b"\r\n0\r\n\r\n") or tail == b"0\r\n\r\n":
                self._done.set_result(None)
        elif 0 <= self._length <= self._got:
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        if self._done is not None and not self._done.done():
            self._done.set_exception(CallError("closed early"))


def dechunk(data: bytes) -> bytes:
    """A chunked body's content."""
    pieces: list[bytes] = []
    at = 0
    while True:
        line = data.index(b"\r\n", at)
        size = int(data[at:line].partition(b";")[0], 16)
        if not size:
            return b"".join(pieces)
        pieces.append(data[line + 2 : line + 2 + size])
        at = line + 4 + size


class GrpcCaller:
    """A caller on a connection that it shares."""

    def __init__(self, connection: GrpcConnection, request: bytes, streams: bool) -> None:
        self._connection = connection
        self._request = request
        self._mark = MARK if streams else b""

    async def call(self, port: int) -> tuple[float, bytes]:  # noqa: ARG002  the connection knows it
        """See Caller."""
        try:
            stream = await self._connection.call(self._request, self._mark)
        except ConnectionError as error:
            raise CallError(str(error)) from error
        return stream.first or time.perf_counter(), bytes(stream.body)

    def close(self) -> None:
        """End the connection, which all callers share."""
        self._connection.close()


class Run:
    """All callers of a plan, and what they measured."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._body = Path(plan.body).read_bytes()
        self._first: list[float] = []
        self._total: list[float] = []
        self._errors: Counter[str] = Counter()
        self._tokens = 0
        self._checker = Checker(plan.form, plan.tokens)

    async def run(self) -> Seen:
        """Do it."""
        plan = self._plan
        callers: Sequence[Caller]
        if plan.form == "grpc":
            connection = await GrpcConnection.open(plan.port, plan.path, plan.headers)
            callers = [GrpcCaller(connection, self._body, plan.tokens > 0) for _ in range(plan.callers)]
        else:
            request = http_request(plan.port, plan.path, plan.headers, self._body)
            callers = [HttpCaller(request, plan.tokens > 0) for _ in range(plan.callers)]
        began = time.perf_counter()
        await asyncio.gather(*(self._repeat(caller, index, began) for index, caller in enumerate(callers)))
        seconds = time.perf_counter() - began
        for caller in callers:
            caller.close()
        return Seen(
            n=len(self._total),
            seconds=round(seconds, 3),
            tokens=self._tokens,
            first_p50=percentile(self._first, 0.5),
            first_p99=percentile(self._first, 0.99),
            p50=percentile(self._total, 0.5),
            p99=percentile(self._total, 0.99),
            errors=dict(self._errors),
            cpu=round(time.process_time(), 2),
        )

    async def _repeat(self, caller: Caller, index: int, began: float) -> None:
        plan = self._plan
        await asyncio.sleep(plan.ramp * index / plan.callers)
        while True:
            try:
                await self._once(caller)
            except (CallError, WrongAnswer, OSError, TimeoutError) as error:
                said = str(error) if isinstance(error, (CallError, WrongAnswer)) else type(error).__name__
                self._errors[said] += 1
                await asyncio.sleep(0.05)
            if time.perf_counter() - began > plan.seconds:
                return

    async def _once(self, caller: Caller) -> None:
        started = time.perf_counter()
        async with asyncio.timeout(CALL_SECONDS):
            first, body = await caller.call(self._plan.port)
        ended = time.perf_counter()
        self._checker.check(body)
        if self._plan.tokens:
            self._tokens += self._plan.tokens
            self._first.append((first - started) * 1e3)
        self._total.append((ended - started) * 1e3)


def http_request(port: int, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A call as it is sent."""
    fields = {"host": f"127.0.0.1:{port}", "content-type": "application/json", **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


def percentile(values: list[float], share: float) -> float | None:
    """The value below which that share lies; None of nothing."""
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 3) if values else None


def main() -> None:
    """Run the plan on stdin."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    seen = uvloop.run(Run(plan).run())
    sys.stdout.buffer.write(msgspec.json.encode(seen))


if __name__ == "__main__":
    main()
