"""One line per provider at the end of a run: how many checks of recorded traffic passed, of how many."""

from __future__ import annotations

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed", "skipped", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            provider = dict(getattr(report, "user_properties", ())).get("conformance")
            if provider is not None:
                counts.setdefault(str(provider), Counter())[outcome] += 1
    if counts:
        terminalreporter.section("recorded traffic")
    for provider, outcomes in sorted(counts.items()):
        checked = outcomes.total() - outcomes["skipped"]
        terminalreporter.line(f"{provider}: {outcomes['passed']} of {checked} passed, {outcomes['skipped']} skipped")
