"""Make or refresh the virtual environment from a hash-pinned lock. Standard library only: it runs before all else.

The packages are installed by ``uv``, itself taken from the lock by pip and checked against its hashes: a few seconds
instead of the minute that pip needs. pip's own settings (index, proxy, certificates) are handed on to uv; where uv
cannot be had or fails, pip installs the same lock. A stamp holds a digest of all inputs: a second run does nothing.
"""

from __future__ import annotations

import argparse
import ast
import fcntl
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MINIMUM = (3, 11)
# The checkout itself: editable, its build backend from the lock, nothing resolved.
PROJECT_ONLY = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]

# pip setting -> the environment variable by which uv takes the same thing.
UV_ENVIRONMENT = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
}
# Lowest first, as pip ranks them: a file's [global], then [install], then PIP_* variables.
SECTIONS = ("global", "install", ":env:")


class SetupError(Exception):
    """Something the user can mend; the text says what it is and what to do."""


def pip_settings(listing: str) -> dict[str, str]:
    """Read the output of ``pip config list``: one winning value for each setting, in pip's order of precedence."""
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        key, _, literal = line.partition("=")
        section, _, name = key.rpartition(".")
        if section not in SECTIONS:
            continue
        try:
            value = str(ast.literal_eval(literal))
        except (SyntaxError, ValueError):
            continue
        rank = SECTIONS.index(section)
        if name not in found or found[name][0] <= rank:
            found[name] = (rank, value)
    return {name: value for name, (_, value) in found.items()}


def uv_environment(settings: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for uv: the caller's own, with pip's settings under uv's names where the caller set none."""
    result = dict(environ)
    for name, variable in UV_ENVIRONMENT.items():
        if name in settings:
            separator = "," if variable == "UV_FIND_LINKS" else " "
            result.setdefault(variable, separator.join(settings[name].split()))
    # pip considers all indexes equally. Hashes are pinned, so the wider search cannot bring in another file.
    result.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    result.setdefault("UV_LINK_MODE", "copy")
    return result


def pinned(lock: str, name: str) -> str:
    """The entry of one package, hashes and all, out of a lock's text."""
    match = re.search(rf"^{re.escape(name)}==.*(?:\n[ \t]+--hash=.*)+", lock, flags=re.MULTILINE)
    if match is None:
        raise SetupError(f"the lock has no entry for {name}: run `make lock`")
    return match.group(0).rstrip(" \\") + "\n"


def fingerprint(*values: str) -> str:
    """A digest of some texts, in order."""
    return hashlib.sha256("\0".join(values).encode()).hexdigest()


def wanted_stamp(lock: Path, project: Path) -> str:
    """What the stamp of an up-to-date environment says: a line for the interpreter, a line for what is installed.

    Of the project's metadata only the parts count that an installation shows, so a linter's setting rebuilds nothing.
    """
    import tomllib  # noqa: PLC0415 - an older Python lacks it, and is to get as far as the message about its age

    metadata = tomllib.loads(project.read_text())
    shown = json.dumps([metadata["project"], metadata["tool"]["hatch"]], sort_keys=True)
    interpreter = fingerprint(sys.version, platform.machine(), sys.base_prefix)
    return f"{interpreter}\n{fingerprint(lock.read_text(), shown, Path(__file__).read_text())}\n"


def run(command: list[str], environ: Mapping[str, str] | None = None) -> bool:
    """Run a command with its output passed through; whether it succeeded."""
    return subprocess.run(command, env=environ, check=False).returncode == 0


def has_pip() -> bool:
    """Whether this interpreter brings pip."""
    probe = [sys.executable, "-m", "pip", "--version"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def make_empty(venv: Path) -> None:
    """Create the environment.

    Debian's Python lacks ``ensurepip`` unless python3-venv is installed, so the environment is made without pip and the
    interpreter's own pip reaches into it; only an interpreter without pip needs ensurepip.
    """
    without_pip = ["--without-pip"] if has_pip() else []
    if not run([sys.executable, "-m", "venv", "--clear", *without_pip, str(venv)]):
        raise SetupError(
            f"{sys.executable} can make no virtual environment: install its pip and venv modules "
            "(Debian, Ubuntu: apt-get install python3-pip python3-venv)"
        )


def pip_command(venv: Path) -> list[str]:
    """The pip that installs into the environment: the interpreter's own, else the environment's."""
    python = str(venv / "bin" / "python")
    return [sys.executable, "-m", "pip", "--python", python] if has_pip() else [python, "-m", "pip"]


def install_with_uv(pip: list[str], venv: Path, lock: Path) -> bool:
    """Bootstrap uv from the lock, then let it install the rest and the project; False where any of it fails."""
    listing = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=False)
    environ = uv_environment(pip_settings(listing.stdout), os.environ)
    with tempfile.TemporaryDirectory() as folder:
        entry = Path(folder) / "uv.txt"
        entry.write_text(pinned(lock.read_text(), "uv"))
        if not run([*pip, "install", "--quiet", "--require-hashes", "--no-deps", "-r", str(entry)]):
            return False
    uv = [str(venv / "bin" / "uv"), "pip"]
    into = ["--quiet", "--python", str(venv / "bin" / "python")]
    return run([*uv, "sync", *into, "--require-hashes", str(lock)], environ) and run(
        [*uv, "install", *into, *PROJECT_ONLY], environ
    )


def install_with_pip(pip: list[str], lock: Path) -> bool:
    """Install the lock and the project with pip alone; whether that succeeded."""
    install = [*pip, "install", "--quiet"]
    return run([*install, "--require-hashes", "-r", str(lock)]) and run([*install, *PROJECT_ONLY])


def ensure(venv: Path, lock: Path) -> None:
    """Bring the environment in line with the lock; a no-op where the stamp says that it is.

    Raises SetupError where it cannot be done.
    """
    if sys.version_info < MINIMUM:
        raise SetupError(f"Python 3.11 or newer is needed; {sys.executable} is {platform.python_version()}")
    stamp = venv / ".stamp"
    wanted = wanted_stamp(lock, ROOT / "pyproject.toml")
    present = stamp.read_text() if stamp.is_file() and (venv / "bin" / "python").exists() else ""
    if present == wanted:
        return
    print(f"setting up {venv.name} from {lock.name} ...", flush=True)
    # The same interpreter: packages are exchanged in place, and what runs from the environment keeps its files.
    if present.partition("\n")[0] != wanted.partition("\n")[0]:
        make_empty(venv)
    stamp.unlink(missing_ok=True)
    pip = pip_command(venv)
    if not install_with_uv(pip, venv, lock):
        print("uv could not install the lock; pip does it instead, which takes longer", file=sys.stderr, flush=True)
        if not install_with_pip(pip, lock):
            raise SetupError("the packages could not be installed: see the lines above, and check pip's index settings")
    stamp.write_text(wanted)


def main() -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements" / "dev.lock")
    arguments = parser.parse_args()
    try:
        # Two makes at once must not build one environment together; this file itself carries the lock.
        with Path(__file__).open("rb") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            ensure(arguments.venv, arguments.lock)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
