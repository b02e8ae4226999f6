"""The parts of the dev profile that need no Envoy: ports, children, dev.env, what it seeds, what it prints."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.app import Services, open_services
from server.core.access import Role, operator
from server.core.model_settings import ModelSettingsChange
from server.core.secret import Secret
from server.core.setup import SetupError
from server.dev.children import Children
from server.dev.demo.journal import wait_until
from server.dev.demo_provider import DemoServer
from server.dev.env_file import DevEnv, read_env_file, write_env_file
from server.dev.greeting import greeting
from server.dev.ports import Ports, choose_ports, is_free
from server.dev.profile import run
from server.dev.seed import Demo, seed, validate
from server.services.provider_configs import ConfigChange
from server.settings import load_settings
from server.store.master_key import create_master_key_file
from server.store.schema import migrate
from tests.support.ports import free_port


def test_ports_are_as_asked_for_and_0_is_any() -> None:
    wanted = free_port()
    ports = choose_ports(wanted, 0, 0, 0)
    assert ports.grpc == wanted
    assert len({ports.grpc, ports.edge, ports.http, ports.demo}) == 4
    assert 0 not in {ports.edge, ports.http, ports.demo}


def test_every_taken_port_is_named_in_one_line() -> None:
    """The line has each taken port, what it is for and its variable, and nothing of the free one."""
    with socket.socket() as one, socket.socket() as other:
        for listener in (one, other):
            listener.bind(("127.0.0.1", 0))
            listener.listen()
        grpc, http = one.getsockname()[1], other.getsockname()[1]
        with pytest.raises(SetupError) as caught:
            choose_ports(grpc, 0, http, 0)
        assert not is_free(grpc)
    line = str(caught.value)
    assert "\n" not in line
    for word in (
        f"Port {grpc}, for the gRPC server,",
        "DRAGOMAN_GRPC_PORT",
        f"Port {http}, for the REST side (Envoy),",
    ):
        assert word in line
    assert "demo" not in line


def test_one_port_for_two_purposes_is_refused() -> None:
    port = free_port()
    with pytest.raises(SetupError, match=f"Port {port} is wanted for the gRPC server and for the demo provider"):
        choose_ports(port, 0, 0, port)


def test_another_host_than_loopback_is_refused() -> None:
    """The dev profile has keys that are made for one machine: it never listens beyond it."""
    with pytest.raises(SetupError, match="DRAGOMAN_GRPC_HOST"):
        run(load_settings({"DRAGOMAN_GRPC_HOST": "0.0.0.0"}), {})


async def test_children_get_no_credential_and_are_gone_after_the_block(tmp_path: Path) -> None:
    """A child that ignores SIGTERM gets SIGKILL; of the environment it sees where things are, and no setting or key."""
    program = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(sorted(os.environ), flush=True); time.sleep(60)"
    )
    environ = {"PATH": os.environ["PATH"], "OPENAI_API_KEY": "sk", "DRAGOMAN_MASTER_KEY": "k", "AWS_REGION": "x"}
    with Children(tmp_path, stop_seconds=0.2) as children:
        child = children.start("A child", "child", [sys.executable, "-c", program], cwd=tmp_path, environ=environ)
        await wait_until(lambda: child.last_words().endswith("]"), 20, "the child's line")
        words = child.last_words()
    assert "PATH" in words
    assert not any(name in words for name in environ if name != "PATH")
    assert await child.ended() == -9


def test_dev_env_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Two lines, mode 0600, whatever the file was before; a file that lacks one counts as none."""
    path = tmp_path / "dev.env"
    assert read_env_file(path) is None
    path.write_text("DRAGOMAN_API_KEY=old\n")
    path.chmod(0o644)
    assert read_env_file(path) is None
    write_env_file(path, DevEnv(Secret("dgm_x"), "ws_1"))
    assert path.read_text() == "DRAGOMAN_API_KEY=dgm_x\nDRAGOMAN_WORKSPACE=ws_1\n"
    assert path.stat().st_mode & 0o777 == 0o600
    kept = read_env_file(path)
    assert kept is not None
    assert (kept.key.reveal(), kept.workspace) == ("dgm_x", "ws_1")


def test_the_printed_commands_survive_a_path_with_blanks(tmp_path: Path) -> None:
    """The Python command is quoted for a shell."""
    root = tmp_path / "a checkout"
    text = greeting(DevEnv(Secret("dgm_x"), "ws"), Ports(1, 2, 3, 4), root=root, home=tmp_path, seconds=1)
    command = next(line for line in text.splitlines() if "grpc_chat.py" in line)
    assert str(root / "examples" / "grpc_chat.py") in shlex.split(command)


