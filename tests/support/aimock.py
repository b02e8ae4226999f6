"""aimock, a server of LLM providers' protocols that was not written here (@copilotkit/aimock, pinned in tools/aimock).

`npm ci --prefix tools/aimock` installs it, as CI does; without it, tests that need it skip with that reason.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import PROJECT, RunningProcess, RunProcess

CLI = PROJECT / "tools" / "aimock" / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"

StartAimock = Callable[..., str]

LISTENING = r"listening on (http://127\.0\.0\.1:\d+)"


def aimock_command(file: Path, fixtures: Sequence[Mapping[str, Any]], *options: str) -> list[str | Path]:
    """How to start it on a free loopback port; it says `LISTENING` then. file: where the rows are put. Skips the test
    where it is not installed."""
    node = shutil.which("node")
    if node is None or not CLI.exists():
        pytest.skip("aimock is not installed: npm ci --prefix tools/aimock (Node.js 20 or newer)")
    file.write_text(json.dumps({"fixtures": list(fixtures)}), "utf-8")
    return [node, CLI, "--port", "0", "--fixtures", file, *options]


@contextmanager
def running_aimock(
    folder: Path, fixtures: Sequence[Mapping[str, Any]], *options: str, api_keys: Sequence[str] = ()
) -> Iterator[str]:
    """aimock's origin, until the block ends. folder: an empty one. api_keys: the only ones that it takes, as a bearer
    token or in any provider's own header; none: everybody is served."""
    command = aimock_command(folder / "aimock.json", fixtures, *options)
    keys = {"AIMOCK_API_KEYS": ",".join(api_keys)} if api_keys else {}
    with RunningProcess(command, env={**os.environ, **keys}, log=folder / "aimock.log") as process:
        yield process.wait_for_line(LISTENING).group(1)


@pytest.fixture
def aimock(run_process: RunProcess, tmp_path: Path) -> StartAimock:
    """`aimock(fixtures, *options)` starts it on a free loopback port and gives its origin. fixtures: rows of its own
    kind, `{"match": {...}, "response": {...}}`, the first that fits answers. It ends with the test."""

    def start(fixtures: Sequence[Mapping[str, Any]], *options: str) -> str:
        process = run_process(aimock_command(tmp_path / "aimock.json", fixtures, *options))
        return process.wait_for_line(LISTENING).group(1)

    return start
