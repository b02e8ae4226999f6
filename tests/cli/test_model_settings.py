"""`models enable`, `disable`, `reset`, `alias`, `default`, `settings`, and `audit`: on a real database."""

from __future__ import annotations

import json

from tests.cli.conftest import CommandLine, add_demo
from tests.support.demo import DemoProcess


def test_what_a_workspace_offers_is_set_shown_and_taken_back(dragoman: CommandLine, demo_process: DemoProcess) -> None:
    add_demo(dragoman, demo_process)
    dragoman.ok("models", "alias", "fast", "custom/demo-chat")
    dragoman.ok("models", "default", "fast")
    dragoman.ok("models", "enable", "custom/demo-chat")
    dragoman.ok("models", "disable", "*")
    assert dragoman.ok("models", "settings", "--json").json() == {
        "workspace": "ws_one",
        "default": "fast",
        "enabled": ["custom/demo-chat"],
        "disabled": ["*"],
        "aliases": ["fast=custom/demo-chat"],
    }
    rows = {row["id"]: row for row in dragoman.ok("models", "list", "--json").json()}
    assert (rows["fast"]["alias of"], rows["fast"]["default"]) == ("custom/demo-chat", True)
    refused = dragoman("models", "alias", "fast", "--remove")
    assert refused.status == 1
    assert "default model fast" in refused.err
    removed = dragoman("providers", "remove", "demo", "--yes")
    assert removed.status == 1
    assert "default model fast, alias fast, enabled model custom/demo-chat" in removed.err
    dragoman.ok("models", "default", "--none")
    dragoman.ok("models", "alias", "fast", "--remove")
    dragoman.ok("models", "reset", "custom/demo-chat", "*")
    dragoman.ok("providers", "remove", "demo", "--yes")
    settings = dragoman.ok("models", "settings", "--json").json()
    assert settings == {"workspace": "ws_one", "default": None, "enabled": [], "disabled": [], "aliases": []}


def test_a_key_for_certain_models_is_listed_with_them(dragoman: CommandLine) -> None:
    dragoman.ok("keys", "create", "--model", "openai/*", "--model", "groq/llama")
    (row,) = dragoman.ok("keys", "list", "--json").json()
    assert (row["models"], row["last used"]) == (["openai/*", "groq/llama"], None)
    assert dragoman("keys", "create", "--model", "gpt-4o").status == 1


def test_the_log_has_what_the_operator_did(dragoman: CommandLine) -> None:
    dragoman.ok("keys", "create", "--name", "ci")
    (row,) = dragoman.ok("audit", "list", "--workspace", "ws_one", "--action", "key.*", "--json").json()
    assert (row["key"], row["action"], row["name"], row["outcome"]) == ("operator", "key.create", "ci", "ok")
    assert dragoman.ok("audit", "list", "--workspace", "ws_one", "--until", "2020-01-01").rows == []
    *lines, end = map(json.loads, dragoman.ok("audit", "export", "--org", "org").out.splitlines())
    assert [line["action"] for line in lines] == ["workspace.create", "key.create", "audit_log.export"]
    assert end == {"complete": True, "entries": 3}
    assert dragoman("audit", "list", "--since", "yesterday").status == 2
