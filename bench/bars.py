"""What is promised, and whether a run holds it. Every bar is a row of the printed table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from bench.cases import CASES, Case
from bench.measure import Memory, Result

OURS: Final = ("rest", "openai", "grpc", "grpc-direct")
DIRECT: Final = "direct"


class Facts(msgspec.Struct, kw_only=True):
    """A peer at rest. start: seconds to its first answer, of each start. idle: after it. peak: at most in the run.
    after: at its end."""

    peer: str
    start: list[float]
    idle: Memory
    peak: Memory
    after: Memory


class Report(msgspec.Struct, kw_only=True):
    """A whole run. date: of its start, UTC. took: minutes. versions: of what was measured."""

    date: str
    cpu: str
    cores: int
    versions: dict[str, str]
    rounds: int
    took: float
    facts: list[Facts]
    results: list[Result]

    def of(self, case: Case, surface: str) -> list[Result]:
        """Its rounds."""
        return [result for result in self.results if result.case == case.name and result.surface == surface]

    def cpu_us(self, case: Case, surface: str) -> float | None:
        """Median of the rounds; None where it was not measured, or no call came through."""
        found = [result.cpu_us for result in self.of(case, surface) if result.seen.n]
        return statistics.median(found) if found else None

    def added_first(self, case: Case, surface: str, percentile: str) -> float | None:
        """Milliseconds to the first token beyond the provider's own in the same round; median of the rounds.
        percentile: p50 or p99."""
        direct = {result.round: getattr(result.seen, f"first_{percentile}") for result in self.of(case, DIRECT)}
        added = [
            time - base
            for result in self.of(case, surface)
            if (time := getattr(result.seen, f"first_{percentile}")) is not None
            and (base := direct.get(result.round)) is not None
        ]
        return statistics.median(added) if added else None

    def failed(self, case: Case, surface: str) -> int:
        """Calls without a right answer, in all rounds."""
        return sum(sum(result.seen.errors.values()) for result in self.of(case, surface))


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A bar and what was measured; None for what was not."""

    case: str
    what: str
    measured: float | None
    most: float
    unit: str = ""

    @property
    def word(self) -> str:
        """As it is printed."""
        if self.measured is None:
            return "not measured"
        return "held" if self.measured <= self.most else "NOT HELD"


class _Ratio(msgspec.Struct, frozen=True):
    """Our surface's CPU in a case is at most so many times another's."""

    case: str
    ours: str
    other: str
    most: float


_RATIOS: Final = (
    _Ratio("unary-32", "rest", "mlflow", 0.9),
    _Ratio("unary-32", "rest", "portkey", 0.75),
    _Ratio("unary-32", "rest", "litellm", 0.1),
    _Ratio("unary-32", "rest", "floor", 1.4),
    _Ratio("unary-32", "grpc", "rest", 0.75),
    *(
        _Ratio("burst-32", ours, other, most)
        for ours in ("rest", "openai")
        for other, most in (("mlflow", 0.5), ("portkey", 1.0), ("litellm", 0.05))
    ),
    *(
        _Ratio("paced-100", ours, other, most)
        for ours in ("rest", "openai")
        for other, most in (("mlflow", 1.0), ("portkey", 1.0), ("litellm", 1 / 6))
    ),
)
_GOALS: Final = tuple(
    _Ratio(case, ours, "envoy", 2.0) for case in ("burst-32", "paced-100", "paced-500") for ours in ("rest", "openai")
)

ADDED_MS: Final = 500.0
IDLE_MB: Final = 150.0
START_SECONDS: Final = 1.5


def bars(report: Report) -> list[Verdict]:
    """All of them."""
    paced = case_of("paced-500")
    streams = [
        verdict
        for ours in ("rest", "openai")
        for verdict in (
            Verdict(
                case=paced.name,
                what=f"{ours}: streams that lack a token",
                measured=_failed(report, paced, ours),
                most=0,
            ),
            Verdict(
                case=paced.name,
                what=f"{ours}: first token later than the provider's, p99",
                measured=report.added_first(paced, ours, "p99"),
                most=ADDED_MS,
                unit="ms",
            ),
        )
    ]
    wrong = [report.failed(case, ours) for case in CASES for ours in OURS if report.of(case, ours)]
    return [
        *(_judge(report, ratio) for ratio in _RATIOS),
        *streams,
        _own(report, "memory of the server process, idle", lambda facts: facts.idle.server, IDLE_MB, "MB"),
        _own(report, "start to first answer", lambda facts: statistics.median(facts.start), START_SECONDS, "s"),
        Verdict(case="all", what="our calls without a right answer", measured=sum(wrong) if wrong else None, most=0),
    ]


def goals(report: Report) -> list[Verdict]:
    """What is aimed at beyond the bars: streams for twice what a plain proxy takes."""
    return [_judge(report, ratio) for ratio in _GOALS]


def case_of(group: str) -> Case:
    """The case that `--cases` calls so."""
    return next(case for case in CASES if case.group == group)


def _judge(report: Report, ratio: _Ratio) -> Verdict:
    case = case_of(ratio.case)
    ours, other = report.cpu_us(case, ratio.ours), report.cpu_us(case, ratio.other)
    measured = ours / other if ours is not None and other else None
    return Verdict(case=case.name, what=f"{ratio.ours} : {ratio.other}", measured=measured, most=ratio.most)


def _failed(report: Report, case: Case, surface: str) -> int | None:
    return report.failed(case, surface) if report.of(case, surface) else None


def _own(report: Report, what: str, figure: Callable[[Facts], float], most: float, unit: str) -> Verdict:
    found: Sequence[Facts] = [facts for facts in report.facts if facts.peer == "dragoman"]
    return Verdict(case="at rest", what=what, measured=figure(found[0]) if found else None, most=most, unit=unit)