# --- seeding ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def opened(home: Path, demo: DemoServer) -> AsyncIterator[Services]:
    environ = {"DRAGOMAN_HOME": str(home), "DRAGOMAN_ALLOWED_ENDPOINTS": f"127.0.0.1:{demo.port},127.0.0.1:1"}
    settings = load_settings(environ)
    path = settings.master_key_path()
    assert path is not None
    create_master_key_file(path)
    await migrate(settings.database())
    async with open_services(settings) as services:
        yield services


async def test_seeding_twice_changes_nothing(tmp_path: Path, demo_provider: DemoServer) -> None:
    """The second time finds everything in order: same key, same etags, one validation."""
    demo = Demo(demo_provider.base_url, Secret(demo_provider.api_key))
    async with opened(tmp_path, demo_provider) as services:
        states = []
        for _ in range(2):
            await seed(services, tmp_path / "dev.env", demo, Secret("sk-first-openai-key"))
            env = read_env_file(tmp_path / "dev.env")
            assert env is not None
            await validate(services, env)
            configs = (await services.configs.list(env.workspace)).configs
            states.append((env.key.reveal(), [(config.name, config.etag, config.valid) for config in configs]))
        principal = await services.access.authenticate(states[0][0])
        assert principal.workspace_id is not None
        assert services.models.resolve(principal.workspace_id).id == "custom/demo-chat"
    assert states[0] == states[1]
    assert sorted(name for name, _, _ in states[0][1]) == ["demo", "openai"]
    assert principal.role is Role.ADMIN
    assert len(demo_provider.exchanges) == 1


async def test_seeding_follows_a_moved_demo_and_a_new_openai_key(tmp_path: Path, demo_provider: DemoServer) -> None:
    """Another endpoint or credential is stored; what an admin chose as default stays."""
    demo = Demo(demo_provider.base_url, Secret(demo_provider.api_key))
    async with opened(tmp_path, demo_provider) as services:
        env = await seed(services, tmp_path / "dev.env", Demo("http://127.0.0.1:1/v1", Secret("old")), Secret("sk-old"))
        workspace = services.store.snapshots.current().workspaces[env.workspace]
        change = ModelSettingsChange(default_model="openai/gpt-4o")
        await services.model_settings.update(operator(workspace.org_id), workspace.id, change)
        await seed(services, tmp_path / "dev.env", demo, Secret("sk-canary-new-openai-key"))
        configs = {config.name: config for config in (await services.configs.list(env.workspace)).configs}
        assert configs["demo"].endpoint == demo_provider.base_url
        assert configs["openai"].secret_mask == "****-key"
        assert services.store.snapshots.current().workspaces[env.workspace].default_model == "openai/gpt-4o"
        await validate(services, env)
        validated = {config.name: config.valid for config in (await services.configs.list(env.workspace)).configs}
    assert validated["demo"] is True


async def test_seeding_without_an_openai_key_keeps_the_stored_one(tmp_path: Path, demo_provider: DemoServer) -> None:
    demo = Demo(demo_provider.base_url, Secret(demo_provider.api_key))
    async with opened(tmp_path, demo_provider) as services:
        await seed(services, tmp_path / "dev.env", demo, Secret("sk-first-openai-key"))
        env = await seed(services, tmp_path / "dev.env", demo, None)
        names = {config.name for config in (await services.configs.list(env.workspace)).configs}
    assert names == {"demo", "openai"}


async def test_a_demo_configuration_that_was_switched_off_serves_again(
    tmp_path: Path, demo_provider: DemoServer
) -> None:
    demo = Demo(demo_provider.base_url, Secret(demo_provider.api_key))
    async with opened(tmp_path, demo_provider) as services:
        env = await seed(services, tmp_path / "dev.env", demo, None)
        principal = await services.access.authenticate(env.key.reveal())
        (config,) = (await services.configs.list(env.workspace)).configs
        await services.configs.update(principal, config.id, ConfigChange(active=False))
        await seed(services, tmp_path / "dev.env", demo, None)
        (config,) = (await services.configs.list(env.workspace)).configs
    assert config.active


@pytest.mark.parametrize("kept", ["DRAGOMAN_API_KEY=dgm_no\nDRAGOMAN_WORKSPACE=ws_dev\n", "rubbish\n", ""])
async def test_a_key_that_does_not_work_is_replaced(tmp_path: Path, demo_provider: DemoServer, kept: str) -> None:
    """Whatever dev.env says before, its key is an admin key of the workspace after."""
    demo = Demo(demo_provider.base_url, Secret(demo_provider.api_key))
    (tmp_path / "dev.env").write_text(kept)
    async with opened(tmp_path, demo_provider) as services:
        await seed(services, tmp_path / "dev.env", demo, None)
        env = read_env_file(tmp_path / "dev.env")
        assert env is not None
        principal = await services.access.authenticate(env.key.reveal())
    assert (principal.workspace_id, principal.role) == (env.workspace, Role.ADMIN)
