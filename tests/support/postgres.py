"""A real Postgres of the machine's own binaries, private to the test run: a cluster in a temporary directory, reached
by a Unix socket alone, stopped by its process."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_ROLE = "dragoman"
_START_SECONDS = 30.0
_BINARIES = ("initdb", "postgres", "pg_isready", "createdb")


def find_binaries() -> Path | None:
    """The directory that holds what is needed of Postgres: on the PATH, or where Debian puts them; None without."""
    on_path = shutil.which("initdb")
    places = [Path(on_path).resolve().parent] if on_path else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if all((place / name).exists() for name in _BINARIES)), None)


class PostgresCluster:
    """start and stop may follow each other; the data stays until `remove`. directory: all its files, the log too.
    options: the server's settings beyond those that it needs here."""

    def __init__(self, binaries: Path, **options: str) -> None:
        self._binaries = binaries
        self._options = options
        # Short: a Unix socket's path has 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="dgm-pg-"))
        self._server: subprocess.Popen[bytes] | None = None
        self._identity = self._unprivileged()
        self._databases = 0
        command: list[str | Path] = [
            binaries / "initdb",
            "-D",
            self.directory / "data",
            "-U",
            _ROLE,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "-N",
        ]
        subprocess.run(command, check=True, capture_output=True, **self._identity)

    def _unprivileged(self) -> dict[str, Any]:
        """Postgres refuses to run as root: then it runs as another user, who owns the directory."""
        if os.geteuid() != 0:
            return {}
        names = {entry.pw_name: entry for entry in pwd.getpwall()}
        entry = names.get("postgres") or names["nobody"]
        os.chown(self.directory, entry.pw_uid, entry.pw_gid)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "cwd": self.directory}

    def start(self) -> None:
        needed = {"listen_addresses": "", "fsync": "off", "unix_socket_directories": str(self.directory)}
        flags = [part for name, value in (self._options | needed).items() for part in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [str(self._binaries / "postgres"), "-D", str(self.directory / "data"), *flags],
                stdout=log,
                stderr=log,
                **self._identity,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.directory / "log").read_text())
            time.sleep(0.02)

    def _answers(self) -> bool:
        command: list[str | Path] = [self._binaries / "pg_isready", "-q", "-h", self.directory]
        return subprocess.run(command, check=False).returncode == 0

    def stop(self) -> None:
        """At once: open connections are ended, as in an operator's restart."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(_START_SECONDS)
            self._server = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    def create_database(self, like: str = "") -> str:
        """A new one's address. like: the address of another one of this cluster, which nobody uses meanwhile, and whose
        content it begins with; without it, it is empty."""
        self._databases += 1
        name = f"test_{self._databases}"
        template = like.partition("@/")[2].partition("?")[0] or "template1"
        command: list[str | Path] = [
            self._binaries / "createdb",
            "-h",
            self.directory,
            "-U",
            _ROLE,
            "-T",
            template,
            name,
        ]
        subprocess.run(command, check=True, capture_output=True)
        return f"postgresql://{_ROLE}@/{name}?host={self.directory}"


def new_cluster(**options: str) -> Iterator[PostgresCluster]:
    """A running cluster; skips outside CI where the machine has no Postgres. options: as of PostgresCluster."""
    binaries = find_binaries()
    if binaries is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Postgres' server binaries (initdb, postgres, ...)")
        pytest.skip("no Postgres server binaries here (initdb, postgres, ...)")
    cluster = PostgresCluster(binaries, **options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[PostgresCluster]:
    """One for all tests of the run that do not stop it."""
    yield from new_cluster()
