"""What `make run` prints once everything answers: the key, and three commands that work as they stand."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from server.dev.env_file import DevEnv
from server.dev.ports import HOST, Ports


def greeting(env: DevEnv, ports: Ports, *, root: Path, home: Path, seconds: float) -> str:
    """The text. root: the checkout. seconds: how long the start took."""
    rest = f"http://{HOST}:{ports.http}/api/v1/ai/llm"
    key = env.key.reveal()
    curl = f"-H 'authorization: Bearer {key}' -H 'content-type: application/json'"
    python = shlex.join(
        [
            sys.executable,
            str(root / "examples" / "grpc_chat.py"),
            "--address",
            f"{HOST}:{ports.grpc}",
            "Count to 10.",
        ]
    )
    return f"""
Dragoman is ready after {seconds:.1f} s.

  REST             http://{HOST}:{ports.http}
  gRPC             {HOST}:{ports.grpc}
  demo provider    http://{HOST}:{ports.demo}/v1   (the default model is its demo-chat)
  key              {key}
  workspace        {env.workspace}
  key and workspace are in {home / "dev.env"}; logs are in {home / "logs"}

An answer:

  curl -sS {rest}/generate {curl} -d '{{"prompt": "Hello"}}'

A stream:

  curl -sSN {rest}/chat {curl} -H 'accept: text/event-stream' \
-d '{{"messages": [{{"role": "user", "content": "Count to 10."}}]}}'

gRPC, from Python:

  DRAGOMAN_API_KEY={key} {python}

Ctrl-C stops all of it.
"""
