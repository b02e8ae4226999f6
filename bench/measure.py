"""Starting peers and measuring one case on one surface."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from typing import Final

import msgspec

from bench.cases import WARM_UP, Case
from bench.gateway import PYTHONPATH
from bench.load import Plan, Seen
from bench.peers import PEERS, Peer, Place
from bench.processes import Process, session, steal, wait_for_port
from bench.setup import ROOT
from bench.surfaces import Surface

START_SECONDS: Final = 90.0
_AFTER_SECONDS: Final = 0.3
"""What a gateway does after its answer (logs, counts) is counted too."""


class Result(msgspec.Struct, kw_only=True):
    """One run of one case on one surface. cpu_us: of all the peer's processes, for each call or event; cpu_by: the same
    by program. steal: percent that the host took."""

    case: str
    surface: str
    round: int
    seen: Seen
    cpu_us: float
    cpu_by: dict[str, float]
    steal: float


class Memory(msgspec.Struct, kw_only=True):
    """Resident, in MB. server: of the gateway's own process (and its children), without a proxy before it. all: of all
    processes; what they share counts in each."""

    server: float
    all: float


class Started(msgspec.Struct, kw_only=True):
    """A peer that answers. seconds: from its start to its first answer, of each start. idle: then."""

    peer: Peer
    seconds: list[float]
    idle: Memory


def start_provider(place: Place, stack: ExitStack) -> Process:
    """The mock provider; it ends with the stack."""
    argv = [place.python, "-m", "bench.mock", str(place.provider)]
    provider = Process(argv, environ=place.environ, cwd=ROOT, log=place.folder / "mock.log")
    stack.callback(provider.stop)
    wait_for_port(place.provider, provider)
    return provider


def start(name: str, place: Place) -> Started:
    """Start a peer, and wait for its first answer. Raises Missing, RuntimeError."""
    place.folder.mkdir(parents=True)
    began = time.perf_counter()
    peer = PEERS[name](place)
    began = max(began, peer.began)
    try:
        wait_for_answer(peer, place)
    except BaseException:
        stop(peer)
        raise
    seconds = time.perf_counter() - began
    return Started(peer=peer, seconds=[seconds], idle=memory(peer)[0])


def memory(peer: Peer) -> tuple[Memory, Memory]:
    """Now, and at most so far."""
    ids = [process.id for process in peer.processes]
    server, everything = session(ids[:1]), session(ids)
    return (
        Memory(server=round(server.rss, 1), all=round(everything.rss, 1)),
        Memory(server=round(server.peak, 1), all=round(everything.peak, 1)),
    )


def wait_for_answer(peer: Peer, place: Place) -> None:
    """Return once a started peer answers. Raises RuntimeError."""
    until = time.perf_counter() + START_SECONDS
    first = peer.surfaces[0]
    body = first.body(WARM_UP[0])
    while (said := _answers(first, body)) != "":
        if any(process.ended for process in peer.processes) or time.perf_counter() > until:
            raise RuntimeError(f"{peer.name} does not answer: {said}; see {place.folder}")
        time.sleep(0.01)


def stop(peer: Peer) -> None:
    """Stop a peer's processes."""
    for process in peer.processes:
        process.stop()


def works(surface: Surface, place: Place) -> str:
    """What came instead, where the surface does not answer calls and streams; else "". Warms it up as well."""
    for case in WARM_UP:
        seen = run_load(surface, case, place)
        if not seen.n or seen.errors:
            return f"{case.name}: {seen.errors}"
    return ""


def run_load(surface: Surface, case: Case, place: Place) -> Seen:
    """Put the load on."""
    plan = Plan(
        form=surface.form,
        port=surface.port,
        path=surface.stream if case.tokens else surface.path,
        headers=surface.headers,
        body=str(surface.write_body(place.folder, case)),
        callers=case.callers,
        seconds=case.seconds,
        ramp=case.ramp,
        tokens=case.tokens,
    )
    done = subprocess.run(
        [place.python, "-m", "bench.load"],
        cwd=ROOT,
        env={**place.environ, "PYTHONPATH": PYTHONPATH},
        input=msgspec.json.encode(plan),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the load failed: {done.stderr.decode()[-600:]}")
    return msgspec.json.decode(done.stdout, type=Seen)


def measure(peer: Peer, surface: Surface, case: Case, place: Place, number: int) -> Result:
    """One run: the round of that number."""
    ids = [process.id for process in peer.processes]
    _wait_until_idle(ids)
    before, (taken, ticks) = session(ids).cpu, steal()
    seen = run_load(surface, case, place)
    time.sleep(_AFTER_SECONDS)
    after, (taken_now, ticks_now) = session(ids).cpu, steal()
    count = max(seen.tokens if case.tokens else seen.n, 1)
    by = {name: (cpu - before.get(name, 0.0)) / count * 1e6 for name, cpu in after.items()}
    return Result(
        case=case.name,
        surface=surface.name,
        round=number,
        seen=seen,
        cpu_us=round(sum(by.values()), 2),
        cpu_by={name: round(cpu, 1) for name, cpu in by.items() if cpu},
        steal=round(100 * (taken_now - taken) / max(ticks_now - ticks, 1), 1),
    )


def _wait_until_idle(ids: list[int]) -> None:
    """A peer may still work on calls whose caller has gone."""
    for _ in range(40):
        used = sum(session(ids).cpu.values())
        time.sleep(0.25)
        if sum(session(ids).cpu.values()) - used <= 0.03:
            return


def _answers(surface: Surface, body: bytes) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{surface.port}{surface.path}", body)
    for name, value in {"content-type": "application/json", **surface.headers}.items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310  http, to loopback
            response.read()
            return ""
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read()[:300]!r}"
    except OSError as error:
        return repr(error)
