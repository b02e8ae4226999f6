"""`make bench`: the gateway and its peers under the same load, in one run, and one table of what they cost.

    python -m bench                                        everything that is installed, three rounds
    python -m bench --peers dragoman,envoy --cases unary-32,burst-32 --rounds 1

All peers run at once and take turns, case by case, so that a noisy machine is noisy for all. CPU is that of all of a
peer's processes. The JSON of the last run stays in bench/.run; `python -m bench.page` makes docs/performance.md of it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench.bars import Facts, Report
from bench.cases import CASES, Case
from bench.machine import cpu_model, fresh_folder, our_python, versions
from bench.measure import Result, Started, measure, memory, start, start_provider, stop, works
from bench.peers import PEERS, Missing, Peer, Place
from bench.processes import free_port
from bench.report import print_report
from bench.setup import RUN
from bench.surfaces import Surface


def main() -> int:
    """Run what the command line asks for."""
    options = _options()
    # Ended from outside, it still stops what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    date, began = datetime.now(UTC).date().isoformat(), time.monotonic()
    run = fresh_folder("work")
    python = our_python()
    with ExitStack() as stack:
        place = Place(run, free_port(), python)
        start_provider(place, stack)
        started = [one for name in options.peers if (one := _start(name, place, options.rounds, stack)) is not None]
        lanes = [lane for one in started for lane in _lanes(one.peer, place, options.surfaces)]
        cases = [case for case in CASES if case.group in options.groups]
        results = _measure_all(lanes, cases, options.rounds, place)
        facts = [_facts(one) for one in started]
    took = (time.monotonic() - began) / 60
    report = Report(
        date=date,
        cpu=cpu_model(),
        cores=os.cpu_count() or 1,
        versions=versions(python, [one.peer.name for one in started]),
        rounds=options.rounds,
        took=round(took, 1),
        facts=facts,
        results=results,
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    print_report(report)
    return 0


class _Options(argparse.Namespace):
    peers: list[str]
    groups: list[str]
    surfaces: list[str]
    rounds: int
    out: Path


def _options() -> _Options:
    words = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(prog="python -m bench", description=words[0])
    parser.add_argument("--peers", type=_names(list(PEERS)), default=list(PEERS), help=", ".join(PEERS))
    groups = [case.group for case in CASES]
    parser.add_argument("--cases", dest="groups", type=_names(groups), default=groups, help=", ".join(groups))
    parser.add_argument("--surfaces", type=lambda text: text.split(","), default=[], help="of ours: rest, openai, grpc")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RUN / "results.json")
    return parser.parse_args(namespace=_Options())


def _names(known: list[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}")
        return names

    return parse


def _start(name: str, place: Place, rounds: int, stack: ExitStack) -> Started | None:
    """Our own gateway as often as there are rounds, as a bar stands on how long that takes; the others once."""
    seconds: list[float] = []
    starts = rounds if name == "dragoman" else 1
    while True:
        try:
            started = start(name, Place(place.folder / f"{name}-{len(seconds)}", place.provider, place.python))
        except Missing as error:
            print(f"{name}: {error}", file=sys.stderr)
            return None
        except RuntimeError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            return None
        seconds += started.seconds
        if len(seconds) >= starts:
            break
        stop(started.peer)
    stack.callback(stop, started.peer)
    print(f"{name}: first answer after {seconds[-1]:.2f} s", file=sys.stderr, flush=True)
    return msgspec.structs.replace(started, seconds=[round(each, 2) for each in seconds])


def _lanes(peer: Peer, place: Place, wanted: list[str]) -> list[tuple[Peer, Surface]]:
    lanes = []
    for surface in peer.surfaces:
        if peer.name == "dragoman" and wanted and surface.name not in wanted:
            continue
        said = works(surface, place)
        if said:
            print(f"{surface.name} is left out: {said}", file=sys.stderr)
        else:
            lanes.append((peer, surface))
    return lanes


def _measure_all(lanes: list[tuple[Peer, Surface]], cases: list[Case], rounds: int, place: Place) -> list[Result]:
    results = []
    for case in cases:
        for number in range(rounds):
            for peer, surface in lanes:
                if number and case.once and peer.slow:
                    continue
                result = measure(peer, surface, case, place, number)
                results.append(result)
                _tell(case, result)
    return results


def _tell(case: Case, result: Result) -> None:
    seen = result.seen
    words = [
        f"  {case.name:26} {result.surface:9} {seen.n / seen.seconds:8.0f}/s {result.cpu_us:9.1f} us CPU/{case.unit}",
        f"p50 {seen.p50}, first {seen.first_p50} to {seen.first_p99} ms",
        *([str(seen.errors)] if seen.errors else []),
        str(result.cpu_by),
    ]
    print("  ".join(words), file=sys.stderr, flush=True)


def _facts(started: Started) -> Facts:
    after, peak = memory(started.peer)
    return Facts(peer=started.peer.name, start=started.seconds, idle=started.idle, peak=peak, after=after)


if __name__ == "__main__":
    sys.exit(main())
