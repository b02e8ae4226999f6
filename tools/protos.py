"""Hold the contract against buf: lint, format, and no change that breaks callers on the wire or in JSON.

buf comes from npm, pinned in tools/buf/. Without Node the check is skipped with its reason, except in CI.

What a change must not break is the contract on the main branch. On main itself, where that would compare it with
itself, it is the contract before the newest commit that changed it (and the work tree is compared with main as well).
A break that is meant carries its reason in that commit's message, on a line ``Contract-break: ...``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "tools" / "buf"
BUF = HOME / "node_modules" / ".bin" / "buf"
MAIN = "main"
TRAILER = "Contract-break:"


class CheckError(Exception):
    """The check cannot run here; the text says why."""


def git(*arguments: str) -> str:
    """The output of a git command; empty where it fails (an unknown ref, no repository)."""
    found = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else ""


def install() -> None:
    """Install buf as its lock says, unless that is done already. Raises CheckError."""
    installed, wanted = HOME / "node_modules" / ".package-lock.json", HOME / "package-lock.json"
    if BUF.exists() and installed.stat().st_mtime >= wanted.stat().st_mtime:
        return
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise CheckError("Node.js with npm is needed for buf (@bufbuild/buf), and is not installed")
    # Not `npm ci`, which asks for buf's binaries for all platforms in the lock: it has those for Linux, with digests.
    command = [npm, "install", "--no-save", "--ignore-scripts", "--silent"]
    if subprocess.run(command, cwd=HOME, check=False).returncode != 0:
        raise CheckError("npm could not install buf from tools/buf/package-lock.json")
    installed.touch()


def buf(*arguments: str) -> bool:
    """Run buf in the checkout; whether it was content."""
    return subprocess.run([BUF, *arguments], cwd=ROOT, check=False).returncode == 0


def has_contract(ref: str) -> bool:
    """Whether a commit has both the contract and buf's configuration for it."""
    return all(git("cat-file", "-t", f"{ref}:{path}") for path in ("protos", "buf.yaml"))


def bases() -> list[str]:
    """The commits whose contract must go on working: see the module's text."""
    main = git("rev-parse", "--verify", "--quiet", MAIN) or git("rev-parse", "--verify", "--quiet", f"origin/{MAIN}")
    head = git("rev-parse", "HEAD")
    if main and main != head:
        return [main]
    newest = git("log", "-1", "--format=%H", "--", "protos")
    before = git("rev-parse", "--verify", "--quiet", f"{newest}^") if newest else ""
    reason = next((line for line in git("log", "-1", "--format=%B", newest).splitlines() if TRAILER in line), "")
    if before and reason:
        print(f"{newest[:12]} broke the contract on purpose. {reason}")
        before = ""
    return [ref for ref in (before, head) if ref]


def breaking() -> bool:
    """Compare with each base that has a contract; whether none is broken."""
    held = True
    compared = [ref for ref in bases() if has_contract(ref)]
    if not compared:
        print("buf breaking: no earlier contract to compare with")
    for ref in compared:
        held = buf("breaking", "--against", f".git#ref={ref}") and held
    return held


def main() -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--format", action="store_true", help="rewrite protos/ in buf's format, check nothing")
    arguments = parser.parse_args()
    try:
        install()
    except CheckError as error:
        if os.environ.get("CI"):
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(f"skipped: buf lint, format and breaking: {error}")
        return 0
    if arguments.format:
        return 0 if buf("format", "--write", "protos") else 1
    results = [buf("lint"), buf("format", "--diff", "--exit-code", "protos"), breaking()]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
