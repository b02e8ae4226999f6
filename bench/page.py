"""docs/performance.md from its figures: `python -m bench.page`.

The page's tables stand between markers and are written here, never by hand; what stands between them is prose without
figures. With names of parts (run, stages, profile, frames, copies, soak) it takes these from bench/.run into
docs/performance.json first, all that are there by default.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from bench import report as tables
from bench.bars import OURS, Report, bars, case_of, goals
from bench.cases import CASES, Case
from bench.figures import PARTS, Copies, Figures, Frames, Share, Soak, Stage, merged, save
from bench.mock import PACE_SECONDS
from bench.peers import PEERS
from bench.report import Table
from bench.setup import HERE, ROOT, VENVS

T = TypeVar("T")

PAGE: Final = ROOT / "docs" / "performance.md"
PLOT: Final = ROOT / "docs" / "performance.svg"
_DRAWN: Final = ("unary-32", "burst-32", "paced-100", "paced-500")
_BLOCK: Final = re.compile(r"(<!-- figures: ([a-z-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
_NOT_YET: Final = "*Not measured yet.*"


def main() -> int:
    """Take, write, draw."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--partial", action="store_true", help="take a run without all peers, cases and three rounds")
    options = parser.parse_args()
    figures = merged(options.parts)
    if figures.run is not None and (lacks := _lacks(figures.run)) and not options.partial:
        print(f"the run lacks {lacks}; --partial takes it all the same", file=sys.stderr)
        return 1
    save(figures)
    PAGE.write_text(render(PAGE.read_text(), figures))
    return draw(figures)


def _lacks(run: Report) -> str:
    """What a whole run has and this one has not."""
    missing = [name for name in PEERS if name not in {facts.peer for facts in run.facts}]
    missing += [case.name for case in CASES if case not in tables.cases(run)]
    return ", ".join([*missing, *(["rounds"] if run.rounds < 3 else [])])


def render(page: str, figures: Figures) -> str:
    """The page with these figures between its markers. Raises KeyError for a marker that means nothing."""
    blocks = _blocks(figures)
    return _BLOCK.sub(lambda found: f"{found[1]}\n{blocks[found[2]]()}\n\n{found[3]}", page)


def prose(page: str) -> str:
    """What is written by hand."""
    return _BLOCK.sub("", page)


def _of(value: T | None, write: Callable[[T], str]) -> Callable[[], str]:
    return lambda: write(value) if value is not None else _NOT_YET


def _blocks(figures: Figures) -> Mapping[str, Callable[[], str]]:
    return {
        "cases": lambda: _cases().markdown,
        "run": _of(figures.run, tables.summary),
        "bars": _of(figures.run, lambda run: tables.verdicts(bars(run)).markdown),
        "goals": _of(figures.run, lambda run: tables.verdicts(goals(run)).markdown),
        "cpu": _of(figures.run, lambda run: tables.cpu(run).markdown),
        "seen": _of(figures.run, lambda run: tables.seen(run).markdown),
        "added": _of(figures.run, lambda run: tables.added(run).markdown),
        "rest": _of(figures.run, lambda run: tables.rest(run).markdown),
        "wrong": _of(figures.run, _wrong),
        "stages": _of(figures.stages, lambda stages: _stages(stages).markdown),
        "profile": _of(figures.profile, lambda shares: profile_table(shares).markdown),
        "frames": _of(figures.frames, lambda frames: frames_table(frames).markdown),
        "copies": _of(figures.copies, lambda copies: copies_table(copies).markdown),
        "soak": _of(figures.soak, _soak),
    }


def _wrong(run: Report) -> str:
    lines = tables.wrong(run)
    return (
        "\n".join(f"- {line}" for line in lines) if lines else "None: every call of every gateway had its whole answer."
    )


def _cases() -> Table:
    return Table(["case", "callers", "what a call is", "begins for"], [_case_row(case) for case in CASES])


def _case_row(case: Case) -> list[str]:
    what = f"a stream of {case.tokens} tokens" if case.tokens else "a whole answer"
    what += (
        f", one every {PACE_SECONDS * 1e3:.0f} ms"
        if case.model.endswith("paced")
        else ", all at once"
        if case.tokens
        else ""
    )
    return [case.name, str(case.callers), what, f"{case.seconds:g} s"]


