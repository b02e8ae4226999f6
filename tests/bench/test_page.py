"""docs/performance.md says what docs/performance.json says: no figure on it is typed by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.figures import DATA, load, save
from bench.page import PAGE, PLOT, plot_data, prose, render

FIGURE = re.compile(r"\d[\d.,]*\s?(?:us|µs|ms|s|MB|KB|GB|MiB|%|x|times|calls|events|percent|/s)(?!\w)")


def test_the_tables_are_those_of_the_figures() -> None:
    page = PAGE.read_text()
    assert render(page, load()) == page, "run 'make bench-page'"


def test_between_the_tables_there_are_no_figures() -> None:
    assert FIGURE.findall(prose(PAGE.read_text())) == []


@pytest.mark.parametrize("typed", ["12 us a call", "held at 0.9x", "costs 3.5 MB", "the 99 % case"])
def test_a_typed_figure_would_be_seen(typed: str) -> None:
    page = PAGE.read_text()
    assert FIGURE.findall(prose(page + typed))


def test_a_changed_table_would_be_seen() -> None:
    page = PAGE.read_text()
    changed = page.replace("| call |", "| cal1 |", 1)
    assert changed != page
    assert render(changed, load()) == page


def test_the_plot_is_drawn_from_the_figures() -> None:
    figures = load()
    if figures.run is None:
        assert not PLOT.exists()
    else:
        assert str(plot_data(figures.run)["digest"]) in PLOT.read_text(), "run 'make bench-page'"


def test_figures_survive_being_written(tmp_path: Path) -> None:
    save(load(), tmp_path / "figures.json")
    assert load(tmp_path / "figures.json") == load()
    assert (tmp_path / "figures.json").read_text() == DATA.read_text()
