"""`providers` and `models` on a real database, with a real provider where one is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine, add_demo
from tests.support.canary import assert_absent
from tests.support.demo import DemoProcess

SECRET = "sk-canary-cli-31b7a9e4f0"


def test_a_credential_from_stdin_is_sealed_and_masked(dragoman: CommandLine) -> None:
    """It is in no output and no file; the list shows its last four characters."""
    added = dragoman.ok("providers", "add", "mine", "--provider", "openai", stdin=f"{SECRET}\n")
    listed = dragoman.ok("providers", "list", "--json")
    (row,) = listed.json()
    assert (row["id"], row["name"], row["secret"]) == (added.out.strip(), "mine", f"****{SECRET[-4:]}")
    assert_absent(SECRET, added.out, added.err, listed.out, dragoman.home)


def test_a_credential_from_a_file(dragoman: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "key.txt"
    file.write_text(f"{SECRET}\n")
    dragoman.ok("providers", "add", "mine", "--provider", "anthropic", "--secret-file", str(file))
    assert dragoman.ok("providers", "list", "--json").json()[0]["secret"] == f"****{SECRET[-4:]}"


WRONG: dict[str, tuple[list[str], str, int, str]] = {
    "no credential": (["a", "--provider", "openai"], "", 1, "empty"),
    "blank credential": (["a", "--provider", "openai"], " \n", 1, "empty"),
    "no such file": (["a", "--provider", "openai", "--secret-file", "/nowhere"], "", 2, "/nowhere"),
    "needs one": (["a", "--provider", "openai", "--no-secret"], "", 2, "needs a credential"),
    "unknown provider": (["a", "--provider", "nobody"], "x", 2, "nobody"),
    "private address": (["a", "--provider", "custom", "--endpoint", "http://10.0.0.1/v1"], "x", 1, "not public"),
    "name taken": (["taken", "--provider", "openai"], SECRET, 1, "taken"),
    "secret on the command line": (["a", SECRET, "--provider", "openai"], "", 2, ""),
}


@pytest.mark.parametrize(("words", "stdin", "status", "says"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_added_is_said(
    dragoman: CommandLine, words: list[str], stdin: str, status: int, says: str
) -> None:
    dragoman.ok("providers", "add", "taken", "--provider", "groq", stdin="something")
    outcome = dragoman("providers", "add", *words, stdin=stdin)
    assert outcome.status == status
    assert says in " ".join(outcome.err.split())
    assert len(dragoman.ok("providers", "list").rows) == 1


def test_validate_asks_the_provider_and_notes_the_outcome(dragoman: CommandLine, demo_process: DemoProcess) -> None:
    """A good credential: status 0, `valid`; a bad one: status 1, the reason on stderr and in the list."""
    add_demo(dragoman, demo_process)
    dragoman.ok("providers", "validate", "demo")
    assert dragoman.ok("providers", "list", "--json").json()[0]["last validation"] == "valid"
    dragoman.ok("providers", "remove", "demo", "--yes")
    id = add_demo(dragoman, demo_process, key="wrong-credential").out.strip()
    outcome = dragoman("providers", "validate", id)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.strip() != ""
    assert dragoman.ok("providers", "list", "--json").json()[0]["last validation"].startswith("invalid: ")


def test_validate_does_not_blame_a_configuration_for_the_commands_own_settings(
    dragoman: CommandLine, demo_process: DemoProcess
) -> None:
    """Where the server may go and this command may not, that is said, and nothing is noted."""
    add_demo(dragoman, demo_process)
    outcome = dragoman("providers", "validate", "demo", DRAGOMAN_ALLOWED_ENDPOINTS="")
    assert outcome.status == 2
    assert "DRAGOMAN_ALLOWED_ENDPOINTS" in outcome.err
    assert dragoman.ok("providers", "list", "--json").json()[0]["last validation"] is None


def test_remove_asks_first(dragoman: CommandLine) -> None:
    """Without a yes nothing is removed; an unknown name is an error."""
    dragoman.ok("providers", "add", "mine", "--provider", "groq", stdin=SECRET)
    assert dragoman("providers", "remove", "mine", stdin="n\n").status == 1
    assert len(dragoman.ok("providers", "list").rows) == 1
    dragoman.ok("providers", "remove", "mine", stdin="y\n")
    assert dragoman.ok("providers", "list").rows == []
    assert dragoman("providers", "remove", "mine", "--yes").status == 1


def test_models_are_what_the_configurations_serve_and_what_was_enabled(
    dragoman: CommandLine, demo_process: DemoProcess
) -> None:
    add_demo(dragoman, demo_process)
    dragoman.ok("models", "enable", "custom/demo-echo")
    dragoman.ok("models", "default", "custom/demo-chat")
    rows = {row["id"]: row for row in dragoman.ok("models", "list", "--json").json()}
    assert rows.keys() == {"custom/demo-echo", "custom/demo-chat"}
    assert rows["custom/demo-chat"]["default"] is True
    assert rows["custom/demo-echo"]["configurations"] == ["demo"]
    assert dragoman.ok("models", "default").out == "custom/demo-chat\n"
    assert dragoman.ok("models", "show", "demo-echo", "--json").json()["id"] == "custom/demo-echo"
    dragoman.ok("models", "default", "--none")
    assert dragoman.ok("models", "default").out == ""


def test_a_default_that_nothing_serves_is_refused(dragoman: CommandLine) -> None:
    """It would fail every call that names no model; the old default stays."""
    outcome = dragoman("models", "default", "openai/gpt-4o")
    assert outcome.status == 1
    assert "No credential configured for OPENAI" in outcome.err
    assert dragoman.ok("models", "default").out == ""


def test_an_unknown_model_comes_with_near_names(dragoman: CommandLine) -> None:
    dragoman.ok("providers", "add", "mine", "--provider", "openai", stdin=SECRET)
    outcome = dragoman("models", "show", "gpt-4o-minni")
    assert outcome.status == 1
    assert "openai/gpt-4o-mini" in outcome.err
