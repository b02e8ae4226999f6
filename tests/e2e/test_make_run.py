"""`make run`: everything from one command, and nothing left of it afterwards."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.e2e.dev_run import ARGV, DevRun, Place, children, dev_run, mode, new_place, start
from tests.support.canary import assert_absent
from tests.support.ports import free_port
from tests.support.process import PROJECT, RunningProcess

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes by /proc, and Envoy's package is for Linux"),
]

OPENAI_KEY = "sk-canary-openai-5d1e90b7c2"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevRun]:
    """One run for the tests that only look at it."""
    place = new_place(tmp_path_factory.mktemp("dev") / "home")
    with dev_run(place, OPENAI_API_KEY=OPENAI_KEY) as run:
        yield run


def gone(pid: int, within: float = 5.0) -> bool:
    """Whether the process ends, or is nobody's but the kernel's, within some seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            if (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_dev_env_holds_an_admin_key_and_the_workspace_for_its_owner_alone(running: DevRun) -> None:
    """dev.env has exactly the two lines, mode 0600, and its key may do what admins may."""
    text = running.place.env_file.read_text()
    assert re.fullmatch(r"DRAGOMAN_API_KEY=dgm_[0-9A-Za-z]{49}\nDRAGOMAN_WORKSPACE=\S+\n", text)
    assert mode(running.place.env_file) == 0o600
    with running.rest() as client:
        answer = client.get("/ai/llm")
    assert answer.status_code == 200, answer.text
    assert {config["name"] for config in answer.json()["aiLlms"]} == {"demo", "openai"}


def test_all_that_is_secret_in_the_home_is_its_owners_alone(running: DevRun) -> None:
    home = running.place.home
    assert mode(home) == 0o700
    assert {name: mode(home / name) for name in ("master.key", "demo.key", "dragoman.db")} == {
        "master.key": 0o600,
        "demo.key": 0o600,
        "dragoman.db": 0o600,
    }


def test_a_prompt_alone_is_answered_by_the_demo(running: DevRun) -> None:
    answer = running.generate()
    assert answer.status_code == 200, answer.text
    assert "Hello" in answer.json()["text"]
    assert answer.json()["model"] == "demo-chat"


def test_a_streamed_chat_ends_with_completed(running: DevRun) -> None:
    body = {"messages": [{"role": "user", "content": "count to 5"}]}
    with running.rest() as client:
        answer = client.post("/api/v1/ai/llm/chat", json=body, headers={"accept": "text/event-stream"})
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data:")]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "".join(event.get("blockDelta", {}).get("text", "") for event in events) == "1 2 3 4 5"
    assert events[-1]["completed"]["finishReason"] == "stop"


SAYS = {"curl generate": "I am demo-chat", "curl stream": '"completed"', "python": "1 2 3 4 5 6 7 8 9 10"}


@pytest.mark.parametrize(("number", "words"), list(enumerate(SAYS.values())), ids=SAYS)
def test_the_printed_commands_work_as_printed(running: DevRun, number: int, words: str, tmp_path: Path) -> None:
    """Each of the three commands, pasted into a shell anywhere, prints the demo's answer."""
    assert len(running.commands) == len(SAYS)
    command = running.commands[number]
    if command.startswith("curl") and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert words in done.stdout


def test_the_one_secret_that_is_shown_is_the_callers_key(running: DevRun) -> None:
    """Output, logs, Envoy's file and command lines hold no other key, and all but the output not even that one."""
    home = running.place.home
    silent = [home / "logs", home / "envoy.yaml", running.process.log]
    pids = children(running.process.pid).values()
    lines = [Path(f"/proc/{pid}/{file}") for pid in pids for file in ("cmdline", "environ")]
    for secret in ((home / "master.key").read_text().strip(), (home / "demo.key").read_text().strip(), OPENAI_KEY):
        assert_absent(secret, *silent, *(path.read_bytes() for path in lines))
    assert running.key in running.process.output
    assert_absent(running.key, home / "logs", *(path.read_bytes() for path in lines))


def test_openai_key_in_the_environment_adds_openai_sealed(running: DevRun) -> None:
    """OPENAI_API_KEY makes a configuration with a masked credential, and its clear value is in no file of the home."""
    with running.rest() as client:
        configs = {config["name"]: config for config in client.get("/ai/llm").json()["aiLlms"]}
    assert configs["openai"]["aiType"] == "OPENAI"
    assert configs["openai"]["secretMask"] == "****" + OPENAI_KEY[-4:]
    assert_absent(OPENAI_KEY, running.place.home)


def test_the_demo_is_the_one_private_address_that_is_allowed(running: DevRun) -> None:
    """A configuration for another loopback port is refused, the demo's own is not."""
    body = {
        "name": "x",
        "aiType": "OTHER",
        "secret": "some-credential",
        "endpoint": f"http://127.0.0.1:{free_port()}/v1",
    }
    with running.rest() as client:
        refused = client.post("/ai/llm", json=body)
        own = client.post("/ai/llm", json=body | {"endpoint": f"http://127.0.0.1:{running.place.demo}/v1"})
    assert refused.status_code == 400
    assert "not public" in refused.text
    assert own.status_code in {200, 201}, own.text


def test_a_second_run_in_the_same_home_is_refused(running: DevRun) -> None:
    """One line, not zero, and the first run goes on."""
    with start(new_place(running.place.home)) as second:
        assert second.wait() != 0
        assert second.output.startswith("error: Another dev profile runs")
    assert running.generate().status_code == 200


def test_two_runs_side_by_side_know_nothing_of_each_other(running: DevRun, tmp_path: Path) -> None:
    with dev_run(new_place(tmp_path / "home")) as other:
        assert other.generate().status_code == 200
        assert running.generate().status_code == 200
        with other.rest(running.key) as client:
            assert client.get("/api/v1/ai/models").status_code == 401


@pytest.mark.parametrize(
    ("taken", "purpose", "variable"),
    [
        ("grpc", "gRPC server", "DRAGOMAN_GRPC_PORT"),
        ("edge", "server's side to Envoy", "DRAGOMAN_EDGE_PORT"),
        ("http", "REST side", "DRAGOMAN_HTTP_PORT"),
        ("demo", "demo provider", "DRAGOMAN_DEMO_PORT"),
    ],
)
def test_a_taken_port_is_one_line_before_anything_starts(
    tmp_path: Path, taken: str, purpose: str, variable: str
) -> None:
    """The line names port, purpose and variable; the status is not zero, and not even the home was made."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        place = replace(new_place(tmp_path / "home"), **{taken: port})
        with start(place) as process:
            assert process.wait() != 0
            (line,) = process.output.splitlines()
    assert line.startswith("error: ")
    assert all(word in line for word in (str(port), purpose, variable))
    assert not place.home.exists()


def test_sigterm_stops_all_and_the_next_run_keeps_key_and_data(tmp_path: Path) -> None:
    """Status 0, no child, no listener; then the same key, workspace and configurations, the demo on another port."""
    place = new_place(tmp_path / "home")
    with dev_run(place) as first:
        pids = children(first.process.pid)
        assert pids.keys() == {"demo", "envoy"}
        env = first.env
        with first.rest() as client:
            body = {"name": "mine", "aiType": "OPENAI", "secret": "sk-canary-of-this-test"}
            assert client.post("/ai/llm", json=body).status_code in {200, 201}
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(15) == 0
        assert all(gone(pid) for pid in pids.values())
        assert not any(map(listens, (place.grpc, place.http, place.demo)))
    with dev_run(replace(place, demo=free_port())) as second:
        assert second.env == env
        assert second.generate().status_code == 200
        with second.rest() as client:
            configs = client.get("/ai/llm").json()["aiLlms"]
    assert {config["name"] for config in configs} == {"demo", "mine"}


def test_a_key_that_was_revoked_is_replaced(tmp_path: Path) -> None:
    """dev.env's key works after every start, whatever was done to the one before."""
    place = new_place(tmp_path / "home")
    with dev_run(place) as first:
        old = first.env
    key_id = _dragoman(place, "keys", "list").split("\t")[0]
    _dragoman(place, "keys", "revoke", key_id)
    place.env_file.chmod(0o644)
    with dev_run(place) as second:
        assert second.key != old["DRAGOMAN_API_KEY"]
        assert second.env["DRAGOMAN_WORKSPACE"] == old["DRAGOMAN_WORKSPACE"]
        assert mode(place.env_file) == 0o600
        assert second.generate().status_code == 200


def _dragoman(place: Place, *words: str) -> str:
    argv = [sys.executable, "-m", "server", *words]
    return subprocess.run(argv, env=place.environ(), cwd=PROJECT, capture_output=True, text=True, check=True).stdout


def test_ctrl_c_ends_an_endless_stream_within_the_grace(tmp_path: Path) -> None:
    """A caller that never leaves does not keep the run from stopping, and gets no answer that looks whole."""
    with dev_run(new_place(tmp_path / "home"), DRAGOMAN_SHUTDOWN_GRACE_SECONDS="1") as run:
        pids = children(run.process.pid)
        lines: list[str] = []
        begun = threading.Event()
        reader = threading.Thread(target=_read_endless, args=(run, lines, begun))
        reader.start()
        assert begun.wait(10)
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(15) == 0
        reader.join(10)
        assert all(gone(pid) for pid in pids.values())
    assert not any('"completed"' in line for line in lines)


def _read_endless(run: DevRun, lines: list[str], begun: threading.Event) -> None:
    body = {"model": "custom/demo-endless", "messages": [{"role": "user", "content": "go on"}]}
    headers = {"accept": "text/event-stream"}
    try:
        with run.rest() as client, client.stream("POST", "/api/v1/ai/llm/chat", json=body, headers=headers) as answer:
            for line in answer.iter_lines():
                lines.append(line)
                if "blockDelta" in line:
                    begun.set()
    except httpx.TransportError:
        pass


def _kill_parent(process: RunningProcess, _pids: dict[str, int]) -> None:
    process.send_signal(signal.SIGKILL)


def _kill_child(name: str) -> Callable[[RunningProcess, dict[str, int]], None]:
    def kill(_process: RunningProcess, pids: dict[str, int]) -> None:
        os.kill(pids[name], signal.SIGKILL)

    return kill


@pytest.mark.parametrize(
    ("kill", "status", "says"),
    [
        (_kill_parent, -signal.SIGKILL, ""),
        (_kill_child("demo"), 2, "error: The demo provider has ended by itself"),
        (_kill_child("envoy"), 2, "error: Envoy has ended by itself"),
    ],
    ids=["the run itself", "demo", "envoy"],
)
def test_where_one_part_is_killed_all_end(
    tmp_path: Path, kill: Callable[[RunningProcess, dict[str, int]], None], status: int, says: str
) -> None:
    """No part outlives another, not even one that got no chance to say so; a part's end is a failure, and is named."""
    with dev_run(new_place(tmp_path / "home")) as run:
        pids = children(run.process.pid)
        kill(run.process, pids)
        assert run.process.wait(15) == status
        assert all(gone(pid) for pid in pids.values())
        assert says in run.process.output


@pytest.mark.parametrize("after", [0.0, 0.2, 0.5])
def test_a_signal_during_the_start_is_a_quiet_end(tmp_path: Path, after: float) -> None:
    """SIGTERM some seconds after the first child is there: status 0, no traceback, no child."""
    with start(new_place(tmp_path / "home")) as process:
        deadline = time.monotonic() + 20
        while not (pids := children(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(after)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        assert process.output == "" or "ready" in process.output
        assert all(gone(pid) for pid in pids.values())


def test_a_signal_in_a_hook_of_the_interpreter_is_not_lost(tmp_path: Path) -> None:
    """What a handler raises while the interpreter runs a hook is printed and dropped; the run ends all the same."""
    script = (
        "import os, runpy, signal, sys\n"
        "os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        "sys.argv = ['dragoman', 'dev']\n"
        "runpy.run_module('server', run_name='__main__')\n"
    )
    argv = [sys.executable, "-c", script]
    with RunningProcess(argv, env=new_place(tmp_path / "home").environ()) as process:
        assert process.wait(15) == 0
        assert process.output == ""


def test_a_killed_make_takes_all_with_it(tmp_path: Path) -> None:
    """Who kills `make run` the hard way has nothing left running either."""
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"run:\n\t@exec {' '.join(ARGV)}\n")
    place = new_place(tmp_path / "home")
    with RunningProcess(["make", "-f", makefile, "run"], env=place.environ()) as make:
        make.wait_for_line(r"^Ctrl-C stops all of it\.$", within=60)
        (run_id,) = children(make.pid).values()
        pids = [run_id, *children(run_id).values()]
        assert len(pids) == 3
        make.send_signal(signal.SIGKILL)
        assert all(gone(pid, within=15) for pid in pids)


def test_make_run_is_this_command() -> None:
    """`make run` replaces its shell by it, so that a signal to make's child is a signal to the run."""
    # The suite itself may run under make, whose own flags make would take for its own.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    words = ["make", "-n", "run"]
    recipe = subprocess.run(words, cwd=PROJECT, env=environ, capture_output=True, text=True, check=True).stdout
    assert recipe.splitlines()[-1] == "exec .venv/bin/python " + " ".join(ARGV[1:])
