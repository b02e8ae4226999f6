"""The demo provider as a process: one line when it listens, no word about requests, and an end on SIGTERM."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import httpx

from tests.support.canary import assert_absent
from tests.support.demo import DemoProcess
from tests.support.process import RunProcess

CANARY = "canary-7f3a-unmistakable"


def test_it_serves_and_logs_no_prompt(demo_process: DemoProcess) -> None:
    """Good, bad and broken requests leave no trace of prompt or key in its output; SIGTERM ends it with 0."""
    headers = {"authorization": f"Bearer {demo_process.api_key}"}
    with httpx.Client(base_url=demo_process.base_url, headers=headers) as client:
        for model in ("demo-chat", "demo-error-leaky", "demo-error-500", "demo-cut", "no-such-model"):
            asked = {"model": model, "messages": [{"role": "user", "content": CANARY}]}
            client.post("/chat/completions", json=asked)
        client.post("/chat/completions", content=CANARY)
        client.get("/models", headers={"authorization": f"Bearer {CANARY}"})
        stats = client.get(httpx.URL(demo_process.base_url).join("/demo/stats")).json()
        assert stats == {"requests": 8, "open": 0, "clientWentAway": 0}
        url = httpx.URL(demo_process.base_url)
        with socket.create_connection((url.host, url.port or 0)) as raw:
            raw.sendall(f"{CANARY} is not HTTP\r\n\r\n".encode())
            assert raw.recv(100).startswith(b"HTTP/1.")
    assert demo_process.process.stop() == 0
    output = demo_process.process.output
    assert_absent(CANARY, output)
    assert output.strip().splitlines() == [f"demo provider listening on {demo_process.base_url}"]


def test_it_stops_at_once_while_answering(demo_process: DemoProcess) -> None:
    """SIGTERM ends it also while a caller waits for a stalled answer."""
    headers = {"authorization": f"Bearer {demo_process.api_key}"}
    asked = {"model": "demo-stall", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    with httpx.stream("POST", f"{demo_process.base_url}/chat/completions", json=asked, headers=headers) as response:
        assert response.status_code == 200
        demo_process.process.send_signal(signal.SIGTERM)
        assert demo_process.process.wait(10) == 0


def test_a_taken_port_is_one_clear_line(run_process: RunProcess) -> None:
    """When the port is taken it exits with 1 and says so in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = run_process([sys.executable, "-m", "server.dev.demo_provider", "--port", port])
        assert process.wait() == 1
    assert len(process.output.splitlines()) == 1
    assert "address already in use" in process.output
    assert port in process.output


def test_its_key_can_come_from_a_file(run_process: RunProcess, tmp_path: Path) -> None:
    """--key-file replaces the public key; a file that is missing is one clear line."""
    key = tmp_path / "key"
    argv = [sys.executable, "-m", "server.dev.demo_provider", "--key-file", str(key)]
    missing = run_process(argv)
    assert missing.wait() == 1
    assert missing.output.splitlines() == [f"demo provider: No such file or directory: {key}"]
    key.write_text("sk-of-my-own\n")
    process = run_process(argv)
    base_url = process.wait_for_line(r"listening on (\S+)$")[1]
    assert httpx.get(f"{base_url}/models", headers={"authorization": "Bearer sk-of-my-own"}).status_code == 200
