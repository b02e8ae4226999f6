"""Does the gateway grow? `python -m bench.soak`: CALLS calls, and what server and Envoy hold along the way.

Whole answers and streams by REST, the OpenAI dialect and gRPC, with keys of several workspaces; between them calls
that are hung up on, calls that the provider fails or cuts short, calls that are refused. Every call must end as its
kind says. The calls come in legs; after each the gateway gets a moment of quiet, in which memory, files and tasks are
comparable. The exit status says whether all held: every call, every bound.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from bench.answers import Checker, WrongAnswer
from bench.cases import Case
from bench.figures import Moment, Soak, keep
from bench.gateway import Furnished, furnish
from bench.h2 import Connection
from bench.load import CallError, GrpcCaller, HttpCaller, http_request
from bench.machine import cpu_model, fresh_folder, our_python
from bench.measure import start_provider, stop, wait_for_answer
from bench.mock import BURST_TOKENS
from bench.page import bounds, moments
from bench.peers import Peer, Place, ours, surfaces
from bench.processes import free_port, open_files, proportional, session
from bench.surfaces import Surface

CALLS: Final = 200_000
CALLERS: Final = 32
LEGS: Final = 20
WARM_LEGS: Final = 5
WORKSPACES: Final = 3
QUIET_SECONDS: Final = 1.5
LIMIT_SECONDS: Final = 900.0
"""After which no leg begins."""
CALL_SECONDS: Final = 30.0
"""After which a call has failed."""

BOUNDS: Final = {
    "server RSS, MB": 8.0,
    "server PSS, MB": 8.0,
    "Envoy RSS, MB": 8.0,
    "server's files": float(CALLERS),
    "Envoy's files": float(CALLERS),
    "tasks": float(CALLERS),
}
"""From the end of the warm-up (a quarter of the calls) to the end. 8 MB are 56 bytes for each call of a whole soak.
Files and tasks: a connection is kept a while, to the provider and behind Envoy; as many as there are callers may come
or go."""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A sort of call. share: of a hundred. surface, model, tokens: as in a Case. ends: what is its right end, a status
    or "failed" for a stream that says so; none: the right answer is. hang_up: seconds until the caller goes away."""

    name: str
    share: int
    surface: str = "rest"
    model: str = "mock"
    tokens: int = 0
    ends: frozenset[str] = frozenset()
    hang_up: float = 0.0
    key: str = ""
    body: bytes = b""


KINDS: Final = (
    Kind(name="whole answers by REST", share=37),
    Kind(name="whole answers by the OpenAI dialect", share=13, surface="openai"),
    Kind(name="whole answers by gRPC", share=10, surface="grpc"),
    Kind(name="streams by REST", share=15, tokens=BURST_TOKENS),
    Kind(name="streams by the OpenAI dialect", share=10, surface="openai", tokens=BURST_TOKENS),
    Kind(name="streams hung up on", share=4, model="mock-paced", tokens=1, hang_up=0.05),
    Kind(name="whole answers hung up on", share=2, model="mock-delay", hang_up=0.03),
    Kind(name="failed by the provider", share=3, model="mock-fail", ends=frozenset({"500", "502", "503"})),
    Kind(name="cut short by the provider", share=2, model="mock-cut", tokens=BURST_TOKENS, ends=frozenset({"failed"})),
    Kind(name="refused requests", share=2, body=b'{"model":"mock"}', ends=frozenset({"400"})),
    Kind(name="refused keys", share=2, key="dgm_wrong", ends=frozenset({"401", "429"})),
)


class _Call(msgspec.Struct, frozen=True):
    """A kind's call with one workspace's key. request: over HTTP, or the message by gRPC."""

    kind: Kind
    request: bytes
    checker: Checker


