"""One gateway before a server that plays every provider's wire, for all tests of dialects."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import httpx
import openai
import pytest

from tests.e2e.stack import OWN, Stack, running_stack
from tests.support.matrix import AZURE_HOST, PROVIDERS, Provider
from tests.support.wires import WireServer, wire_server

SECRET = "sk-canary-wires-5c1e77d0"

MODELS = {
    wire: PROVIDERS[name].model
    for wire, name in (
        ("anthropic", "anthropic"),
        ("bedrock", "bedrock"),
        ("chat", "groq"),
        ("gemini", "gemini"),
        ("openai", "openai"),
    )
}
"""A model of one provider for each wire; OpenAI's own is called by two."""


@pytest.fixture(scope="session")
def wires() -> Iterator[WireServer]:
    """The providers."""
    with wire_server() as server:
        yield server


@pytest.fixture(scope="session")
def gateway(wires: WireServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway with a configuration for each wire, in the own workspace."""
    folder = tmp_path_factory.mktemp("dialects")
    allowed = [f"{host}:{wires.port}" for host in ("127.0.0.1", AZURE_HOST)]
    with running_stack(folder, allowed=allowed, names=[AZURE_HOST]) as stack:
        with stack.rest("admin") as admin:
            for name in ("anthropic", "bedrock", "gemini", "groq", "openai"):
                _configure(admin, PROVIDERS[name], wires, OWN)
        yield stack


def _configure(rest: httpx.Client, provider: Provider, wires: WireServer, workspace: str) -> None:
    body = {"name": provider.name, "aiType": provider.ai_type, "provider": provider.slug, "flavor": provider.flavor}
    endpoint = f"http://{provider.host}:{wires.port}{provider.path}"
    body |= {"workspaceId": workspace, "secret": SECRET, "endpoint": endpoint}
    rest.post("/ai/llm", json=body).raise_for_status()


@pytest.fixture(scope="session")
def workspaces(gateway: Stack, wires: WireServer) -> dict[str, str]:
    """A workspace for each provider, which has nothing else: the key of an application there, by provider."""
    keys: dict[str, str] = {}
    with gateway.rest("organisation") as rest:
        for name, provider in PROVIDERS.items():
            workspace = f"ws_{name}"
            rest.post("/api/v1/access/workspaces", json={"name": name, "id": workspace}).raise_for_status()
            _configure(rest, provider, wires, workspace)
            models = {"workspaceId": workspace, "enable": [provider.model]}
            rest.patch("/api/v1/access/models", json=models).raise_for_status()
            key = {"workspaceId": workspace, "role": "member", "name": name}
            keys[name] = rest.post("/api/v1/access/keys", json=key).raise_for_status().json()["secret"]
    return keys


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> Provider:
    """Each provider in turn."""
    return PROVIDERS[request.param]


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


@pytest.fixture
def openai_at(openai_sdk: openai.OpenAI, workspaces: dict[str, str], provider: Provider) -> openai.OpenAI:
    """OpenAI's SDK with the key of the workspace that has `provider`."""
    return openai_sdk.with_options(api_key=workspaces[provider.name])


@pytest.fixture
def anthropic_at(
    anthropic_sdk: anthropic.Anthropic, workspaces: dict[str, str], provider: Provider
) -> anthropic.Anthropic:
    """Anthropic's SDK with the key of the workspace that has `provider`."""
    return anthropic_sdk.with_options(api_key=workspaces[provider.name])
