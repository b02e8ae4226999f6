"""The real Envoy, with the real envoy.yaml, in front of whatever gRPC server a test has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from server.dev.envoy import Address, Addresses, command, render
from tests.support.process import PROJECT, RunningProcess

# Nothing listens there: for a proxy whose server is down. (Port 1 is tcpmux, which nobody runs.)
NOWHERE = Address("127.0.0.1", 1)
ANY_PORT = Address("127.0.0.1", 0)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running Envoy. rest: port of REST and gRPC; admin: port of its admin interface."""

    rest: int
    admin: int
    process: RunningProcess

    @property
    def url(self) -> str:
        """Base URL of the REST side."""
        return f"http://127.0.0.1:{self.rest}"

    @property
    def target(self) -> str:
        """The same for gRPC channels."""
        return f"127.0.0.1:{self.rest}"

    def access_log(self) -> list[str]:
        """The access log's lines so far. Envoy flushes it when it ends: stop the process first."""
        return [line for line in self.process.output.splitlines() if line.startswith("{")]


@contextmanager
def proxy(
    folder: Path, server: Address, edge: Address, *, replace: dict[str, str] | None = None, template: str | None = None
) -> Iterator[Proxy]:
    """Run Envoy before the server that has its gRPC at `server`. folder: an empty one. replace: texts of envoy.yaml.
    template: what to run in the place of envoy.yaml."""
    if template is None:
        template = (PROJECT / "envoy.yaml").read_text()
    config = render(template, Addresses(rest=ANY_PORT, server=server, edge=edge, admin=ANY_PORT))
    for old, new in (replace or {}).items():
        assert old in config, f"envoy.yaml no longer says {old!r}"
        config = config.replace(old, new)
    (folder / "envoy.yaml").write_text(config)
    admin_file = folder / "admin"
    argv = command(folder / "envoy.yaml", concurrency=1, admin_file=admin_file)
    with RunningProcess(argv, cwd=PROJECT, log=folder / "envoy.log") as process:
        admin = _admin_port(process, admin_file)
        yield Proxy(rest=_listener_port(process, admin), admin=admin, process=process)


def _admin_port(process: RunningProcess, file: Path, within: float = 20.0) -> int:
    deadline = time.monotonic() + within
    while not (file.exists() and ":" in file.read_text()):
        if process.returncode is not None or time.monotonic() > deadline:
            raise AssertionError(f"Envoy did not start; it wrote:\n{process.output}")
        time.sleep(0.02)
    return int(file.read_text().rpartition(":")[2])


def _listener_port(process: RunningProcess, admin: int, within: float = 20.0) -> int:
    deadline = time.monotonic() + within
    with httpx.Client(base_url=f"http://127.0.0.1:{admin}") as client:
        while True:
            if client.get("/ready").status_code == 200:
                listeners = client.get("/listeners", params={"format": "json"}).json()["listener_statuses"]
                return int(listeners[0]["local_address"]["socket_address"]["port_value"])
            if process.returncode is not None or time.monotonic() > deadline:
                raise AssertionError(f"Envoy is not ready; it wrote:\n{process.output}")
            time.sleep(0.02)
