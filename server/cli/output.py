"""Results for people and for programs: a table on a terminal, tab-separated lines in a pipe, JSON where asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime

Value = str | int | bool | datetime | Sequence[str] | None

Row = Mapping[str, Value]


def show_rows(rows: Sequence[Row], *, as_json: bool, empty: str) -> None:
    """Print rows that all have the same columns. empty: what a terminal says where there are none."""
    if as_json:
        print(json.dumps([{name: _plain(value) for name, value in row.items()} for row in rows], indent=2))
    elif not sys.stdout.isatty():
        for row in rows:
            print("\t".join(_cell(value, "") for value in row.values()))
    elif not rows:
        print(empty)
    else:
        _print_table(rows)


def show_row(row: Row, *, as_json: bool) -> None:
    """Print one thing: a line for each of its facts, or a JSON object."""
    if as_json:
        print(json.dumps({name: _plain(value) for name, value in row.items()}, indent=2))
        return
    terminal = sys.stdout.isatty()
    width = max(map(len, row)) if terminal else 0
    for name, value in row.items():
        print(f"{name:<{width}}  {_cell(value, '-')}" if terminal else f"{name}\t{_cell(value, '')}")


def _print_table(rows: Sequence[Row]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        # An id is copied from here: it stays on one line.
        table.add_column(name, overflow="fold", no_wrap=name == "id")
    for row in rows:
        # Text: a name with brackets is no markup.
        table.add_row(*(Text(_cell(value, "-")) for value in map(_shorter, row.values())))
    Console().print(table)


def _shorter(value: Value) -> Value:
    return f"{value:%Y-%m-%d}" if isinstance(value, datetime) else value


def _plain(value: Value) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _cell(value: Value, absent: str) -> str:
    """One line of printable text: what is shown may have come from anywhere."""
    if value is None or value == "":
        return absent
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    text = value if isinstance(value, str) else str(value) if isinstance(value, int) else ", ".join(value)
    return "".join(character if character.isprintable() else " " for character in text)
