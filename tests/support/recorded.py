"""One line per provider at the end of a run: how many recordings of its traffic passed, of how many.

A test about a recording notes it as property `recording`: (provider, name, note), note being "" or why it cannot pass:
`DISAGREES` or `NOT_SPOKEN`. A recording passes when each of its tests did.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest

DISAGREES: Final = "in the table of known disagreements"
NOT_SPOKEN: Final = "of a protocol that is not spoken"
FAILED: Final = "FAILED"
PASSED: Final = "passed"

_RANK: Final = ("", PASSED, NOT_SPOKEN, DISAGREES, FAILED)
"""What a recording's tests say together: the strongest word that any of them said."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found: dict[tuple[str, str], str] = {}
    for outcome in ("passed", "failed", "skipped", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in getattr(report, "user_properties", ()):
                if name == "recording":
                    provider, recording, note = value
                    word = {"passed": PASSED, "failed": FAILED, "error": FAILED}.get(outcome, note)
                    key = (provider, recording)
                    found[key] = max(found.get(key, ""), word, key=_RANK.index)
    if not found:
        return
    terminalreporter.section("recorded traffic")
    for provider in sorted({provider for provider, _ in found}):
        terminalreporter.line(f"{provider}: {_line(Counter(w for (p, _), w in found.items() if p == provider))}")


def _line(words: Counter[str]) -> str:
    rest = [f"{words[word]} {word}" for word in (NOT_SPOKEN, DISAGREES, FAILED) if words[word]]
    return ", ".join([f"{words[PASSED]} of {words.total()} passed", *rest])
