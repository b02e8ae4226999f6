"""The figures behind docs/performance.md: what the commands of this folder measured, in one file beside the page."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from bench.bars import Report
from bench.setup import ROOT, RUN

DATA: Final = ROOT / "docs" / "performance.json"


class Stage(msgspec.Struct, kw_only=True):
    """A stage alone (bench.micro). us: of CPU. per: call or event."""

    name: str
    us: float
    per: str


class Share(msgspec.Struct, kw_only=True):
    """Of the server's main thread under load (bench.profile). percent: of all samples, by the load's name."""

    name: str
    percent: dict[str, float]


class Frames(msgspec.Struct, kw_only=True):
    """Python frames that the server enters (bench.frames), of one owner. each: for a call, or an event of a stream, by
    the load's name."""

    name: str
    each: dict[str, float]


class Copies(msgspec.Struct, kw_only=True):
    """What a large prompt costs (bench.copies). mb: of the prompt. peak_mb: how far the process grew beyond what it
    held before; kept_mb: how much of that it still held afterwards."""

    surface: str
    process: str
    mb: float
    peak_mb: float
    kept_mb: float


class Moment(msgspec.Struct, kw_only=True):
    """The gateway after so many calls of a soak. MB; pss: shared pages counted by share. tasks: of the event loop."""

    calls: int
    seconds: float
    server_rss: float
    server_pss: float
    envoy_rss: float
    server_fds: int
    envoy_fds: int
    tasks: int


class Soak(msgspec.Struct, kw_only=True):
    """A whole soak (bench.soak). ended: calls by kind. unexpected: what should not have come, by kind. growth: from the
    end of the warm-up to the end, and bounds: how much at most, by what it is that must not grow."""

    date: str
    cpu: str
    cores: int
    ended: dict[str, int]
    unexpected: dict[str, int]
    moments: list[Moment]
    growth: dict[str, float]
    bounds: dict[str, float]


class Figures(msgspec.Struct, kw_only=True):
    """All of them; None for what was never measured."""

    run: Report | None = None
    stages: list[Stage] | None = None
    profile: list[Share] | None = None
    frames: list[Frames] | None = None
    copies: list[Copies] | None = None
    soak: Soak | None = None


PARTS: Final = {
    "run": "results",
    "stages": "micro",
    "profile": "profile",
    "frames": "frames",
    "copies": "copies",
    "soak": "soak",
}
"""A part of the figures, and the file in bench/.run that its command leaves."""


def keep(part: str, figures: object) -> Path:
    """Leave what a command measured where `merged` finds it."""
    RUN.mkdir(exist_ok=True)
    path = RUN / f"{PARTS[part]}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(figures)))
    return path


def load(path: Path = DATA) -> Figures:
    """Those of the page."""
    return msgspec.json.decode(path.read_bytes(), type=Figures) if path.exists() else Figures()


def merged(parts: list[str]) -> Figures:
    """Those of the page, and over them what was measured since, by the names of its parts."""
    raw: dict[str, msgspec.Raw] = {
        part: msgspec.Raw((RUN / f"{PARTS[part]}.json").read_bytes())
        for part in parts
        if (RUN / f"{PARTS[part]}.json").exists()
    }
    fresh = msgspec.json.decode(msgspec.json.encode(raw), type=Figures)
    return msgspec.structs.replace(load(), **{part: getattr(fresh, part) for part in raw})


def save(figures: Figures, path: Path = DATA) -> None:
    """As text that a diff can be read of: a line for each of the many."""
    whole = msgspec.to_builtins(figures)
    lines = []
    for part, value in whole.items():
        many = (
            {name: rows for name, rows in value.items() if isinstance(rows, list) and rows}
            if isinstance(value, dict)
            else {}
        )
        if isinstance(value, list):
            lines.append(f'"{part}": {_rows(value)}')
        elif many:
            one = {name: rows for name, rows in value.items() if name not in many}
            inner = [f'  "{name}": {_text(rows)}' for name, rows in one.items()]
            inner += [f'  "{name}": {_rows(rows)}' for name, rows in many.items()]
            lines.append(f'"{part}": {{\n' + ",\n".join(inner) + "\n}")
        else:
            lines.append(f'"{part}": {_text(value)}')
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _rows(rows: list[object]) -> str:
    return "[\n" + ",\n".join("    " + _text(row) for row in rows) + "\n  ]"


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
