"""A gateway beside the shared one, whose configurations may lead to peers on this machine by the providers' names."""

from __future__ import annotations

import dataclasses
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec

from server.dev.envoy import Address
from tests.e2e.envoy import proxy
from tests.e2e.providers import HOSTS, KEY, Provider
from tests.e2e.stack import OWN, Stack
from tests.support.canary import assert_absent
from tests.support.ports import free_port
from tests.support.process import RunningProcess


@dataclass(frozen=True)
class House:
    """A running gateway, and its administrator."""

    stack: Stack
    admin: httpx.Client

    @contextmanager
    def configured(self, provider: Provider, port: int) -> Iterator[Configured]:
        """A configuration of the provider at that port, made and deleted over REST."""
        body = {
            "name": f"{provider.name}-{uuid.uuid4().hex[:8]}",
            "aiType": provider.ai_type,
            "provider": provider.slug,
            "workspaceId": OWN,
            "endpoint": provider.endpoint(port),
            "secret": provider.secret,
            "key": provider.key,
        }
        created = self.admin.post("/ai/llm", json=body)
        assert created.status_code == 200, created.text
        id = created.json()["aiLlmId"]
        yield Configured(id, str(body["name"]), provider)
        assert self.admin.delete(f"/ai/llm/{id}").status_code == 200


@dataclass(frozen=True)
class Configured:
    """A provider's configuration."""

    id: str
    name: str
    provider: Provider

    def asks(self, *messages: Mapping[str, Any], **more: object) -> dict[str, Any]:
        """The body of a call."""
        return {
            "provider": self.provider.slug,
            "providerName": self.name,
            "model": self.provider.model,
            "messages": list(messages),
            **self.provider.request,
            **more,
        }


@contextmanager
def running_house(stack: Stack, folder: Path, ports: Sequence[int]) -> Iterator[House]:
    """A second server on the data of `stack`, with an Envoy of its own. ports: those that it may call on this machine.
    No provider's key may be in what it writes. folder: an empty one."""
    port, edge_port = free_port(), free_port()
    allowed = [f"{host}:{peer}" for host in ("127.0.0.1", *HOSTS) for peer in ports]
    environ = {
        **stack.environ,
        "DRAGOMAN_GRPC_PORT": str(port),
        "DRAGOMAN_EDGE_PORT": str(edge_port),
        "DRAGOMAN_ALLOWED_ENDPOINTS": ",".join(allowed),
    }
    with ExitStack() as held:
        command = [sys.executable, "-m", "tests.e2e.named_server", ",".join(HOSTS)]
        server = held.enter_context(RunningProcess(command, env=environ, log=folder / "server.log"))
        server.wait_for_port(port)
        (folder / "envoy").mkdir()
        addresses = Address("127.0.0.1", port), Address("127.0.0.1", edge_port)
        envoy = held.enter_context(proxy(folder / "envoy", *addresses))
        settings = msgspec.structs.replace(stack.settings, grpc_port=port, edge_port=edge_port)
        here = dataclasses.replace(stack, settings=settings, environ=environ, server=server, envoy=envoy)
        yield House(here, held.enter_context(here.rest("admin")))
    assert_absent(KEY, folder / "server.log", folder / "envoy" / "envoy.log")
