"""The TypeScript SDKs beside the Python ones: another implementation of both APIs' clients, to every wire.

`npm ci --prefix tools/sdks` installs them, as CI does; without them these tests skip with that reason.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.dialects.conftest import MODELS
from tests.e2e.stack import Stack
from tests.support.matrix import DIALECTS
from tests.support.process import PROJECT

pytestmark = pytest.mark.e2e

FOLDER = PROJECT / "tools" / "sdks"
ERRORS = {
    "400": ["BadRequestError", 400, None],
    "401": ["AuthenticationError", 401, None],
    "404": ["NotFoundError", 404, None],
    "429": ["RateLimitError", 429, "7"],
}


@pytest.fixture(scope="module")
def found(gateway: Stack) -> dict[str, Any]:
    """What one application got of them, of every wire's model by every API."""
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules").exists():
        if os.environ.get("CI"):
            pytest.fail("the TypeScript SDKs are to be installed here: npm ci --prefix tools/sdks")
        pytest.skip("the TypeScript SDKs are not installed: npm ci --prefix tools/sdks (Node.js 20 or newer)")
    told = {"origin": gateway.envoy.url, "key": gateway.keys["member"], "models": list(MODELS.values())}
    command: list[str | Path] = [node, FOLDER / "exercise.mjs"]
    ran = subprocess.run(command, input=json.dumps(told), capture_output=True, text=True, timeout=90, check=False)
    assert ran.returncode == 0, ran.stderr
    answers: dict[str, Any] = json.loads(ran.stdout)
    return answers


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_application(found: dict[str, Any], dialect: str, model: str) -> None:
    """Create, stream, tools with a second turn, and typed errors with the wait that the provider asked for."""
    assert found["answers"][model][dialect] == {
        "create": "You said 'hello', under ''.",
        "stream": " ".join(str(n) for n in range(50)),
        "tools": f"The tools said Paris is sunny, Rome is sunny ({_signed(dialect, model)}).",
        "errors": ERRORS,
    }


def _signed(dialect: str, model: str) -> str:
    """OpenAI's own Chat Completions has nothing to sign with."""
    return "unsigned" if (dialect, model) == ("Chat Completions", MODELS["openai"]) else "signed"


def test_the_list_of_models(found: dict[str, Any]) -> None:
    """It is the workspace's."""
    assert "custom/demo-chat" in found["models"]
