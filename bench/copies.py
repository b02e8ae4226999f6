"""What a large prompt costs the gateway in memory: `python -m bench.copies`.

One call with a prompt of PROMPT_KB, by each of our surfaces, against a gateway that has just started: how far the peak
of the server's resident memory, and of Envoy's, lies above what it held before. A copy that is made and dropped before
the next one is made does not show; those that live at the same time do.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import Final

from bench.bars import OURS
from bench.cases import Case
from bench.figures import Copies, keep
from bench.machine import fresh_folder, our_python
from bench.measure import run_load, start, start_provider, stop, works
from bench.page import copies_table
from bench.peers import Place
from bench.processes import forget_peak, free_port, session

PROMPT_KB: Final = 15_000
_AFTER_SECONDS: Final = 1.0


def main() -> int:
    """Print the table; the exit status says whether every call had its answer."""
    run = fresh_folder("copies")
    found: list[Copies] = []
    with ExitStack() as stack:
        place = Place(run, free_port(), our_python())
        start_provider(place, stack)
        for name in OURS:
            found += _measure(name, Place(run / name, place.provider, place.python))
    keep("copies", found)
    print(copies_table(found).markdown)
    return 0


def _measure(name: str, place: Place) -> list[Copies]:
    """Raises RuntimeError for a call without its answer."""
    started = start("dragoman", place)
    try:
        surface = next(each for each in started.peer.surfaces if each.name == name)
        if said := works(surface, place):
            raise RuntimeError(f"{name}: {said}")
        case = Case(name="copies", group="copies", callers=1, seconds=0.0, prompt=PROMPT_KB)
        size = surface.write_body(place.folder, case).stat().st_size / 2**20
        sessions = {"server": [started.peer.processes[0].id], "Envoy": [started.peer.processes[1].id]}
        before = {process: session(ids).rss for process, ids in sessions.items()}
        for ids in sessions.values():
            forget_peak(ids)
        seen = run_load(surface, case, place)
        if seen.errors:
            raise RuntimeError(f"{name}: {seen.errors}")
        time.sleep(_AFTER_SECONDS)
        used = {process: session(ids) for process, ids in sessions.items()}
    finally:
        stop(started.peer)
    return [
        Copies(
            surface=name,
            process=process,
            mb=round(size, 1),
            peak_mb=round(used[process].peak - before[process], 1),
            kept_mb=round(used[process].rss - before[process], 1),
        )
        for process in sessions
    ]


if __name__ == "__main__":
    sys.exit(main())
