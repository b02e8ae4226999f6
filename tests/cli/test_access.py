"""`keys` and `workspaces` on a real database."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime

import pytest
import typer

from server.app import open_services
from server.cli.access import parse_expiry
from server.core.access import Principal, Role
from server.core.errors import Unauthenticated
from server.settings import load_settings
from tests.cli.conftest import CommandLine

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def who(dragoman: CommandLine, key: str) -> Principal:
    """Whom the server takes the caller with that key for."""

    async def ask() -> Principal:
        async with open_services(load_settings({"DRAGOMAN_HOME": str(dragoman.home)})) as services:
            return await services.access.authenticate(key)

    return asyncio.run(ask())


@pytest.mark.parametrize("role", ["viewer", "member", "admin"])
def test_a_made_key_works_with_its_role(dragoman: CommandLine, role: str) -> None:
    """stdout has the key alone, so that a shell can take it; it authenticates as that role in the workspace."""
    made = dragoman.ok("keys", "create", "--role", role)
    assert re.fullmatch(r"dgm_\w{49}\n", made.out)
    assert made.out.strip() not in made.err
    principal = who(dragoman, made.out.strip())
    assert (principal.role, principal.workspace_id) == (Role[role.upper()], "ws_one")


def test_an_organisation_key_has_no_workspace(dragoman: CommandLine) -> None:
    principal = who(dragoman, dragoman.ok("keys", "create", "--org", "org").out.strip())
    assert (principal.role, principal.workspace_id, principal.org_id) == (Role.ORG_ADMIN, None, "org")


def test_the_list_shows_what_a_key_is_and_never_the_key(dragoman: CommandLine) -> None:
    """Id, name, role, workspace, hint, dates; the last four characters are all that is left of the key."""
    key = dragoman.ok("keys", "create", "--name", "ci", "--expires", "90d").out.strip()
    listed = dragoman.ok("keys", "list", "--json")
    (row,) = listed.json()
    assert (row["name"], row["role"], row["workspace"], row["hint"]) == ("ci", "member", "ws_one", f"...{key[-4:]}")
    created, expires = datetime.fromisoformat(row["created"]), datetime.fromisoformat(row["expires"])
    assert (expires - created).days in {89, 90}
    assert row["revoked"] is None
    assert key not in listed.out + dragoman.ok("keys", "list").out


def test_a_pipe_gets_tab_separated_lines(dragoman: CommandLine) -> None:
    dragoman.ok("keys", "create", "--name", "with\ttab")
    (row,) = dragoman.ok("keys", "list").rows
    assert row[0].startswith("key_")
    assert row[1:4] == ["with tab", "member", "ws_one"]


def test_a_revoked_key_is_refused(dragoman: CommandLine) -> None:
    made = dragoman.ok("keys", "create", "--json").json()
    dragoman.ok("keys", "revoke", made["id"])
    with pytest.raises(Unauthenticated):
        who(dragoman, made["key"])
    assert dragoman.ok("keys", "list", "--json").json()[0]["revoked"] is not None


WRONG: dict[str, tuple[list[str], int, str]] = {
    "unknown key": (["keys", "revoke", "key_no"], 1, "no such key"),
    "unknown workspace": (["keys", "create", "-w", "ws_no"], 1, "no workspace ws_no"),
    "unknown organisation": (["keys", "create", "--org", "nobody"], 2, "nobody"),
    "both places": (["keys", "create", "-w", "ws_one", "--org", "org"], 2, "not both"),
    "unknown role": (["keys", "create", "--role", "king"], 2, "king"),
    "bad span": (["keys", "create", "--expires", "soon"], 2, "90d"),
    "past date": (["keys", "create", "--expires", "2020-01-01"], 2, "past"),
    "taken workspace": (["workspaces", "create", "x", "--id", "ws_one"], 1, "already"),
}


@pytest.mark.parametrize(("words", "status", "says"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_done_is_said(dragoman: CommandLine, words: list[str], status: int, says: str) -> None:
    """One message on stderr that names the trouble, nothing on stdout, and a status that is not zero."""
    outcome = dragoman(*words)
    assert outcome.status == status
    assert says in " ".join(outcome.err.split())
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


def test_with_several_workspaces_one_must_be_named(dragoman: CommandLine) -> None:
    """By option or DRAGOMAN_WORKSPACE; nothing is picked by chance."""
    id = dragoman.ok("workspaces", "create", "Two").out.strip()
    outcome = dragoman("keys", "create")
    assert (outcome.status, "several workspaces" in outcome.err) == (2, True)
    for made in (
        dragoman.ok("keys", "create", "-w", id, "--json"),
        dragoman.ok("keys", "create", "--json", DRAGOMAN_WORKSPACE=id),
    ):
        assert made.json()["workspace"] == id
    assert {row["id"] for row in dragoman.ok("workspaces", "list", "--json").json()} == {"ws_one", id}


SPANS = {
    "12h": datetime(2026, 11, 22, 0, tzinfo=UTC),
    "90d": datetime(2027, 2, 19, 12, tzinfo=UTC),
    "2w": datetime(2026, 12, 5, 12, tzinfo=UTC),
    "2026-11-21": datetime(2026, 11, 22, tzinfo=UTC),
}


@pytest.mark.parametrize(("text", "end"), SPANS.items())
def test_an_expiry_is_a_span_or_the_end_of_a_day(text: str, end: datetime) -> None:
    assert parse_expiry(text, NOW) == end


@pytest.mark.parametrize("text", ["", "90", "0d", "-1d", "d", "1y", "2026-13-01", "2026-11-20", "123456d"])
def test_another_expiry_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_expiry(text, NOW)
