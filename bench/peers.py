"""Who is measured: how each is started, and how it is called. A new peer is a function and its row in PEERS."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from bench.gateway import PYTHONPATH, Furnished, envoy_config, furnish
from bench.processes import Process, free_port
from bench.setup import HERE, ROOT, VENVS
from bench.surfaces import Surface, grpc, openai, rest
from server.dev.envoy import command

_LITELLM_KEY: Final = "sk-3f9c1b7ad0e84652a1c09f7e55d2b8416c7d90ab"
"""Made up; LiteLLM starts only with a long one."""


class Missing(Exception):
    """A peer that is not installed; says how it would be."""


class Peer(msgspec.Struct, kw_only=True):
    """A started peer. processes: the gateway itself first. began: when, by perf_counter. slow: see Case.once."""

    name: str
    processes: list[Process]
    surfaces: list[Surface]
    began: float = 0.0
    slow: bool = False


class Place(msgspec.Struct, frozen=True):
    """What a peer is given to start with. folder: an empty one of its own. python: the interpreter of our own parts."""

    folder: Path
    provider: int
    python: str

    @property
    def environ(self) -> dict[str, str]:
        """The environment of every process: nothing but what it takes to run."""
        keep = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**keep, "HOME": str(self.folder), "PYTHONUNBUFFERED": "1"}

    def config(self, name: str, listen: int, upstream: int) -> Path:
        """A file of bench/conf with its ports."""
        text = (HERE / "conf" / name).read_text().replace("LISTEN", str(listen)).replace("UPSTREAM", str(upstream))
        path = self.folder / name
        path.write_text(text)
        return path


def _start(place: Place, name: str, argv: list[str], **environ: str) -> Process:
    log = place.folder / f"{name}.log"
    return Process(argv, environ={**place.environ, **environ}, cwd=ROOT, log=log)


def direct(place: Place) -> Peer:
    """The provider itself."""
    return Peer(name="direct", processes=[], surfaces=[openai("direct", place.provider)])


def envoy(place: Place) -> Peer:
    """Envoy as a plain proxy."""
    port = free_port()
    config = place.config("proxy.yaml", port, place.provider)
    process = _start(place, "envoy", command(config, concurrency=1, log_level="error"))
    return Peer(name="envoy", processes=[process], surfaces=[openai("envoy", port)])


def floor(place: Place) -> Peer:
    """bench/floor.py behind Envoy's transcoder."""
    port, behind = free_port(), free_port()
    argv = [place.python, "-m", "bench.floor", str(behind), f"http://127.0.0.1:{place.provider}/v1/chat/completions"]
    server = _start(place, "floor", argv, PYTHONPATH=PYTHONPATH)
    proxy = _start(place, "envoy", command(place.config("floor.yaml", port, behind), concurrency=1, log_level="error"))
    return Peer(name="floor", processes=[server, proxy], surfaces=[rest("floor", port)])


def dragoman(place: Place) -> Peer:
    """Ourselves, as `dragoman serve` behind envoy.yaml: keys, limits, counts and logs as in production."""
    return ours(place, furnish(place.folder, place.provider, place.python, place.environ))


def ours(place: Place, made: Furnished, module: str = "server", **environ: str) -> Peer:
    """Ourselves, over a store that is there. module: what serves."""
    began = time.perf_counter()
    server = _start(place, "server", [place.python, "-m", module, "serve"], **made.environ, **environ)
    config = envoy_config(place.folder, made)
    proxy = _start(place, "envoy", command(config, concurrency=1))
    return Peer(name="dragoman", processes=[server, proxy], surfaces=surfaces(made, made.key), began=began)


def surfaces(made: Furnished, key: str) -> list[Surface]:
    """All ways into our gateway, with one of its keys."""
    headers = {"authorization": f"Bearer {key}"}
    return [
        rest("rest", made.http_port, headers),
        openai("openai", made.http_port, headers, model="custom/"),
        grpc("grpc", made.http_port, headers),
        grpc("grpc-direct", made.grpc_port, headers),
    ]


def litellm(place: Place) -> Peer:
    """LiteLLM's proxy, one worker, in production mode, without a database."""
    port = free_port()
    argv = [_installed("litellm/bin/litellm"), "--config", str(place.config("litellm.yaml", port, place.provider))]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    process = _start(
        place,
        "litellm",
        argv,
        LITELLM_MASTER_KEY=_LITELLM_KEY,
        LITELLM_LOCAL_MODEL_COST_MAP="True",
        LITELLM_MODE="PRODUCTION",
        LITELLM_LOG="ERROR",
    )
    surface = openai("litellm", port, {"authorization": f"Bearer {_LITELLM_KEY}"})
    return Peer(name="litellm", processes=[process], surfaces=[surface], slow=True)


def mlflow(place: Place) -> Peer:
    """MLflow's gateway, one worker."""
    port = free_port()
    argv = [_installed("mlflow/bin/mlflow"), "gateway", "start"]
    argv += [
        "--config-path",
        str(place.config("mlflow.yaml", port, place.provider)),
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    path = str(VENVS / "mlflow" / "bin") + os.pathsep + os.environ.get("PATH", "")  # it starts gunicorn by name
    process = _start(place, "mlflow", argv, PATH=path)
    return Peer(name="mlflow", processes=[process], surfaces=[openai("mlflow", port)])


def portkey(place: Place) -> Peer:
    """Portkey's gateway, on Node.js."""
    port = free_port()
    script = _installed("node/node_modules/@portkey-ai/gateway/build/start-server.js")
    process = _start(place, "portkey", ["node", script, f"--port={port}", "--headless"], NODE_ENV="production")
    headers = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{place.provider}/v1",
        "authorization": "Bearer sk-mock",
    }
    return Peer(name="portkey", processes=[process], surfaces=[openai("portkey", port, headers)])


def _installed(path: str) -> str:
    if not (VENVS / path).exists():
        raise Missing("not installed; 'make bench-setup' does it")
    return str(VENVS / path)


PEERS: Final[dict[str, Callable[[Place], Peer]]] = {
    "direct": direct,
    "envoy": envoy,
    "floor": floor,
    "dragoman": dragoman,
    "mlflow": mlflow,
    "portkey": portkey,
    "litellm": litellm,
}
