"""The suite reads recordings from anywhere: new providers and directories in the same layout need no code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server.core.errors import ProviderProtocolError
from tests.providers.conformance import failure_differences
from tests.support.process import PROJECT

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}

CHAT = {
    "id": "c-1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}],
    "usage": USAGE,
}
LIMIT = {"error": {"type": "rate_limit_error", "message": "Slow down."}}


def record(folder: Path, api: str, body: bytes, expected: dict[str, Any], status: int = 200, **meta: Any) -> None:
    """A recording as the suite's own are laid out."""
    folder.mkdir(parents=True)
    (folder / "response.body").write_bytes(body)
    (folder / "expected.json").write_text(json.dumps(expected))
    facts = {"api": api, "status": status, "headers": {}, "body_file": "response.body", "framing": "json", **meta}
    (folder / "meta.json").write_text(json.dumps(facts))


def answer(**more: Any) -> dict[str, Any]:
    return {"text": "", "finish_reason": "stop", "raw_finish_reason": "stop", "usage": USAGE, **more}


def greeting(folder: Path, **change: Any) -> None:
    record(folder, "openai-chat", json.dumps(CHAT).encode(), answer(**{"text": "Hi.", **change}))
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    request = {"url": "https://newcomer.example/v1/chat/completions", "body": body}
    (folder / "request.json").write_text(json.dumps(request))


def limit(folder: Path, *, retryable: bool = True) -> None:
    error = {"http_status": 429, "type": "rate_limit_error", "message": "Slow down.", "retryable": retryable}
    record(folder, "openai-chat", json.dumps(LIMIT).encode(), {"error": error}, 429)


def lines_of(root: Path, *options: str, fails: bool) -> list[str]:
    """What the suite prints over these recordings."""
    suite = "tests/providers/test_conformance.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, suite]
    environ = {**os.environ, "DRAGOMAN_WIRE_FIXTURES": str(root), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == fails, done.stdout
    return done.stdout.splitlines()


def test_new_directories_are_read_and_counted(tmp_path: Path) -> None:
    """One line per provider, in parallel runs too, and for a protocol that nobody speaks; nothing fails."""
    greeting(tmp_path / "newcomer" / "greeting")
    limit(tmp_path / "newcomer" / "deeper" / "limit")
    greeting(tmp_path / "another" / "greeting")
    record(tmp_path / "stranger" / "unheard", "smoke-signals", b"...", answer())
    lines = lines_of(tmp_path, "-n", "2", fails=False)
    assert "newcomer: 2 of 2 passed" in lines
    assert "another: 1 of 1 passed" in lines
    assert "stranger: 0 of 1 passed, 1 of a protocol that is not spoken" in lines


def test_a_result_that_is_not_the_expected_one_fails(tmp_path: Path) -> None:
    """And the line of its provider says so."""
    greeting(tmp_path / "text" / "x", text="Ho.")
    greeting(tmp_path / "usage" / "x", usage={**USAGE, "prompt_tokens": 4})
    greeting(tmp_path / "finish" / "x", finish_reason="length")
    limit(tmp_path / "error" / "x", retryable=False)
    lines = lines_of(tmp_path, "-n", "0", fails=True)
    for provider in ("text", "usage", "finish", "error"):
        assert f"{provider}: 0 of 1 passed, 1 FAILED" in lines


@pytest.mark.parametrize(
    ("expected", "agrees"),
    [
        ({"finish_reason": "error", "raw_finish_reason": "MALFORMED_FUNCTION_CALL"}, True),
        ({"finish_reason": "error", "raw_finish_reason": "OTHER"}, False),
        ({"finish_reason": "stop", "raw_finish_reason": "MALFORMED_FUNCTION_CALL"}, False),
        ({"error": {"code": "MALFORMED_FUNCTION_CALL", "retryable": True}}, True),
        ({"error": {"code": "MALFORMED_FUNCTION_CALL", "retryable": False}}, False),
    ],
)
def test_the_finish_reason_error_is_a_failure_with_the_providers_word(expected: dict[str, Any], agrees: bool) -> None:
    """A recording may state either; another word, or an answer, is a difference."""
    error = ProviderProtocolError("No call that can be read.", code="MALFORMED_FUNCTION_CALL", retryable=True)
    assert (not failure_differences(expected, error)) == agrees
    assert bool(failure_differences(expected, None)) == ("error" in expected)
