"""From a run to the tables that are printed, and that docs/performance.md holds: medians, and ratios within the run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from bench.bars import DIRECT, Report, Verdict, bars, goals
from bench.cases import CASES, Case


class Table(msgspec.Struct, frozen=True):
    """Rows of text below a head."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def markdown(self) -> str:
        """As Markdown, without a newline at its end."""
        lines = ["| " + " | ".join(self.head) + " |", "|" + "---|" * len(self.head)]
        return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in self.rows)])


def print_report(report: Report) -> None:
    """Print it, as Markdown."""
    for title, table in (
        ("CPU of all processes, us for each call or event; (in brackets: our REST is so many times that)", cpu(report)),
        ("What callers saw: calls/s, p50 and p99 in ms; calls without a right answer", seen(report)),
        (
            "First token later than the provider's own in the same round, ms: p50, p99; streams without loss",
            added(report),
        ),
        ("At rest", rest(report)),
        ("Bars", verdicts(bars(report))),
        ("Goal: streams for at most twice what Envoy takes as a plain proxy", verdicts(goals(report))),
    ):
        print(f"\n{title}\n\n{table.markdown}")
    for line in wrong(report):
        print(f"\n{line}")
    print(f"\n{summary(report)}")


def summary(report: Report) -> str:
    """Where and when, in a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    where = f"{report.date}, {report.cpu}, {report.cores} cores, {report.rounds} rounds in {report.took:.0f} minutes"
    return f"{where}. {versions}."


def cases(report: Report) -> list[Case]:
    """Those of the run."""
    measured = {result.case for result in report.results}
    return [case for case in CASES if case.name in measured]


def surfaces(report: Report) -> list[str]:
    """Those of the run, in its order."""
    return list(dict.fromkeys(result.surface for result in report.results))


def cpu(report: Report) -> Table:
    """What a call or an event costs."""
    names = [name for name in surfaces(report) if name != DIRECT]
    return Table(["case", "per", *names], [_cpu_row(report, case, names) for case in cases(report)])


def _cpu_row(report: Report, case: Case, names: Sequence[str]) -> list[str]:
    ours = report.cpu_us(case, "rest")
    cells = [case.name, case.unit]
    for name in names:
        cost = report.cpu_us(case, name)
        ratio = f" ({ours / cost:.2f})" if ours and cost and name != "rest" else ""
        cells.append(f"{short(cost)}{ratio}" if cost else "")
    return cells


def seen(report: Report) -> Table:
    """Rate and times."""
    names = surfaces(report)
    return Table(["case", *names], [_seen_row(report, case, names) for case in cases(report)])


def _seen_row(report: Report, case: Case, names: Sequence[str]) -> list[str]:
    cells = [case.name]
    for name in names:
        found = [result.seen for result in report.of(case, name)]
        if not found:
            cells.append("")
            continue
        rate = statistics.median(each.n / each.seconds for each in found)
        times = [_median([each.p50 for each in found]), _median([each.p99 for each in found])]
        failed = report.failed(case, name)
        cells.append(f"{short(rate)}/s, {times[0]}, {times[1]}" + (f", {failed} failed" if failed else ""))
    return cells


def added(report: Report) -> Table:
    """First tokens of streams."""
    names = [name for name in surfaces(report) if name != DIRECT]
    streams = [case for case in cases(report) if case.tokens]
    return Table(["case", *names], [[case.name, *(_added(report, case, name) for name in names)] for case in streams])


def _added(report: Report, case: Case, name: str) -> str:
    found = report.of(case, name)
    if not found:
        return ""
    times = [report.added_first(case, name, percentile) for percentile in ("p50", "p99")]
    whole, failed = sum(result.seen.n for result in found), report.failed(case, name)
    share = "all" if not failed else f"{whole} of {whole + failed}"
    return ", ".join([*("-" if time is None else short(time) for time in times), share])


def rest(report: Report) -> Table:
    """Start-up and memory."""
    head = ["peer", "first answer, s"]
    head += [f"{when}, MB: {what}" for what in ("server", "all") for when in ("idle", "peak", "after")]
    rows = []
    for facts in report.facts:
        if facts.peer == DIRECT:
            continue
        moments = (facts.idle, facts.peak, facts.after)
        sizes = [*(each.server for each in moments), *(each.all for each in moments)]
        rows.append([facts.peer, f"{statistics.median(facts.start):.2f}", *(f"{size:.0f}" for size in sizes)])
    return Table(head, rows)


def verdicts(found: Sequence[Verdict]) -> Table:
    """Bars or goals."""
    return Table(
        ["case", "what", "measured", "at most", ""],
        [[each.case, each.what, _figure(each, each.measured), _figure(each, each.most), each.word] for each in found],
    )


def wrong(report: Report) -> list[str]:
    """What was wrong with answers, by case and surface."""
    return [
        f"{result.case}, {result.surface}, round {result.round}: {count} x {what}"
        for result in report.results
        for what, count in result.seen.errors.items()
    ]


def _figure(verdict: Verdict, value: float | None) -> str:
    if value is None:
        return ""
    if verdict.unit:
        return f"{value:.{2 if verdict.unit == 's' else 0}f} {verdict.unit}"
    return f"{value:.0f}" if verdict.most == 0 else f"{value:.3f}"


def _median(values: Sequence[float | None]) -> str:
    found = [value for value in values if value is not None]
    return short(statistics.median(found)) if found else "-"


def short(value: float) -> str:
    """A figure without digits that mean nothing."""
    return f"{value:,.{0 if abs(value) >= 100 else 1}f}"
