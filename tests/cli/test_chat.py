"""`chat`, `models --remote` and `serve`: the command line as a caller of the real server."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dragoman.v1 import chat_pb2
from server.cli.chat import Screen
from tests.cli.conftest import CommandLine, Served
from tests.support.ports import free_port
from tests.support.process import PROJECT


def test_stdout_has_the_answer_alone(served: Served) -> None:
    """The text goes to stdout; model, reason and tokens go to stderr."""
    outcome = served.dragoman.ok("chat", "count to 5")
    assert outcome.out == "1 2 3 4 5\n"
    assert "demo-chat · stop · tokens 10 in, 5 out" in outcome.err


def test_the_prompt_may_be_piped_in(served: Served) -> None:
    assert served.dragoman.ok("chat", stdin="count to 3\n").out == "1 2 3\n"


def test_reasoning_is_beside_the_answer(served: Served) -> None:
    outcome = served.dragoman.ok("chat", "-m", "custom/demo-reasoner", "Why?")
    assert "I am demo-reasoner" in outcome.out
    assert "I shall say what I was asked" in outcome.err
    assert "I shall say" not in outcome.out


def test_json_is_the_stream_event_by_event(served: Served) -> None:
    events = [json.loads(line) for line in served.dragoman.ok("chat", "--json", "count to 2").out.splitlines()]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert "started" in events[0]
    assert "completed" in events[-1]


def test_a_failed_call_says_whose_fault_and_when_to_retry(served: Served) -> None:
    """Status 1; reason, fault, wait, what to do and the call's id, from the status details."""
    outcome = served.dragoman("chat", "-m", "custom/demo-error-429", "x")
    assert (outcome.status, outcome.out) == (1, "")
    for words in ("PROVIDER_RATE_LIMITED", "fault   workspace", "retry   after 7 s", "do      ", "id      "):
        assert words in outcome.err


def test_a_cut_answer_is_shown_and_is_a_failure(served: Served) -> None:
    outcome = served.dragoman("chat", "-m", "custom/demo-cut", "x")
    assert outcome.status == 1
    assert outcome.out != ""
    assert "STREAM_TRUNCATED" in outcome.err


def test_a_field_out_of_range_is_named(served: Served) -> None:
    outcome = served.dragoman("chat", "--temperature", "3", "x")
    assert outcome.status == 1
    assert "field   temperature" in outcome.err


def test_where_no_server_is_that_is_said(bare: CommandLine) -> None:
    port = free_port()
    outcome = bare("chat", "x", DRAGOMAN_API_KEY="k", DRAGOMAN_GRPC_PORT=str(port))
    assert outcome.status == 1
    assert f"No server answers at 127.0.0.1:{port}" in outcome.err


def test_without_a_key_the_mend_is_named(bare: CommandLine) -> None:
    outcome = bare("chat", "x")
    assert (outcome.status, "--key-file" in outcome.err) == (2, True)


@pytest.mark.parametrize("form", ["{key}\n", "DRAGOMAN_API_KEY={key}\nDRAGOMAN_WORKSPACE=ws_one\n"])
def test_a_key_file_holds_the_key_or_is_a_dev_env(served: Served, tmp_path: Path, form: str) -> None:
    file = tmp_path / "key"
    file.write_text(form.format(key=served.dragoman.environ.pop("DRAGOMAN_API_KEY")))
    listed = served.dragoman.ok("models", "list", "--remote", "--key-file", str(file))
    assert [row[0] for row in listed.rows] == ["custom/demo-chat"]


def test_what_a_command_does_to_the_store_reaches_the_running_server(served: Served) -> None:
    """A model that is enabled is seen, and a key that is revoked is refused, without anybody telling the server."""
    served.dragoman.ok("models", "enable", "custom/demo-echo")
    _until(lambda: "custom/demo-echo" in served.dragoman.ok("models", "list", "--remote").out)
    served.dragoman.ok("keys", "revoke", served.dragoman.ok("keys", "list").rows[0][0])
    _until(lambda: "UNAUTHENTICATED" in served.dragoman("models", "list", "--remote").err)


def _until(holds: Callable[[], bool], within: float = 10) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline


def test_ctrl_c_cancels_and_says_so(served: Served) -> None:
    """SIGINT in the middle of an answer: status 130, the text so far, no traceback; the provider's call is given up."""
    environ = os.environ | {"DRAGOMAN_HOME": str(served.dragoman.home)} | served.dragoman.environ
    argv = [sys.executable, "-m", "server", "chat", "-m", "custom/demo-endless", "go on"]
    with subprocess.Popen(
        argv, cwd=PROJECT, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) != b""
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=15)
    assert process.returncode == 130
    assert err.decode().split("\n")[-2].strip() == "cancelled"


def test_sigterm_ends_serve_with_status_0(served: Served) -> None:
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(15) == 0


def test_a_conversation_remembers(served: Served) -> None:
    """On a terminal without a prompt: turn after turn, with what was said before, until end of input."""
    environ = os.environ | {"DRAGOMAN_HOME": str(served.dragoman.home)} | served.dragoman.environ
    keyboard, terminal = pty.openpty()
    argv = [sys.executable, "-m", "server", "chat"]
    with subprocess.Popen(
        argv, cwd=PROJECT, env=environ, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        os.close(terminal)
        os.write(keyboard, b"Hello\nAnd now?\n\x04")
        out, _ = process.communicate(timeout=30)
        os.close(keyboard)
    assert "as 1 message (1 user)" in out.decode()
    assert "as 3 messages (" in out.decode()
    assert process.returncode == 0


class Terminal(io.StringIO):
    """A stream that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


def test_an_answer_cannot_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control characters of an answer are left out on a terminal; line ends and tabs are not."""
    screen, out = Screen(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    text = "a\x1b[2J\x9b31mb\tc\nd\x07"
    screen.show(chat_pb2.ChatEvent(block_start=chat_pb2.BlockStart(text=chat_pb2.TextBlock())))
    screen.show(chat_pb2.ChatEvent(block_delta=chat_pb2.BlockDelta(text=text)))
    assert out.getvalue() == "a[2J31mb\tc\nd"
    assert screen.text == text


def test_tool_calls_refusals_and_warnings_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    warning = chat_pb2.Warning(code="parameter_stripped", message="seed was left out")
    for event in (
        chat_pb2.ChatEvent(started=chat_pb2.Started(warnings=[warning])),
        chat_pb2.ChatEvent(block_start=chat_pb2.BlockStart(tool_call=chat_pb2.ToolCallBlock(id="1", name="weather"))),
        chat_pb2.ChatEvent(block_delta=chat_pb2.BlockDelta(arguments='{"city": "Bonn"}')),
        chat_pb2.ChatEvent(block_end=chat_pb2.BlockEnd()),
        chat_pb2.ChatEvent(completed=chat_pb2.Completed(finish_reason="tool_calls", model="m", refusal="I will not")),
    ):
        screen.show(event)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "warning: seed was left out",
        'calls weather {"city": "Bonn"}',
        "declined: I will not",
        "m · tool_calls · tokens not reported",
    ]
