"""Processes of a gateway: started as leaders of a session, so that whatever they start counts too, and stopped with all
of it. CPU and memory as /proc tells (Linux)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_STOP_SECONDS: Final = 8.0


class Process:
    """One process and its children. cwd: where it runs. log: what it says goes there."""

    def __init__(self, argv: Sequence[str], *, environ: Mapping[str, str], cwd: Path, log: Path) -> None:
        with log.open("wb") as out:
            self._popen = subprocess.Popen(
                argv,
                cwd=cwd,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.id = self._popen.pid
        self.log = log

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._popen.poll() is not None

    def stop(self) -> None:
        """End it and its children."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for id in session([self.id]).ids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(id, number)
            until = time.monotonic() + _STOP_SECONDS
            while session([self.id]).ids and time.monotonic() < until:
                self._popen.poll()
                time.sleep(0.05)
        self._popen.wait()


class Usage(msgspec.Struct):
    """What processes have used so far. cpu: seconds by program's name. Memory in MB, each process' peak added up."""

    ids: list[int]
    cpu: dict[str, float]
    rss: float
    peak: float


def session(leaders: Sequence[int]) -> Usage:
    """The live processes of these sessions."""
    used = Usage([], {}, 0.0, 0.0)
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
            fields = rest.split()
            if int(fields[3]) not in leaders or fields[0] == "Z":
                continue
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            used.ids.append(int(folder.name))
            used.cpu[name] = used.cpu.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / _TICKS
            used.rss += _megabytes(status, "VmRSS")
            used.peak += _megabytes(status, "VmHWM")
        except (OSError, IndexError, ValueError):  # it has just ended
            continue
    return used


def proportional(leaders: Sequence[int]) -> float:
    """Their memory in MB, shared pages by share (PSS)."""
    total = 0
    for id in session(leaders).ids:
        lines = Path(f"/proc/{id}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def open_files(leaders: Sequence[int]) -> int:
    """Descriptors of all of them: files, sockets, pipes."""
    return sum(len(list(Path(f"/proc/{id}/fd").iterdir())) for id in session(leaders).ids)


def forget_peak(leaders: Sequence[int]) -> None:
    """Let the peak of these sessions' processes begin anew, at what they hold now (proc(5), clear_refs)."""
    for id in session(leaders).ids:
        Path(f"/proc/{id}/clear_refs").write_text("5")


def steal() -> tuple[int, int]:
    """Ticks that the host took from this machine, and all there were."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return fields[7], sum(fields)


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: Process, seconds: float = 30.0) -> None:
    """Return once something listens there. Raises RuntimeError with the end of the log."""
    until = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.ended or time.monotonic() > until:
            raise RuntimeError(f"nothing listens on {port}; the log ends: {process.log.read_text()[-600:]}")
        time.sleep(0.005)


def _megabytes(status: Mapping[str, str], name: str) -> float:
    return int(status.get(name, "0 kB").split()[0]) / 1024
