"""The helpers that other tests lean on do what they promise."""

from __future__ import annotations

import base64
import signal
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.support.canary import assert_absent
from tests.support.ports import free_port
from tests.support.process import RunningProcess, RunProcess
from tests.support.scripted import CloseConnection, Reply, ScriptedProvider, Silence

CANARY = 'sk-canary "ü" 0123/+'
RAW = CANARY.encode()

LEAKS = {
    "clear": RAW,
    "hex": RAW.hex().upper().encode(),
    "percent": b"?key=sk-canary%20%22%C3%BC%22%200123%2F%2B",
    "json": b'{"k": "sk-canary \\"\\u00fc\\" 0123/+"}',
    "base64": base64.b64encode(RAW),
    "base64 after one byte": base64.b64encode(b"x" + RAW + b"y"),
    "base64 after two bytes": base64.b64encode(b"xx" + RAW + b"yy"),
    "base64url in basic auth": base64.urlsafe_b64encode(b"user:" + RAW),
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_the_canary_is_found_in_every_form(leak: bytes, tmp_path: Path) -> None:
    """A leak fails, in bytes as in a file of a directory, and the failure does not repeat the canary."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "log").write_bytes(b"before " + leak + b" after")
    for place in (leak, tmp_path):
        with pytest.raises(AssertionError) as caught:
            assert_absent(CANARY, "nothing here", place)
        assert "sk-canary" not in str(caught.value)


def test_a_check_that_looks_nowhere_is_an_error(tmp_path: Path) -> None:
    """No place, an empty directory or a canary too short raise instead of passing."""
    assert_absent(CANARY, "nothing here", b"nor here")
    for canary, places in ((CANARY, ()), (CANARY, (tmp_path,)), ("short", ("x",))):
        with pytest.raises(ValueError, match=r"canary|holds no file"):
            assert_absent(canary, *places)


def test_a_free_port_can_be_listened_on() -> None:
    """free_port gives a port that a server can take."""
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert server.getsockname()[1] > 0


STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("child", child.pid, flush=True)
time.sleep(60)
"""


def test_a_stubborn_process_and_its_children_are_ended(run_process: RunProcess) -> None:
    """A process that ignores SIGTERM is killed after its grace, and what it started goes with it."""
    process = run_process([sys.executable, "-c", STUBBORN])
    child = int(process.wait_for_line(r"^child (\d+)$")[1])
    assert process.stop(grace=0.1) == -signal.SIGKILL
    assert process.stop() == -signal.SIGKILL
    deadline = time.monotonic() + 5
    while (state := _state(child)) not in ("gone", "Z") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert state in ("gone", "Z")


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "gone"


def test_waiting_for_what_never_comes_shows_the_output() -> None:
    """A process that ends early fails the wait with its exit code and its words."""
    with RunningProcess([sys.executable, "-c", "print('no such luck'); raise SystemExit(3)"]) as process:
        with pytest.raises(AssertionError, match=r"ended with 3 .*(\n.*)*no such luck"):
            process.wait_for_line("ready")
        assert process.wait() == 3
    assert "no such luck" in process.output
    assert not process.log.exists()


async def test_the_scripted_provider_says_its_lines_in_turn(scripted_provider: ScriptedProvider) -> None:
    """Replies are sent as written, requests are kept, and a line too many is 599."""
    scripted_provider.reply(Reply([b'{"a":', b"1}"], status=201, headers={"x-a": "b"}), Reply.sse(b"data: 1\n\n"))
    async with httpx.AsyncClient(base_url=scripted_provider.origin) as client:
        first = await client.post("/v9/any?x=1", content=b"asked")
        assert (first.status_code, first.json(), first.headers["x-a"]) == (201, {"a": 1}, "b")
        assert (await client.get("/")).text == "data: 1\n\n"
        assert (await client.get("/")).status_code == 599
    asked = scripted_provider.exchanges[0]
    assert (asked.method, asked.path, asked.body) == ("POST", "/v9/any?x=1", b"asked")


async def test_the_scripted_provider_breaks_and_stalls(scripted_provider: ScriptedProvider) -> None:
    """A reply can close the connection, or hold it until the caller leaves, which is seen."""
    scripted_provider.reply(Reply([b"half", CloseConnection()]), Reply([b"half", Silence()]))
    async with httpx.AsyncClient(base_url=scripted_provider.origin) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/")
        async with client.stream("GET", "/") as response:
            async for piece in response.aiter_raw():
                assert piece == b"half"
                break
        await scripted_provider.wait_for_hangup()