class Load:
    """Callers that take one call after the other from a shuffled row."""

    def __init__(self, made: Furnished) -> None:
        self._port = made.http_port
        self._surfaces = {key: {each.name: each for each in surfaces(made, key)} for key in [*made.keys, "dgm_wrong"]}
        self._calls = [self._call(kind, key) for kind in KINDS for key in made.keys for _ in range(kind.share)]
        self._grpc_headers = self._surfaces[made.key]["grpc"].headers
        self._grpc_path = self._surfaces[made.key]["grpc"].path
        self._random = random.Random(7)  # noqa: S311  the same row in every soak
        self.ended: Counter[str] = Counter()
        self.unexpected: Counter[str] = Counter()

    def _call(self, kind: Kind, key: str) -> _Call:
        surface: Surface = self._surfaces[kind.key or key][kind.surface]
        case = Case(name=kind.name, group="soak", callers=1, model=kind.model, tokens=kind.tokens)
        body = kind.body or surface.body(case)
        path = surface.stream if kind.tokens else surface.path
        request = body if surface.form == "grpc" else http_request(surface.port, path, surface.headers, body)
        return _Call(kind, request, Checker(surface.form, kind.tokens))

    async def leg(self, calls: int) -> None:
        """Make so many."""
        row = iter(self._random.choices(self._calls, k=calls))
        connection = await Connection.open(self._port, self._grpc_path, self._grpc_headers)
        try:
            await asyncio.gather(*(self._caller(row, connection) for _ in range(CALLERS)))
        finally:
            connection.close()

    async def _caller(self, row: Iterator[_Call], connection: Connection) -> None:
        http = HttpCaller(b"", streams=False)
        for call in row:
            if call.kind.surface == "grpc":
                said = await self._made(call, GrpcCaller(connection, call.request, streams=False))
            else:
                http.request = call.request
                said = await self._made(call, http)
            if said == "" or said in call.kind.ends:
                self.ended[call.kind.name] += 1
            else:
                self.unexpected[f"{call.kind.name}: {said}"] += 1
        http.close()

    async def _made(self, call: _Call, caller: HttpCaller | GrpcCaller) -> str:
        """How a call ended that did not end with its right answer; else ""."""
        kind, body = call.kind, b""
        try:
            async with asyncio.timeout(kind.hang_up or CALL_SECONDS):
                _, body = await caller.call(self._port)
            call.checker.check(body)
        except TimeoutError:
            return "" if kind.hang_up else "no answer in time"
        except (CallError, OSError) as error:
            return str(error) or type(error).__name__
        except WrongAnswer as error:
            # How much of a stream came before it was cut is the network's affair; that it ends with an error is not.
            return "failed" if b'"failed":' in body else str(error)
        return "an answer" if kind.ends or kind.hang_up else ""


class Watch:
    """What the gateway holds."""

    def __init__(self, peer: Peer, tasks: Path) -> None:
        self._server, self._envoy = ([process.id] for process in peer.processes)
        self._tasks = tasks
        self._began = time.monotonic()

    def moment(self, calls: int) -> Moment:
        """Now."""
        server, envoy = session(self._server), session(self._envoy)
        return Moment(
            calls=calls,
            seconds=round(time.monotonic() - self._began, 1),
            server_rss=round(server.rss, 1),
            server_pss=round(proportional(self._server), 1),
            envoy_rss=round(envoy.rss, 1),
            server_fds=open_files(self._server),
            envoy_fds=open_files(self._envoy),
            tasks=int(self._tasks.read_text()),
        )


async def soak(made: Furnished, watch: Watch, calls: int) -> tuple[Load, list[Moment]]:
    """All legs."""
    load = Load(made)
    seen = [watch.moment(0)]
    for leg in range(LEGS):
        if seen[-1].seconds > LIMIT_SECONDS:
            load.unexpected[f"{LEGS - leg} legs not begun in time"] += 1
            break
        await load.leg(calls // LEGS)
        await asyncio.sleep(QUIET_SECONDS)
        seen.append(watch.moment(sum(load.ended.values()) + sum(load.unexpected.values())))
        print(f"  {seen[-1]}", file=sys.stderr, flush=True)
    return load, seen


def growth(seen: list[Moment]) -> dict[str, float]:
    """By the names of BOUNDS: the last moment beside the one that ended the warm-up."""
    warm, last = seen[min(WARM_LEGS, len(seen) - 1)], seen[-1]
    fields = ("server_rss", "server_pss", "envoy_rss", "server_fds", "envoy_fds", "tasks")
    differences = [round(getattr(last, field) - getattr(warm, field), 1) for field in fields]
    return dict(zip(BOUNDS, differences, strict=True))


def main() -> int:
    """Soak, print the table; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=CALLS)
    options = parser.parse_args()
    date = datetime.now(UTC).date().isoformat()
    with ExitStack() as stack:
        place = Place(fresh_folder("soak"), free_port(), our_python())
        start_provider(place, stack)
        own = Place(place.folder / "dragoman", place.provider, place.python)
        own.folder.mkdir()
        made = furnish(own.folder, own.provider, own.python, own.environ, workspaces=WORKSPACES)
        tasks = own.folder / "tasks"
        peer = ours(own, made, "bench.watched", BENCH_TASKS=str(tasks))
        stack.callback(stop, peer)
        wait_for_answer(peer, own)
        load, seen = uvloop.run(soak(made, Watch(peer, tasks), options.calls))
    result = Soak(
        date=date,
        cpu=cpu_model(),
        cores=os.cpu_count() or 1,
        ended={kind.name: load.ended[kind.name] for kind in KINDS},
        unexpected=dict(load.unexpected),
        moments=seen,
        growth=growth(seen),
        bounds=BOUNDS,
    )
    if options.calls >= CALLS:  # a trial is not for the page
        keep("soak", result)
    print(f"{moments(result).markdown}\n\n{bounds(result).markdown}\n\n{result.ended}\nunexpected: {result.unexpected}")
    return int(bool(result.unexpected) or any(result.growth[name] > most for name, most in BOUNDS.items()))


if __name__ == "__main__":
    sys.exit(main())
