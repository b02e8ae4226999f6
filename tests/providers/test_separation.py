"""Each adapter's room stands by itself: without it all others work, and none is imported before it is used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from server.providers.registry import ENTRIES
from tests.support.ports import free_port
from tests.support.process import PROJECT

ROOMS = sorted({entry.adapter.partition(":")[0] for entry in ENTRIES.values()})

STANDS_ON = {"server.providers.openai_responses": "server.providers.openai_chat"}
"""Room -> the one that it is built upon. A server of Responses speaks Chat Completions too (`legacy`), with the same
addresses, keys, errors and list of models."""

HIDE = """
import json, sys
from importlib.abc import MetaPathFinder

class Hidden(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1] or name.startswith(sys.argv[1] + "."):
            raise ModuleNotFoundError(f"{name} is hidden", name=name)

sys.meta_path.insert(0, Hidden())
"""

CALL_ALL = """
import asyncio
import server.app
from server.core.messages import ChatRequest, Message, Text
from server.core.ports import ProviderCall, ProviderTarget
from server.core.secret import Secret
from server.core.errors import ProviderUnauthenticated
from server.providers.registry import ENTRIES, ProviderRegistry
from server.providers.transport.fake import FakeReply, FakeTransport

async def called(slug):
    transport = FakeTransport(FakeReply(status=401, chunks=[b"{}"]))
    target = ProviderTarget(
        provider=slug, config_id="c", endpoint="https://peer.example/v1", secret=Secret("sk-0123456789ab")
    )
    request = ChatRequest(messages=(Message("user", (Text("Hi"),)),))
    try:
        provider = ProviderRegistry(transport).get(slug)
    except ModuleNotFoundError:
        return False
    try:
        async for _ in provider.chat(ProviderCall(target=target, request=request, model="m", stream=True)):
            pass
    except ProviderUnauthenticated:
        return len(transport.requests) == 1
    return False

print(json.dumps([slug for slug in ENTRIES if asyncio.run(called(slug))]))
"""

SERVE = """
import asyncio, json, sys
from pathlib import Path
from server.app import running_server
from server.settings import load_settings
from server.store.master_key import create_master_key_file
from server.store.schema import migrate

async def main():
    ports = {"DRAGOMAN_GRPC_PORT": sys.argv[2], "DRAGOMAN_EDGE_PORT": "0"}
    settings = load_settings({"DRAGOMAN_HOME": sys.argv[1], **ports})
    create_master_key_file(settings.master_key_path())
    await migrate(settings.database())
    async with running_server(settings):
        print(json.dumps(sorted(sys.modules)))

asyncio.run(main())
"""


def python(code: str, *arguments: str) -> list[str]:
    """The JSON list that a program prints at its end."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=PROJECT, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_without_one_room_all_other_providers_are_called(room: str) -> None:
    """The application is imported, and every provider that the room does not serve sends its request and understands
    the answer."""
    gone = {room} | {above for above, below in STANDS_ON.items() if below == room}
    rest = [slug for slug, entry in ENTRIES.items() if entry.adapter.partition(":")[0] not in gone]
    assert python(HIDE + CALL_ALL, room) == rest


def test_a_server_that_calls_nobody_imports_no_adapter(tmp_path: Path) -> None:
    """Ready to serve, without one adapter, and without what only one adapter needs."""
    home = tmp_path / "home"
    home.mkdir()
    loaded = python(SERVE, str(home), str(free_port()))
    assert "server.app" in loaded
    assert [name for name in loaded if name.startswith((*ROOMS, "botocore"))] == []
