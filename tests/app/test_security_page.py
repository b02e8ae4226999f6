"""docs/security.md names a test for each threat, and the tests are there."""

from __future__ import annotations

import re

import pytest

from tests.support.process import PROJECT

ROWS = [
    line
    for line in (PROJECT / "docs" / "security.md").read_text().partition("## What lies in memory")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| threat")
]


@pytest.mark.parametrize("row", ROWS, ids=[row.split("|")[1].strip()[:40] for row in ROWS])
def test_a_threat_has_tests_that_exist(row: str) -> None:
    paths = re.findall(r"`(tests/[^`]+\.py)`", row.split("|")[3])
    assert paths
    assert [path for path in paths if "def test_" not in (PROJECT / path).read_text()] == []
