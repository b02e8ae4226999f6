"""A home with a database and a master key, and the command line run in it."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from server.cli.main import run
from server.settings import load_settings
from server.store.master_key import create_master_key_file
from tests.support.demo import DemoProcess
from tests.support.ports import free_port
from tests.support.process import RunningProcess, RunProcess


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command line ended with and wrote."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """The tab-separated lines that a pipe gets."""
        return [line.split("\t") for line in self.out.splitlines()]


@dataclass(slots=True)
class CommandLine:
    """`dragoman` in one home: call it with its words."""

    home: Path
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    environ: dict[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, stdin: str = "", **environ: str) -> Outcome:
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        self.capsys.readouterr()
        status = run(words, {"DRAGOMAN_HOME": str(self.home), **self.environ, **environ})
        captured = self.capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    def ok(self, *words: str, **options: str) -> Outcome:
        """Call it, and expect that it succeeds."""
        outcome = self(*words, **options)
        assert outcome.status == 0, outcome.err
        return outcome


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """`serve` sets up its process's logging, onto a stderr that a test takes away again."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def bare(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line in a home that is not there yet."""
    return CommandLine(tmp_path / "home", capsys, monkeypatch)


@pytest.fixture
def dragoman(bare: CommandLine) -> CommandLine:
    """The command line in a home with a master key, a current schema, and workspace ws_one of organisation org."""
    path = load_settings({"DRAGOMAN_HOME": str(bare.home)}).master_key_path()
    assert path is not None
    create_master_key_file(path)
    bare.ok("migrate")
    bare.ok("workspaces", "create", "One", "--id", "ws_one", "--org", "org")
    return bare


def add_demo(dragoman: CommandLine, demo: DemoProcess, key: str | None = None) -> Outcome:
    """Add the demo provider as `demo`; commands may go to it from now on."""
    dragoman.environ["DRAGOMAN_ALLOWED_ENDPOINTS"] = demo.base_url.removeprefix("http://").removesuffix("/v1")
    words = ("providers", "add", "demo", "--provider", "custom", "--endpoint", demo.base_url)
    return dragoman.ok(*words, stdin=key or demo.api_key)


@dataclass(frozen=True, slots=True)
class Served:
    """`dragoman serve` in the home of `dragoman`, whose commands call it as an admin; the process, and its port."""

    dragoman: CommandLine
    process: RunningProcess
    port: int


@pytest.fixture
def served(dragoman: CommandLine, demo_process: DemoProcess, run_process: RunProcess) -> Served:
    """A server with the demo's model as default."""
    add_demo(dragoman, demo_process)
    dragoman.ok("models", "default", "custom/demo-chat")
    key = dragoman.ok("keys", "create", "--role", "admin").out.strip()
    port = free_port()
    dragoman.environ |= {"DRAGOMAN_GRPC_PORT": str(port), "DRAGOMAN_EDGE_PORT": "0"}
    dragoman.environ["DRAGOMAN_API_KEY"] = key
    plain = {name: value for name, value in os.environ.items() if not name.startswith("DRAGOMAN_")}
    environ = plain | {"DRAGOMAN_HOME": str(dragoman.home)} | dragoman.environ
    process = run_process([sys.executable, "-m", "server", "serve"], env=environ)
    process.wait_for_line('"serving"', within=30)
    return Served(dragoman, process, port)
