"""aimock, a server of LLM providers' protocols that was not written here (@copilotkit/aimock, pinned in tools/aimock).

`npm ci --prefix tools/aimock` installs it, as CI does; without it, tests that need it skip with that reason.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import PROJECT, RunProcess

CLI = PROJECT / "tools" / "aimock" / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"

StartAimock = Callable[..., str]


@pytest.fixture
def aimock(run_process: RunProcess, tmp_path: Path) -> StartAimock:
    """`aimock(fixtures, *options)` starts it on a free loopback port and gives its origin. fixtures: rows of its own
    kind, `{"match": {...}, "response": {...}}`, the first that fits answers. It ends with the test."""
    node = shutil.which("node")
    if node is None or not CLI.exists():
        pytest.skip("aimock is not installed: npm ci --prefix tools/aimock (Node.js 20 or newer)")

    def start(fixtures: Sequence[Mapping[str, Any]], *options: str) -> str:
        file = tmp_path / "aimock.json"
        file.write_text(json.dumps({"fixtures": list(fixtures)}), "utf-8")
        process = run_process([node, CLI, "--port", "0", "--fixtures", file, *options])
        return process.wait_for_line(r"listening on (http://127\.0\.0\.1:\d+)").group(1)

    return start
