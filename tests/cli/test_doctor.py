"""`doctor` finds what is wrong, names the mend, and its status says whether there is a problem."""

from __future__ import annotations

import base64
import contextlib
import socket
import sqlite3
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from server.cli.doctor import Level, check_packages
from server.core.errors import InternalError
from tests.cli.conftest import CommandLine, Served, add_demo
from tests.support.demo import DemoProcess
from tests.support.ports import free_port


@pytest.fixture(autouse=True)
def free_ports(bare: CommandLine) -> None:
    """Ports that nobody uses, whatever runs on this machine."""
    for name in ("GRPC", "HTTP", "DEMO"):
        bare.environ[f"DRAGOMAN_{name}_PORT"] = str(free_port())


def problems(dragoman: CommandLine, **environ: str) -> list[dict[str, Any]]:
    """The problems that it finds, each with a mend; its status agrees."""
    outcome = dragoman("doctor", "--json", **environ)
    found = [finding for finding in outcome.json() if finding["level"] == "problem"]
    assert outcome.status == int(bool(found))
    assert all(finding["mend"] for finding in found)
    return found


def test_a_sound_home_has_no_problem(dragoman: CommandLine) -> None:
    """Status 0, and a line for each thing that was looked at."""
    assert problems(dragoman) == []
    lines = dragoman.ok("doctor").out.splitlines()
    looked_at = {line.split(":")[0].split(maxsplit=1)[1] for line in lines}
    assert looked_at >= {"python", "packages", "settings", "home", "master key", "database", "server", "REST side"}


def test_a_home_that_is_not_there_lacks_key_and_database(bare: CommandLine) -> None:
    assert [finding["what"] for finding in problems(bare)] == ["master key", "database"]
    assert not bare.home.exists()


def test_a_file_that_others_may_read_is_found(dragoman: CommandLine) -> None:
    dragoman.home.chmod(0o755)
    (dragoman.home / "dragoman.db").chmod(0o644)
    (dragoman.home / "master.key").chmod(0o644)
    found = problems(dragoman)
    mends = " ".join(finding["mend"] for finding in found)
    assert f"chmod 700 {dragoman.home}" in mends
    for name in ("dragoman.db", "master.key"):
        assert f"chmod 600 {dragoman.home / name}" in mends


def test_another_master_key_is_found(dragoman: CommandLine) -> None:
    """The database does not open with it, and the key itself is not shown."""
    other = base64.b64encode(bytes(range(32))).decode()
    found = problems(dragoman, DRAGOMAN_MASTER_KEY=other)
    assert [finding["what"] for finding in found] == ["database"]
    assert other not in str(found)


def test_a_misspelt_setting_is_found(dragoman: CommandLine) -> None:
    (finding,) = [f for f in dragoman("doctor", "--json", DRAGOMAN_GRPCPORT="1").json() if f["level"] == "problem"]
    assert "DRAGOMAN_GRPC_PORT" in finding["said"]


@pytest.mark.parametrize(("variable", "what"), [("DRAGOMAN_GRPC_PORT", "server"), ("DRAGOMAN_HTTP_PORT", "REST side")])
def test_a_port_with_a_stranger_on_it_is_found(dragoman: CommandLine, variable: str, what: str) -> None:
    """What listens there and does not answer as it should is a problem, and the variable that moves away is named."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        (finding,) = problems(dragoman, **{variable: str(stranger.getsockname()[1])})
    assert finding["what"] == what
    assert variable in finding["mend"]


def test_a_configuration_whose_last_validation_failed_is_found(
    dragoman: CommandLine, demo_process: DemoProcess
) -> None:
    """One that never was validated is a note only."""
    add_demo(dragoman, demo_process, key="wrong-credential")
    assert problems(dragoman) == []
    assert dragoman("providers", "validate", "demo").status == 1
    (finding,) = problems(dragoman)
    assert finding["said"].startswith("demo was not valid: ")


def test_a_running_server_is_found(served: Served) -> None:
    finding = next(f for f in served.dragoman("doctor", "--json").json() if f["what"] == "server")
    assert (finding["level"], finding["said"]) == ("ok", f"serves at 127.0.0.1:{served.port}.")


def test_packages_are_compared_with_the_lock(tmp_path: Path) -> None:
    """Another version and a missing package are a problem; one for other platforms alone may be missing."""
    lock = tmp_path / "server.lock"
    lock.write_text(
        f"typer=={version('typer')} \\\n    --hash=sha256:00\nrich==0.0.1 \\\n    --hash=sha256:00\n"
        "no-such-package-1==1.0\nno-such-package-2==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:00\n"
    )
    (finding,) = check_packages(lock)
    assert finding.level is Level.PROBLEM
    assert finding.said == f"rich is {version('rich')}, not 0.0.1, no-such-package-1 is missing."


def test_a_rotation_that_was_not_finished_is_found(dragoman: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that finishes it; a master key that is needed no more is worth a note."""

    async def stop(*_: object) -> None:
        raise InternalError("stopped")

    def notes() -> list[str]:
        found = dragoman("doctor", "--json").json()
        return [finding["said"] for finding in found if finding["what"] == "key rotation"]

    dragoman.ok("providers", "add", "one", "--provider", "openai", stdin="sk-0123456789abcdef")
    assert notes() == ["none is unfinished."]
    with monkeypatch.context() as patch:
        patch.setattr("server.store.rotation._remove_unused", stop)
        assert dragoman("keys", "rotate-data").status == 1
    (problem,) = problems(dragoman)
    assert "rotate-data -w ws_one" in problem["mend"]
    dragoman.ok("keys", "rotate-data")
    dragoman.ok("keys", "rotate-master", "--generate")
    assert problems(dragoman) == []
    assert "needed no more" in notes()[0]
    dragoman.ok("keys", "rotate-master", "--drop-old")
    assert notes() == ["none is unfinished."]


def test_an_audit_log_without_its_triggers_is_found(dragoman: CommandLine) -> None:
    with contextlib.closing(sqlite3.connect(dragoman.home / "dragoman.db")) as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.commit()
    (problem,) = problems(dragoman)
    assert (problem["what"], problem["said"]) == ("audit log", "its entries can be changed.")
