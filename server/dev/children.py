"""Child processes that cannot outlive their parent: not when it stops them, and not when it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

STOP_SECONDS = 5.0
"""How long a child may take to end after SIGTERM before it gets SIGKILL."""

_LOOK_SECONDS = 0.1

_PR_SET_PDEATHSIG = 1
"""prctl(2)."""

_INHERITED = ("HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "TMPDIR", "TZ", "VIRTUAL_ENV")


class Child:
    """A running child. purpose: for people. log: the file with its output of this run."""

    def __init__(self, purpose: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.purpose = purpose
        self.log = log
        self._process = process

    async def ended(self) -> int:
        """Its exit status, once it has ended; negative for a signal."""
        # Looked at, not waited for: a thread that waits would keep the event loop from ending before the child does.
        while (status := self._process.poll()) is None:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(_LOOK_SECONDS)
        return status

    def last_words(self) -> str:
        """The last line that it wrote, "" for none."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:500] if lines else ""


class Children:
    """Starts children, and ends all of them. Use it from the main thread, as a context manager."""

    def __init__(self, logs: Path, *, stop_seconds: float = STOP_SECONDS) -> None:
        self._logs = logs
        self._stop_seconds = stop_seconds
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, purpose: str, name: str, argv: Sequence[str], *, cwd: Path, environ: Mapping[str, str]) -> Child:
        """Start `argv` with its output in `name`.log. Of `environ` only what says where things are is handed on: no
        setting and no credential. Raises OSError."""
        log = self._logs / f"{name}.log"
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
            process = subprocess.Popen(
                list(argv),
                cwd=cwd,
                env={name: environ[name] for name in _INHERITED if name in environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C goes to the terminal's whole group, and running streams need the children until they are done.
                process_group=0,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - this process has no other thread yet
            )
        self._processes.append(process)
        return Child(purpose, process, log)

    def stop(self) -> None:
        """End every child and wait until it is gone: SIGTERM, then SIGKILL for what outlasts `stop_seconds`."""
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + self._stop_seconds
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def end_with_make() -> None:
    """Have this process get SIGTERM when a `make` that runs it dies, SIGKILL included (Linux): `make run` is one thing
    to whoever started it."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        if Path(f"/proc/{os.getppid()}/comm").read_text().strip() in {"make", "gmake"}:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def _die_with_parent() -> Callable[[], None] | None:
    """What the kernel is asked for between fork and exec, so that the child dies with a parent that got SIGKILL.

    Linux alone has this; elsewhere a killed parent leaves its children, and the next start names the taken ports.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:  # it was killed before the kernel knew
            os._exit(1)

    return ask