def _stages(stages: list[Stage]) -> Table:
    return Table(["stage", "us", "for each"], [[stage.name, f"{stage.us:.2f}", stage.per] for stage in stages])


def profile_table(shares: list[Share]) -> Table:
    """Whose code ran."""
    loads = list(dict.fromkeys(load for share in shares for load in share.percent))
    rows = [[share.name, *(f"{share.percent.get(load, 0):.0f} %" for load in loads)] for share in shares]
    return Table(["what", *loads], rows)


def frames_table(frames: list[Frames]) -> Table:
    """How much Python runs."""
    loads = list(dict.fromkeys(load for one in frames for load in one.each))
    rows = [[one.name, *(f"{one.each.get(load, 0):.1f}" for load in loads)] for one in frames]
    sums = [f"{sum(one.each.get(load, 0) for one in frames):.1f}" for load in loads]
    return Table(["whose", *loads], [*rows, ["all", *sums]])


def copies_table(copies: list[Copies]) -> Table:
    """What a large prompt costs."""
    head = ["by", "process", "prompt, MB", "peak growth, MB", "times the prompt", "kept, MB"]
    rows = []
    for each in copies:
        sizes = [f"{each.mb:.0f}", f"{each.peak_mb:.0f}", f"{each.peak_mb / each.mb:.1f}", f"{each.kept_mb:.0f}"]
        rows.append([each.surface, each.process, *sizes])
    return Table(head, rows)


def _soak(soak: Soak) -> str:
    ended = ", ".join(f"{count:,} {kind}" for kind, count in soak.ended.items())
    wrong = ", ".join(f"{count} {what}" for what, count in soak.unexpected.items()) or "none"
    return "\n\n".join(
        [
            f"{soak.date}, {soak.cpu}, {soak.cores} cores. Calls: {ended}. Unexpected: {wrong}.",
            moments(soak).markdown,
            bounds(soak).markdown,
        ]
    )


def moments(soak: Soak) -> Table:
    """Memory and what is open along the way."""
    head = [
        "calls",
        "s",
        "server RSS, MB",
        "server PSS, MB",
        "Envoy RSS, MB",
        "server's files",
        "Envoy's files",
        "tasks",
    ]
    rows = []
    for at in soak.moments:
        memory = (at.server_rss, at.server_pss, at.envoy_rss)
        counts = (at.server_fds, at.envoy_fds, at.tasks)
        rows.append([f"{at.calls:,}", f"{at.seconds:.0f}", *(f"{mb:.1f}" for mb in memory), *map(str, counts)])
    return Table(head, rows)


def bounds(soak: Soak) -> Table:
    """What must not grow."""
    rows = [
        [name, f"{soak.growth[name]:+.1f}", f"{most:.1f}", "held" if soak.growth[name] <= most else "NOT HELD"]
        for name, most in soak.bounds.items()
    ]
    return Table(["from the end of the warm-up to the end", "growth", "at most", ""], rows)


# --- the plot ---------------------------------------------------------------------------------------------------------


def plot_data(run: Report) -> dict[str, object]:
    """What is drawn, with a digest that the drawing carries."""
    panels = []
    for group in _DRAWN:
        case = case_of(group)
        costs = {name: run.cpu_us(case, name) for name in tables.surfaces(run)}
        found = {name: cost for name, cost in costs.items() if cost}
        bars = [
            {
                "name": f"dragoman {name}" if name in OURS else name,
                "us": cost,
                "ours": name in OURS,
                "label": tables.short(cost),
            }
            for name, cost in found.items()
        ]
        if bars:
            panels.append({"title": case.name, "unit": case.unit, "bars": bars})
    return {"panels": panels, "digest": hashlib.sha256(json.dumps(panels).encode()).hexdigest()}


def draw(figures: Figures) -> int:
    """docs/performance.svg; a word where it cannot be drawn."""
    if figures.run is None:
        return 0
    python = VENVS / "tools" / "bin" / "python"
    if not python.exists():
        print("the plot is not drawn: 'make bench-setup' installs matplotlib", file=sys.stderr)
        return 1
    words = [str(python), "-I", str(HERE / "plot.py"), str(PLOT)]
    return subprocess.run(words, input=json.dumps(plot_data(figures.run)), text=True, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
