"""Real processes in tests: started by argument list, waited for, captured, and always stopped by their id."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import pytest

PROJECT = Path(__file__).resolve().parents[2]
POLL_SECONDS = 0.02

T = TypeVar("T")


class RunningProcess:
    """A child process with its output in a file.

    Start with `RunningProcess(argv)`; use it as a context manager, or through the `run_process` fixture, so that it
    cannot outlive the test. The process leads a group of its own: what it started goes with it when it is stopped.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = PROJECT,
        log: Path | None = None,
    ) -> None:
        """Start argv. env: the whole environment (default: this one's). log: where stdout and stderr go together."""
        self.argv = [str(word) for word in argv]
        if log is None:
            handle, name = tempfile.mkstemp(prefix="dragoman-test-", suffix=".log")
            os.close(handle)
            log, self._owns_log = Path(name), True
        else:
            self._owns_log = False
        self.log = log
        self._kept_output: str | None = None
        with log.open("wb") as sink:
            self._child = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=None if env is None else dict(env),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal, None while it runs."""
        if self._child.returncode is not None:
            return self._child.returncode
        # Looked at without reaping: until `stop`, neither the id nor the group's can come to mean another process.
        end = os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if end is None:
            return None
        return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status

    @property
    def output(self) -> str:
        """Everything it wrote so far, stdout and stderr together."""
        return self._kept_output if self._kept_output is not None else self.log.read_text(errors="replace")

    def wait_for_line(self, pattern: str, within: float = 20.0) -> re.Match[str]:
        """The match of a regular expression in the output. Raises AssertionError, with the output, without one."""
        return self._wait(lambda: re.search(pattern, self.output, re.MULTILINE), within, f"a line like {pattern!r}")

    def wait_for_port(self, port: int, within: float = 20.0, host: str = "127.0.0.1") -> None:
        """Return once something accepts connections on port. Raises AssertionError, with the output, if not."""

        def connects() -> bool | None:
            try:
                with socket.create_connection((host, port), timeout=1):
                    return True
            except OSError:
                return None

        self._wait(connects, within, f"port {port}")

    def wait(self, within: float = 20.0) -> int:
        """The exit code, once it has ended by itself. Raises AssertionError, with the output, if it does not."""
        return self._wait(lambda: self.returncode, within, "end")

    async def wait_for_line_async(self, pattern: str, within: float = 20.0) -> re.Match[str]:
        """wait_for_line, with the event loop free meanwhile."""
        return await asyncio.to_thread(self.wait_for_line, pattern, within)

    async def wait_for_port_async(self, port: int, within: float = 20.0) -> None:
        """wait_for_port, with the event loop free meanwhile."""
        await asyncio.to_thread(self.wait_for_port, port, within)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, not to its group. Nothing when it has ended."""
        if self.returncode is None:
            os.kill(self._child.pid, number)

    def kill(self) -> int:
        """SIGKILL to the process and what it started. Returns the exit code."""
        return self._reap()

    def stop(self, grace: float = 10.0) -> int:
        """SIGTERM, after `grace` seconds SIGKILL, also to what it left behind. Returns the exit code."""
        self.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self.returncode is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return self._reap()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _reap(self) -> int:
        if self._child.returncode is None:
            os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
            if self._owns_log:
                self._kept_output = self.log.read_text(errors="replace")
                self.log.unlink()
        return self._child.returncode

    def _wait(self, look: Callable[[], T | None], within: float, what: str) -> T:
        deadline = time.monotonic() + within
        while True:
            # Asked before the look: a process may say its word and end.
            ended = self.returncode is not None
            if (found := look()) is not None:
                return found
            if ended:
                raise AssertionError(self._report(f"ended with {self.returncode} before {what}"))
            if time.monotonic() > deadline:
                raise AssertionError(self._report(f"no {what} within {within} s"))
            time.sleep(POLL_SECONDS)

    def _report(self, what: str) -> str:
        return f"{self.argv[0]}: {what}; it wrote:\n{self.output[-4000:]}"


RunProcess = Callable[..., RunningProcess]


@pytest.fixture
def run_process(tmp_path: Path) -> Iterator[RunProcess]:
    """`run_process(argv, env=..., cwd=...)` starts a RunningProcess that is stopped when the test ends."""
    started: list[RunningProcess] = []

    def run(argv: Sequence[str | Path], **options: object) -> RunningProcess:
        options.setdefault("log", tmp_path / f"process-{len(started)}.log")
        process = RunningProcess(argv, **options)  # type: ignore[arg-type]
        started.append(process)
        return process

    yield run
    for process in reversed(started):
        process.stop()
