"""A master key from a command: what it prints is the key, and nothing else of it is kept, shown or waited for."""

from __future__ import annotations

import base64
import secrets
import sys
import time
from pathlib import Path

import pytest

from server.core.secret import Secret
from server.core.setup import SetupError
from server.store.cipher import Key
from server.store.key_command import run_key_command
from server.store.master_key import MasterKeySource

MATERIAL = secrets.token_bytes(32)
TEXT = base64.b64encode(MATERIAL).decode()


def python(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", program)


def test_what_the_command_prints_is_the_key() -> None:
    source = MasterKeySource(command=python(f"print({TEXT!r})"))
    assert source.read().active.id == Key(MATERIAL).id


@pytest.mark.parametrize("place", ["text", "file"])
def test_a_wrapped_key_from_the_environment_or_a_file_goes_through_the_command(place: str, tmp_path: Path) -> None:
    """Here wrapped by writing it backwards; a file may be binary and readable by others, since it opens nothing."""
    backwards = python("import sys; sys.stdout.write(sys.stdin.buffer.read().lstrip(b'\\xff').decode()[::-1])")
    if place == "text":
        source = MasterKeySource(text=Secret(TEXT[::-1]), command=backwards)
    else:
        file = tmp_path / "wrapped"
        file.write_bytes(b"\xff" + TEXT[::-1].encode())
        file.chmod(0o644)
        source = MasterKeySource(file=file, command=backwards)
    assert source.read().active.id == Key(MATERIAL).id


def test_no_shell_sees_the_arguments(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    echo = python("import sys; assert sys.argv[1] == '$(touch ' + sys.argv[2] + ')'; print(sys.argv[3])")
    run_key_command((*echo, f"$(touch {trap})", str(trap), TEXT), given=None, seconds=30)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import sys; print('canary-printed'); print('canary-said', file=sys.stderr); sys.exit(3)", "status 3"),
        ("print('canary-printed')", "is not a key"),
        ("import sys; sys.stdout.buffer.write(b'canary-printed' + bytes([255]))", "no text"),
        ("print('canary-printed' * 10000)", "too much"),
        ("pass", "empty"),
        ("import os, signal; print('canary-printed', flush=True); os.kill(os.getpid(), signal.SIGTERM)", "status -15"),
    ],
)
def test_a_command_that_gives_no_key_is_an_error_without_anything_that_it_said(
    program: str, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SetupError, match=says) as caught:
        MasterKeySource(command=python(program)).read()
    assert "canary" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_command_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be started"):
        MasterKeySource(command=(str(tmp_path / "none"),)).read()


def test_a_command_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    """The grandchild holds the pipe open, and is gone as well."""
    pid_file = tmp_path / "pid"
    program = (
        "import subprocess, sys, time; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        f"open({str(pid_file)!r}, 'w').write(str(child.pid)); time.sleep(600)"
    )
    with pytest.raises(SetupError, match="did not end within 3 s"):
        run_key_command(python(program), given=None, seconds=3)
    stat = Path(f"/proc/{pid_file.read_text()}/stat")
    deadline = time.monotonic() + 20
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "the grandchild lives on"
        time.sleep(0.02)
