"""The program as a whole: how fast it is there, and how it ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import CommandLine
from tests.support.process import PROJECT

COMMANDS = [
    [],
    ["serve"],
    ["dev"],
    ["migrate"],
    ["chat"],
    ["doctor"],
    ["health"],
    *(["keys", word] for word in ("create", "list", "revoke")),
    *(["workspaces", word] for word in ("create", "list")),
    *(["providers", word] for word in ("list", "add", "validate", "remove")),
    *(["models", word] for word in ("list", "show", "enable", "default")),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help(bare: CommandLine, words: list[str]) -> None:
    """It says what the command does, whatever the settings are."""
    outcome = bare.ok(*words, "--help", DRAGOMAN_GRPC_PORT="nonsense")
    assert outcome.out.startswith("Usage: dragoman")


def test_help_loads_nothing_heavy() -> None:
    """What makes a start slow is imported by the commands that need it, when they need it."""
    program = (
        "import sys; from server.cli.main import run; run(['--help'], {});"
        "heavy = {'grpc', 'sqlalchemy', 'aiohttp', 'httpx', 'alembic', 'cryptography', 'google.protobuf', 'uvloop'};"
        "sys.exit(' '.join(heavy & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_wrong_setting_is_one_line_and_status_2(bare: CommandLine) -> None:
    """The line names the variable and what is expected, and never what was given."""
    outcome = bare("keys", "list", DRAGOMAN_GRPC_PORT="sekret-value")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("error: DRAGOMAN_GRPC_PORT must be a whole number")
    assert "sekret" not in outcome.err


@pytest.mark.parametrize("words", [["serve"], ["keys", "list"]], ids=" ".join)
def test_a_home_that_is_not_set_up_says_what_to_do(bare: CommandLine, words: list[str]) -> None:
    """No database, no key: one line with the mend, status 2, and nothing is made on the way."""
    outcome = bare(*words)
    assert outcome.status == 2
    assert outcome.err.startswith("error: There is no ")
    assert not bare.home.exists()


def test_migrate_makes_a_private_database_and_may_be_repeated(bare: CommandLine) -> None:
    bare.ok("migrate")
    bare.ok("migrate")
    assert (bare.home / "dragoman.db").stat().st_mode & 0o777 == 0o600


def test_the_version_is_the_packages(bare: CommandLine) -> None:
    assert bare.ok("--version").out.startswith("dragoman ")
