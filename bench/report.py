"""From results to the table that is printed: medians, and ratios within the run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final

import msgspec

from bench.cases import CASES, Case
from bench.measure import Result

OURS: Final = ("rest", "openai", "grpc")


class Facts(msgspec.Struct, kw_only=True):
    """A peer at rest. start: seconds to its first answer. Memory in MB, of all its processes."""

    peer: str
    start: float
    idle: int
    peak: int


class Report(msgspec.Struct, kw_only=True):
    """A whole run."""

    facts: list[Facts]
    results: list[Result]


class Bar(msgspec.Struct, frozen=True):
    """What is promised: our surface's CPU in a case is at most so many times another's."""

    case: str
    ours: str
    other: str
    most: float


BARS: Final = (
    Bar("unary-32", "rest", "mlflow", 0.9),
    Bar("unary-32", "rest", "portkey", 0.75),
    Bar("unary-32", "rest", "litellm", 0.1),
    Bar("unary-32", "rest", "floor", 1.4),
    Bar("unary-32", "grpc", "rest", 0.75),
    *(
        Bar("burst-32", ours, other, most)
        for ours in ("rest", "openai")
        for other, most in (("mlflow", 0.5), ("portkey", 1.0), ("litellm", 0.05))
    ),
    *(
        Bar("paced-100", ours, other, most)
        for ours in ("rest", "openai")
        for other, most in (("mlflow", 1.0), ("portkey", 1.0), ("litellm", 1 / 6))
    ),
)


def print_report(report: Report) -> None:
    """Print it, as Markdown."""
    surfaces = list(dict.fromkeys(result.surface for result in report.results))
    cases = [case for case in CASES if any(result.case == case.name for result in report.results)]
    print("\nCPU of all processes, us for each call or event; (in brackets: our REST is so many times that)\n")
    _table(["case", "per", *surfaces], [_cpu_row(case, surfaces, report.results) for case in cases])
    print("\nWhat callers saw: calls/s, p50 and p99 in ms; streams: first token p50 and p99, errors\n")
    _table(["case", *surfaces], [_seen_row(case, surfaces, report.results) for case in cases])
    print("\nAt rest\n")
    rows = [[f.peer, f"{f.start:.2f}", str(f.idle), str(f.peak)] for f in report.facts]
    _table(["peer", "first answer, s", "idle, MB", "peak, MB"], rows)
    print("\nBars\n")
    _table(["case", "ours", "against", "ratio", "at most", ""], list(_bar_rows(report.results)))


def _of(results: Sequence[Result], case: Case, surface: str) -> list[Result]:
    return [result for result in results if result.case == case.name and result.surface == surface]


def _cpu(results: Sequence[Result], case: Case, surface: str) -> float | None:
    found = _of(results, case, surface)
    return statistics.median(result.cpu_us for result in found) if found else None


def _cpu_row(case: Case, surfaces: Sequence[str], results: Sequence[Result]) -> list[str]:
    rest = _cpu(results, case, "rest")
    cells = [case.name, case.unit]
    for surface in surfaces:
        cpu = _cpu(results, case, surface)
        ratio = f" ({rest / cpu:.2f})" if rest and cpu and surface != "rest" else ""
        cells.append(f"{cpu:.{0 if cpu >= 100 else 1}f}{ratio}" if cpu else "")
    return cells


def _seen_row(case: Case, surfaces: Sequence[str], results: Sequence[Result]) -> list[str]:
    cells = [case.name]
    for surface in surfaces:
        found = [result.seen for result in _of(results, case, surface)]
        if not found:
            cells.append("")
            continue
        names = ("first_p50", "first_p99") if case.tokens else ("p50", "p99")
        times = [statistics.median(getattr(seen, name) or 0.0 for seen in found) for name in names]
        rate = statistics.median(seen.n / seen.seconds for seen in found)
        errors = sum(sum(seen.errors.values()) for seen in found)
        cells.append(f"{rate:.0f}/s, {times[0]:.1f}, {times[1]:.1f}" + (f", {errors} failed" if errors else ""))
    return cells


def _bar_rows(results: Sequence[Result]) -> list[list[str]]:
    rows = []
    for bar in BARS:
        case = next(case for case in CASES if case.group == bar.case)
        ours, other = _cpu(results, case, bar.ours), _cpu(results, case, bar.other)
        if ours and other:
            ratio = ours / other
            held = "held" if ratio <= bar.most else "NOT HELD"
            rows.append([case.name, bar.ours, bar.other, f"{ratio:.3f}", f"{bar.most:.3f}", held])
    return rows


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
