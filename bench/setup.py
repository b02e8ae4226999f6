"""Install what the figures need and `make venv` does not bring: an optimised interpreter's environment for our own
server, the peers, and what draws the plot, each into an environment of its own under bench/.venvs. Run again, it does
what is left to do.

Every peer is optional: what cannot be installed is said, and is missing from the table.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tools.venv import pip_settings, uv_environment

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
VENVS = HERE / ".venvs"
RUN = HERE / ".run"
UV = str(ROOT / ".venv" / "bin" / "uv")

OPTIMISED = Path("/usr/bin/python3.11")
"""Debian's build. Interpreters that were built without --enable-optimizations are 1.2 to 1.6 times slower, for every
peer."""

# Pinned to what docs/performance.md shows.
PEERS = {
    "dragoman": ["-r", str(ROOT / "requirements" / "server.lock"), "aiohttp==3.14.5"],  # aiohttp: the floor's
    "litellm": ["litellm[proxy]==1.106.2"],
    "mlflow": ["mlflow[gateway]==3.17.2"],
    "tools": ["matplotlib==3.11.2", "py-spy==0.4.3"],
}


def interpreter() -> str:
    """What all environments are made with: BENCH_PYTHON, else Debian's, else the one that runs this."""
    given = os.environ.get("BENCH_PYTHON")
    return given or (str(OPTIMISED) if OPTIMISED.exists() else sys.executable)


def uv_settings() -> Mapping[str, str]:
    """The environment for uv: where this machine's pip takes packages from."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    return uv_environment(pip_settings(listing.stdout), os.environ)


def install_python(name: str, packages: list[str], environ: Mapping[str, str]) -> bool:
    """One environment; whether it is whole."""
    venv = VENVS / name
    if not (venv / "bin" / "python").exists():
        made = subprocess.run([UV, "venv", "--quiet", "--python", interpreter(), str(venv)], env=environ, check=False)
        if made.returncode:
            return False
    # Compiled: else the first start would do it, and start-up is measured.
    into = ["--quiet", "--compile-bytecode", "--python", str(venv / "bin" / "python")]
    return subprocess.run([UV, "pip", "install", *into, *packages], env=environ, check=False).returncode == 0


def install_portkey() -> bool:
    """Portkey's gateway, by npm."""
    npm = shutil.which("npm")
    if npm is None:
        print("portkey: needs Node.js with npm", file=sys.stderr)
        return False
    target = VENVS / "node"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "node" / "package.json", target)
    return (
        subprocess.run([npm, "install", "--no-audit", "--no-fund", "--silent"], cwd=target, check=False).returncode == 0
    )


def main() -> int:
    """Install what the command line names, or all; the exit status is that of our own environment."""
    wanted = sys.argv[1:] or [*PEERS, "portkey"]
    environ = uv_settings()
    failed = []
    for name in wanted:
        print(f"{name} ...", flush=True)
        if not (install_portkey() if name == "portkey" else install_python(name, PEERS[name], environ)):
            failed.append(name)
    if failed:
        print(f"not installed: {', '.join(failed)}", file=sys.stderr)
    return int("dragoman" in failed)


if __name__ == "__main__":
    sys.exit(main())
