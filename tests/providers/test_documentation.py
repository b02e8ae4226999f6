"""docs/providers.md says of every provider what it carries, and names tests that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from server.providers.registry import ENTRIES
from tests.support.process import PROJECT

PAGE = PROJECT / "docs" / "providers.md"


def table() -> tuple[list[str], list[list[str]]]:
    """Columns after the first, and the rows of the one table that has a column for each provider."""
    lines = PAGE.read_text("utf-8").splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("| |"))
    head, _, *rest = [[cell.strip() for cell in line.strip("|").split("|")] for line in _rows(lines[start:])]
    return head[1:], rest


def _rows(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield line


COLUMNS, ROWS = table()
CELLS = [(slug, row[0], row[1 + at]) for at, slug in enumerate(COLUMNS) for row in ROWS]


def test_there_is_a_column_for_each_provider_and_no_other() -> None:
    assert sorted(COLUMNS) == sorted(ENTRIES)
    assert {len(row) for row in ROWS} == {1 + len(COLUMNS)}


@pytest.mark.parametrize(("slug", "what", "cell"), CELLS, ids=[f"{slug}: {what}" for slug, what, _ in CELLS])
def test_each_cell_is_yes_with_its_test_or_no_with_the_reason(slug: str, what: str, cell: str) -> None:
    """A test that is named is there: in the provider's room, beside the rooms, or among the end-to-end tests."""
    word, colon, rest = cell.partition(": ")
    assert colon
    assert rest.strip()
    if word != "yes":
        assert word in ("no", "partly")
        return
    room = ENTRIES[slug].adapter.partition(":")[0].rpartition(".")[2]
    for name in rest.split(", "):
        places = (f"providers/{room}", "providers", "e2e")
        assert any((PROJECT / "tests" / place / f"test_{name}.py").exists() for place in places), name


def test_every_page_is_linked_and_every_link_leads_somewhere() -> None:
    linked = set(re.findall(r"\]\((providers/[a-z_]+\.md)\)", PAGE.read_text("utf-8")))
    assert linked == {f"providers/{page.name}" for page in (PROJECT / "docs" / "providers").glob("*.md")}
