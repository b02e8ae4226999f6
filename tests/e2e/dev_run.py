"""`dragoman dev` as a process, and what there is to know of it."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.ports import free_port
from tests.support.process import RunningProcess

ARGV = [sys.executable, "-m", "server", "dev"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run keeps its data, and its ports."""

    home: Path
    grpc: int
    edge: int
    http: int
    demo: int

    def environ(self, **more: str) -> dict[str, str]:
        """The process's environment: this one's, without settings and without anybody's real key."""
        base = {name: value for name, value in os.environ.items() if not name.startswith(("DRAGOMAN_", "OPENAI_"))}
        return base | {
            "DRAGOMAN_HOME": str(self.home),
            "DRAGOMAN_GRPC_PORT": str(self.grpc),
            "DRAGOMAN_EDGE_PORT": str(self.edge),
            "DRAGOMAN_HTTP_PORT": str(self.http),
            "DRAGOMAN_DEMO_PORT": str(self.demo),
            **more,
        }

    @property
    def env_file(self) -> Path:
        return self.home / "dev.env"


def new_place(home: Path) -> Place:
    """A place with free ports."""
    return Place(home, *(free_port() for _ in range(4)))


@dataclass(frozen=True, slots=True)
class DevRun:
    """A run that said that it is ready."""

    place: Place
    process: RunningProcess

    @property
    def env(self) -> dict[str, str]:
        """What dev.env says."""
        lines = self.place.env_file.read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    @property
    def key(self) -> str:
        return self.env["DRAGOMAN_API_KEY"]

    @property
    def commands(self) -> list[str]:
        """The commands that it printed to be pasted."""
        return re.findall(r"^  ((?:curl|DRAGOMAN_API_KEY=).*)$", self.process.output, re.MULTILINE)

    @contextmanager
    def rest(self, key: str | None = None) -> Iterator[httpx.Client]:
        """A REST client through its Envoy, as the caller with `key` (default: dev.env's)."""
        headers = {"authorization": f"Bearer {key or self.key}"}
        url = f"http://127.0.0.1:{self.place.http}"
        with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
            yield client

    def generate(self, prompt: str = "Hello") -> httpx.Response:
        """Ask with a prompt and nothing else."""
        with self.rest() as client:
            return client.post("/api/v1/ai/llm/generate", json={"prompt": prompt})


def start(place: Place, **environ: str) -> RunningProcess:
    """Start a run."""
    return RunningProcess(ARGV, env=place.environ(**environ))


@contextmanager
def dev_run(place: Place, **environ: str) -> Iterator[DevRun]:
    """A run that is ready, ended with the block."""
    with start(place, **environ) as process:
        process.wait_for_line(r"^Ctrl-C stops all of it\.$", within=60)
        yield DevRun(place, process)


def children(pid: int) -> dict[str, int]:
    """The process's children: name of the program (demo or envoy) and id."""
    found: dict[str, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                words = (entry / "cmdline").read_text().split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == pid:
                found["demo" if "server.dev.demo_provider" in words else Path(words[0]).name] = int(entry.name)
    return found


def mode(path: Path) -> int:
    """Permission bits."""
    return stat.S_IMODE(path.stat().st_mode)
