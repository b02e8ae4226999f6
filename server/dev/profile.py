"""`dragoman dev`, which is `make run`: server, Envoy and demo provider on loopback, with keys and data under one home.

The children start first and the server's own, longer start runs beside them; nothing is printed before a call through
Envoy is answered. Whatever ends one of the parts ends all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import msgspec

from server.core.endpoint import EndpointPolicy
from server.core.secret import Secret
from server.core.setup import SetupError
from server.dev.children import Child, Children, end_with_make
from server.dev.env_file import write_private
from server.dev.envoy import Address, Addresses, EnvoyNotInstalledError, command, render
from server.dev.greeting import greeting
from server.dev.ports import HOST, Ports, choose_ports
from server.settings import Settings

if TYPE_CHECKING:
    import aiohttp

GRACE_SECONDS = 3.0
"""How long running streams may go on after Ctrl-C, unless DRAGOMAN_SHUTDOWN_GRACE_SECONDS says otherwise: a person is
waiting."""

READY_SECONDS = 30.0
POLL_SECONDS = 0.02

_ROOT = Path(__file__).resolve().parents[2]
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _EarlySignals:
    """Takes signals until the event loop does. They are noted and not raised: an exception that arises inside a hook of
    the interpreter (after a fork, at a weak reference's end) is printed and lost, and the signal with it."""

    def __init__(self) -> None:
        self.came = False
        for number in _taken_signals():
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True


class Profile(msgspec.Struct, frozen=True):
    """One run. settings: adjusted for this profile. demo_key_file, logs: in the home. started: monotonic seconds."""

    settings: Settings
    ports: Ports
    home: Path
    logs: Path
    demo_key: Secret
    openai_key: Secret | None
    started: float


def run(settings: Settings, environ: Mapping[str, str]) -> None:
    """Run everything until SIGINT or SIGTERM.

    environ: for OPENAI_API_KEY, and for what children need of it. Raises SetupError where something is not as it must
    be (before anything is started, if that can be known) or a part has ended by itself; DragomanError.
    """
    started = time.monotonic()
    if settings.grpc_host != HOST:
        raise SetupError(f"The dev profile serves {HOST} alone.", mend="Unset DRAGOMAN_GRPC_HOST, or use 'serve'.")
    ports = choose_ports(settings.grpc_port, settings.edge_port, settings.http_port, settings.demo_port)
    template = _envoy_template()
    with _home(settings.home) as home:
        early = _EarlySignals()
        end_with_make()
        profile = _profile(settings, environ, ports, home, started)
        with Children(profile.logs) as children:
            parts = _start_children(children, profile, template, environ)
            _serve(profile, parts, early)


def _envoy_template() -> str:
    try:
        return (_ROOT / "envoy.yaml").read_text()
    except FileNotFoundError as exc:
        raise SetupError(
            "The dev profile needs Dragoman's source tree, and envoy.yaml is not in it.", mend="Run it from a checkout."
        ) from exc


@contextlib.contextmanager
def _home(path: Path) -> Iterator[Path]:
    """The home, made where it is missing, and held against a second dev profile."""
    path = path.absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (path / "logs").mkdir(mode=0o700, exist_ok=True)
        lock = (path / "dev.lock").open("w")
    except OSError as exc:
        raise SetupError(
            f"{path} cannot be used ({exc.strerror}).", mend="Set DRAGOMAN_HOME to another place."
        ) from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SetupError(
                f"Another dev profile runs with its data in {path}.", mend="Stop it, or set DRAGOMAN_HOME for this one."
            ) from None
        yield path


def _taken_signals() -> list[signal.Signals]:
    """Those to end by; without SIGHUP where nohup has it ignored."""
    return [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN or number != signal.SIGHUP]


def _profile(settings: Settings, environ: Mapping[str, str], ports: Ports, home: Path, started: float) -> Profile:
    if settings.tls_files() is not None:
        raise SetupError(
            "The dev profile speaks on loopback without TLS, and DRAGOMAN_TLS_CERT_FILE is set.",
            mend="Unset it, or run 'dragoman serve' behind an Envoy of your own (docs/tls.md).",
        )
    allowed = settings.allowed_endpoints
    openai_key = environ.get("OPENAI_API_KEY", "").strip()
    grace = settings.shutdown_grace_seconds
    return Profile(
        settings=msgspec.structs.replace(
            settings,
            grpc_port=ports.grpc,
            edge_port=ports.edge,
            allowed_endpoints=EndpointPolicy(allowed.hosts | {(HOST, ports.demo)}, allowed.networks),
            shutdown_grace_seconds=grace if environ.get("DRAGOMAN_SHUTDOWN_GRACE_SECONDS") else GRACE_SECONDS,
        ),
        ports=ports,
        home=home,
        logs=home / "logs",
        demo_key=_demo_key(home / "demo.key"),
        openai_key=Secret(openai_key) if openai_key else None,
        started=started,
    )


def _demo_key(path: Path) -> Secret:
    """The key that the demo provider takes; made on the first run."""
    if not path.exists():
        write_private(path, f"demo_{secrets.token_urlsafe(32)}\n")
    path.chmod(0o600)
    return Secret(path.read_text().strip())


def _start_children(
    children: Children, profile: Profile, template: str, environ: Mapping[str, str]
) -> tuple[Child, ...]:
    """Envoy and the demo provider. Raises SetupError."""
    config = profile.home / "envoy.yaml"
    ports = profile.ports
    addresses = Addresses(
        rest=Address(HOST, ports.http),
        server=Address(HOST, ports.grpc),
        edge=Address(HOST, ports.edge),
        admin=Address(HOST, 0),
    )
    config.write_text(render(template, addresses))
    demo = [sys.executable, "-m", "server.dev.demo_provider", "--port", str(profile.ports.demo)]
    demo += ["--key-file", str(profile.home / "demo.key")]
    try:
        proxy = command(config, admin_file=profile.logs / "envoy-admin")
        return (
            children.start("The demo provider", "demo", demo, cwd=_ROOT, environ=environ),
            children.start("Envoy", "envoy", proxy, cwd=_ROOT, environ=environ),
        )
    except EnvoyNotInstalledError as exc:
        raise SetupError(str(exc), mend="Or run 'make venv' in the checkout.") from exc
    except OSError as exc:
        raise SetupError(f"A part cannot be started: {exc.strerror}.", mend="Run 'dragoman doctor'.") from exc


def _serve(profile: Profile, parts: tuple[Child, ...], early: _EarlySignals) -> None:
    # Late: this takes longer than all else, and the children start meanwhile.
    import uvloop  # noqa: PLC0415

    from server import app  # noqa: PLC0415
    from server.store.master_key import create_master_key_file  # noqa: PLC0415

    app.configure_logging(profile.settings)
    log = logging.FileHandler(profile.logs / "server.log", mode="w")
    log.setFormatter(logging.getLogger().handlers[0].formatter)
    logging.getLogger().handlers = [log]
    os.chmod(log.baseFilename, 0o600)  # noqa: PTH101 - what logging gives is a string
    master_key = profile.settings.master_key_path()
    if master_key is not None:
        create_master_key_file(master_key)
    uvloop.run(_until_stopped(profile, parts, early))


async def _until_stopped(profile: Profile, parts: tuple[Child, ...], early: _EarlySignals) -> None:
    from server import app  # noqa: PLC0415
    from server.dev.seed import Demo, seed, validate  # noqa: PLC0415

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _taken_signals():
        loop.add_signal_handler(number, stop.set)
    if early.came:
        return
    settings, ports = profile.settings, profile.ports
    await _migrate(settings)
    async with app.running_server(settings) as running:
        demo = Demo(f"http://{HOST}:{ports.demo}/v1", profile.demo_key)
        env = await seed(running.services, profile.home / "dev.env", demo, profile.openai_key)
        end = asyncio.ensure_future(_end(stop, parts))
        ready = asyncio.ensure_future(_ready(profile))
        await asyncio.wait((end, ready), return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            ready.result()
            await validate(running.services, env)
            seconds = time.monotonic() - profile.started
            print(greeting(env, ports, root=_ROOT, home=settings.home, seconds=seconds), flush=True)
        ready.cancel()
        await asyncio.wait((end,))
        for number in _taken_signals():
            loop.add_signal_handler(number, lambda: asyncio.ensure_future(running.stop(None)))
    end.result()


async def _migrate(settings: Settings) -> None:
    """Make the schema current, without loading the migrations' machinery where it is already."""
    from server.core.errors import Unavailable  # noqa: PLC0415
    from server.store.db import open_database  # noqa: PLC0415
    from server.store.schema import SchemaState, migrate, schema_state  # noqa: PLC0415
    from server.store.url import parse_url, sqlite_path  # noqa: PLC0415

    url = settings.database()
    path = sqlite_path(url)
    state = SchemaState.BEHIND
    if path is None or path.exists():
        database = open_database(parse_url(url))
        with contextlib.suppress(Unavailable):  # said again, and better, by what follows
            state = await schema_state(database)
        await database.dispose()
    if state is SchemaState.BEHIND:
        await migrate(url)


async def _end(stop: asyncio.Event, parts: tuple[Child, ...]) -> None:
    """Return when the run is to stop. Raises SetupError when one of its parts has ended by itself."""
    waits = {asyncio.ensure_future(part.ended()): part for part in parts}
    stopped = asyncio.ensure_future(stop.wait())
    done, _ = await asyncio.wait((stopped, *waits), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if stopped in done:
        return
    ended = next(iter(done & waits.keys()))
    part = waits[ended]
    words = part.last_words()
    raise SetupError(
        f"{part.purpose} has ended by itself (status {ended.result()}), so everything stops."
        + (f" It said: {words}" if words else ""),
        mend=f"See {part.log}.",
    )


async def _ready(profile: Profile) -> None:
    """Return once the server is ready through Envoy, and the demo provider answers. Raises SetupError when that takes
    too long."""
    import aiohttp  # noqa: PLC0415

    wanted = {
        f"http://{HOST}:{profile.ports.http}/readyz": {},
        f"http://{HOST}:{profile.ports.demo}/v1/models": {"authorization": f"Bearer {profile.demo_key.reveal()}"},
    }
    deadline = time.monotonic() + READY_SECONDS
    async with aiohttp.ClientSession() as session:
        for url, headers in wanted.items():
            while not await _answers(session, url, headers):
                if time.monotonic() > deadline:
                    raise SetupError(f"{url} does not answer.", mend=f"See the logs in {profile.logs}.")
                await asyncio.sleep(POLL_SECONDS)


async def _answers(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> bool:
    import aiohttp  # noqa: PLC0415

    try:
        async with session.get(url, headers=headers) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
