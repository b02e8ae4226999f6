"""How much Python a call runs through: `python -m bench.frames` counts the frames that the server enters for each call
and each event, by whose code they are.

A count is the same on a busy machine as on an idle one, and it is what the time goes with: under load, with cold
caches, a frame costs about half a microsecond, and frames were 60 % of the server's time
(docs/decisions/performance.md). So this is what a test holds (tests/bench/test_frames.py), and what says at once which
change has made the path longer.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from bench.bars import case_of
from bench.figures import Frames, keep
from bench.gateway import furnish
from bench.machine import fresh_folder, our_python
from bench.measure import run_load, start_provider, stop, wait_for_answer, works
from bench.page import frames_table
from bench.peers import Peer, Place, ours
from bench.processes import free_port
from bench.profile import owner_of

LOADS: Final = (
    ("whole answers, REST", "rest", "unary-32"),
    ("whole answers, OpenAI", "openai", "unary-32"),
    ("bursts, REST", "rest", "burst-32"),
    ("paced, REST", "rest", "paced-100"),
    ("paced, OpenAI", "openai", "paced-100"),
)
"""By name: the surface, and the case whose calls they are. What is counted is a call, or an event of a stream."""

CALLERS: Final = 8
"""Few: a count needs no load."""
_WRITTEN_SECONDS: Final = 20.0


def main() -> int:
    """Print the table."""
    with ExitStack() as stack:
        place = Place(fresh_folder("frames"), free_port(), our_python())
        start_provider(place, stack)
        found = counted(place, stack)
    keep("frames", found)
    print(frames_table(found).markdown)
    return 0


def counted(place: Place, stack: ExitStack) -> list[Frames]:
    """Of each load, by owner, the largest first. place: where a mock provider runs."""
    path = place.folder / "frames.json"
    own = Place(place.folder / "dragoman", place.provider, place.python)
    own.folder.mkdir()
    made = furnish(own.folder, own.provider, own.python, own.environ)
    peer = ours(own, made, "bench.counted", BENCH_FRAMES=str(path))
    stack.callback(stop, peer)
    wait_for_answer(peer, own)
    found = {name: _count(peer, surface, group, own, path) for name, surface, group in LOADS}
    owners = {owner: sum(each.get(owner, 0.0) for each in found.values()) for each in found.values() for owner in each}
    return [
        Frames(name=owner, each={load: round(each.get(owner, 0.0), 1) for load, each in found.items()})
        for owner in sorted(owners, key=lambda owner: -owners[owner])
    ]


def _count(peer: Peer, name: str, group: str, place: Place, path: Path) -> dict[str, float]:
    surface = next(each for each in peer.surfaces if each.name == name)
    if said := works(surface, place):
        raise RuntimeError(f"{name}: {said}")
    case = msgspec.structs.replace(case_of(group), callers=CALLERS, seconds=1.0, ramp=0.0)
    server = peer.processes[0].id
    path.unlink(missing_ok=True)
    os.kill(server, signal.SIGUSR1)
    seen = run_load(surface, case, place)
    os.kill(server, signal.SIGUSR1)
    until = time.monotonic() + _WRITTEN_SECONDS
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.02)
    if seen.errors:
        raise RuntimeError(f"{name}: {seen.errors}")
    units = seen.tokens or seen.n
    by: dict[str, float] = {}
    for file, frames in msgspec.json.decode(path.read_bytes(), type=dict[str, int]).items():
        by[owner_of(file)] = by.get(owner_of(file), 0.0) + frames / units
    return by


if __name__ == "__main__":
    sys.exit(main())
