"""Our own gateway for the benchmark: a database with a workspace, a key and the mock provider, made by its commands."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from bench.processes import free_port
from bench.setup import ROOT
from server.dev.envoy import Address, Addresses, render

PYTHONPATH: Final = os.pathsep.join((str(ROOT), str(ROOT / "gen" / "python")))


class Furnished(msgspec.Struct, frozen=True):
    """Where the gateway will be, and with which keys it is called, one for each workspace. environ: of the server."""

    grpc_port: int
    edge_port: int
    http_port: int
    keys: list[str]
    environ: dict[str, str]

    @property
    def key(self) -> str:
        """That of the first workspace."""
        return self.keys[0]


def furnish(folder: Path, provider: int, python: str, environ: Mapping[str, str], *, workspaces: int = 1) -> Furnished:
    """Make the database, as an operator would."""
    port, edge_port = free_port(), free_port()
    own = {
        "PYTHONPATH": PYTHONPATH,
        "DRAGOMAN_HOME": str(folder),
        "DRAGOMAN_GRPC_PORT": str(port),
        "DRAGOMAN_EDGE_PORT": str(edge_port),
        "DRAGOMAN_ALLOWED_ENDPOINTS": f"127.0.0.1:{provider}",
        "DRAGOMAN_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
    }

    def run(*words: str, stdin: str = "") -> str:
        done = subprocess.run(
            [python, "-m", "server", *words],
            cwd=ROOT,
            env={**environ, **own},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"dragoman {' '.join(words)}: {done.stderr.strip()[-600:]}")
        return done.stdout.strip()

    run("migrate")
    endpoint = f"http://127.0.0.1:{provider}/v1"
    keys = []
    for number in range(workspaces):
        id = f"ws_bench{number or ''}"
        run("workspaces", "create", id, "--id", id)
        run("providers", "add", "mock", "--provider", "custom", "--endpoint", endpoint, "-w", id, stdin="sk-mock")
        keys.append(run("keys", "create", "-w", id))
    return Furnished(port, edge_port, free_port(), keys, own)


def envoy_config(folder: Path, made: Furnished) -> Path:
    """envoy.yaml at this gateway's addresses."""
    path = folder / "envoy.yaml"
    rest, server, edge, admin = (
        Address("127.0.0.1", port) for port in (made.http_port, made.grpc_port, made.edge_port, 0)
    )
    addresses = Addresses(rest=rest, server=server, edge=edge, admin=admin)
    path.write_text(render((ROOT / "envoy.yaml").read_text(), addresses))
    return path
