"""One gateway before a server that speaks three wires, for all tests of dialects."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import openai
import pytest

from tests.e2e.stack import Stack, running_stack
from tests.support.wires import WireServer, wire_server

SECRET = "sk-canary-wires-5c1e77d0"

MODELS = {"chat": "groq/wire-test", "anthropic": "anthropic/wire-test", "gemini": "gemini/wire-test"}
"""A model by the wire that its provider speaks."""


@pytest.fixture(scope="session")
def wires() -> Iterator[WireServer]:
    """The providers."""
    with wire_server() as server:
        yield server


@pytest.fixture(scope="session")
def gateway(wires: WireServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway with a configuration for each wire."""
    folder = tmp_path_factory.mktemp("dialects")
    with running_stack(folder, allowed=[f"127.0.0.1:{wires.port}"]) as stack:
        with stack.rest("admin") as admin:
            for kind, provider, path in (
                ("OTHER", "groq", "/v1"),
                ("ANTHROPIC", "anthropic", ""),
                ("GOOGLE", "gemini", ""),
            ):
                body = {"name": provider, "aiType": kind, "provider": provider, "secret": SECRET}
                body |= {"workspaceId": "ws_own", "endpoint": wires.origin + path}
                admin.post("/ai/llm", json=body).raise_for_status()
        yield stack


@pytest.fixture(params=sorted(MODELS))
def wire(request: pytest.FixtureRequest) -> str:
    """Each wire in turn."""
    return str(request.param)


@pytest.fixture
def model(wire: str) -> str:
    """The model that is served over `wire`."""
    return MODELS[wire]


@pytest.fixture(scope="session")
def openai_sdk(gateway: Stack) -> Iterator[openai.OpenAI]:
    """OpenAI's SDK as an application makes it, without retries."""
    with openai.OpenAI(base_url=f"{gateway.envoy.url}/v1", api_key=gateway.keys["member"], max_retries=0) as one:
        yield one


@pytest.fixture(scope="session")
def anthropic_sdk(gateway: Stack) -> Iterator[anthropic.Anthropic]:
    """Anthropic's SDK as an application makes it, without retries."""
    with anthropic.Anthropic(base_url=gateway.envoy.url, api_key=gateway.keys["member"], max_retries=0) as one:
        yield one
