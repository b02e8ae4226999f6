"""`keys rotate-master` and `keys rotate-data`, on a real database, with and without a server that runs."""

from __future__ import annotations

import base64
import os
import pwd
import secrets
import signal
import socket
import sys

from server.settings import load_settings
from server.store.master_key import read_keyring
from tests.cli.conftest import CommandLine, Served


def key_ids(dragoman: CommandLine) -> list[str]:
    """Ids of the keys in the master key file, the first one first."""
    path = load_settings({"DRAGOMAN_HOME": str(dragoman.home)}).master_key_path()
    assert path is not None
    ring = read_keyring(path)
    return [ring.active.id, *sorted(ring.ids() - {ring.active.id})]


def rotate(dragoman: CommandLine, *words: str, **environ: str) -> dict[str, object]:
    result: dict[str, object] = dragoman.ok("keys", "rotate-master", "--json", *words, **environ).json()
    return result


def add(dragoman: CommandLine, name: str) -> None:
    dragoman.ok("providers", "add", name, "--provider", "openai", stdin="sk-0123456789abcdef")


def test_a_rotation_step_by_step(dragoman: CommandLine) -> None:
    """A new key first; the old one dropped when it is needed no more; each step may be repeated."""
    add(dragoman, "one")
    (old,) = key_ids(dragoman)
    first = rotate(dragoman, "--generate")
    new, behind = key_ids(dragoman)
    assert (first["master_key"], first["rewrapped"], first["not_needed"], behind) == (new, 2, [old], old)
    for _ in range(2):
        again = rotate(dragoman, "--generate")
        assert (again["master_key"], again["rewrapped"]) == (new, 0), "a rotation that was begun is not begun again"
    assert rotate(dragoman)["rewrapped"] == 0
    assert rotate(dragoman, "--drop-old")["not_needed"] == []
    assert key_ids(dragoman) == [new]
    add(dragoman, "two")
    assert rotate(dragoman, "--generate", "--drop-old")["rewrapped"] == 2
    assert len(key_ids(dragoman)) == 1
    assert key_ids(dragoman) != [new]


def test_a_key_that_another_database_needs_is_not_dropped_nor_replaced(dragoman: CommandLine) -> None:
    """The file holds a key that is none of the database's."""
    path = dragoman.home / "master.key"
    path.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    before = path.read_text()
    for words in (("--generate",), ("--drop-old",), ()):
        outcome = dragoman("keys", "rotate-master", *words)
        assert (outcome.status, "not among those given" in outcome.err) == (2, True)
    assert path.read_text() == before


def test_keys_from_the_environment_or_a_command_are_the_operators_to_change(dragoman: CommandLine) -> None:
    old = (dragoman.home / "master.key").read_text().strip()
    new = base64.b64encode(secrets.token_bytes(32)).decode()
    add(dragoman, "one")
    both = {"DRAGOMAN_MASTER_KEY": f"{new},{old}"}
    for words in (("--generate",), ("--drop-old",)):
        assert dragoman("keys", "rotate-master", *words, **both).status == 2
    assert rotate(dragoman, **both)["rewrapped"] == 2
    program = f"{sys.executable} -c 'print(\"{new}\")'"
    assert rotate(dragoman, DRAGOMAN_MASTER_KEY_COMMAND=program)["not_needed"] == []
    assert "the one given" in dragoman("providers", "list").err


def test_a_workspaces_data_key_is_changed(dragoman: CommandLine) -> None:
    assert dragoman.ok("keys", "rotate-data", "--json").json()["data_key"] is None
    for name in ("one", "two"):
        add(dragoman, name)
    first, second = [dragoman.ok("keys", "rotate-data", "-w", "ws_one", "--json").json() for _ in range(2)]
    assert (first["resealed"], len(first["removed"]), first["unreadable"]) == (2, 1, [])
    assert second["removed"] == [first["data_key"]]


def test_rotations_are_in_the_audit_log_with_who_ran_them_and_without_a_key(dragoman: CommandLine) -> None:
    """Each step once, though commands are repeated."""
    add(dragoman, "one")
    (old,) = key_ids(dragoman)
    for words in (("--generate",), ("--generate",), ("--drop-old",), ("--drop-old",)):
        rotate(dragoman, *words)
    (new,) = key_ids(dragoman)
    data = dragoman.ok("keys", "rotate-data", "--json").json()
    listing = dragoman.ok("audit", "list", "--org", "org", "--json")
    found = [
        (entry["action"], entry["object"], entry["key"], entry["outcome"])
        for entry in reversed(listing.json())
        if "_key." in entry["action"]
    ]
    assert found == [
        ("master_key.rotate", new, "operator", "ok"),
        ("master_key.remove", old, "operator", "ok"),
        ("data_key.rotate", data["data_key"], "operator", "ok"),
        ("data_key.remove", data["removed"][0], "operator", "ok"),
    ]
    by = f"by={pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"
    assert all(by in entry["details"] for entry in listing.json()), "every command says who ran it"
    assert (dragoman.home / "master.key").read_text().strip() not in listing.out


def test_a_server_serves_on_through_both_rotations(served: Served) -> None:
    """Calls, and first credentials in new workspaces, before, between and after; at last it starts with the new key
    alone."""
    dragoman = served.dragoman
    assert dragoman.ok("chat", "hi").out
    rotate(dragoman, "--generate")
    assert dragoman.ok("chat", "hi").out
    dragoman.ok("keys", "rotate-data")
    assert dragoman.ok("chat", "hi").out
    rotate(dragoman, "--drop-old")
    served.process.send_signal(signal.SIGHUP)
    served.process.wait_for_line("the master keys were read again")
    assert dragoman.ok("chat", "hi").out
    assert served.process.returncode is None
