"""`health`: whether the server of these settings serves, for what looks after containers and processes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from server.cli.context import setup_of
from server.cli.tls import open_channel, own_server
from server.core.setup import SetupError

if TYPE_CHECKING:
    from server.settings import Settings

PROBE_SECONDS = 2.0


class NoServer(Exception):
    """Nothing at the server's place speaks as it does. The text says what was met."""


def health(ctx: typer.Context) -> None:
    """Ask this machine's server whether it serves, by TLS where the settings say so. Exit status 1 where not."""
    try:
        place, serves = probe(setup_of(ctx).settings)
    except (SetupError, NoServer) as error:  # status 2 means something else to Docker
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    print(f"{place}: {'serving' if serves else 'not serving'}", file=sys.stderr)
    if not serves:
        raise typer.Exit(1)


def probe(settings: Settings) -> tuple[str, bool]:
    """Where the server is, and whether it serves (grpc.health.v1). Raises NoServer; SetupError for its TLS files."""
    import grpc  # noqa: PLC0415
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    place = f"port {settings.grpc_port}"
    try:
        place, tls = own_server(settings)
        with open_channel(place, tls) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=PROBE_SECONDS)
    except OSError as error:
        raise NoServer(f"no server with its own certificate at {place} ({type(error).__name__})") from error
    except grpc.RpcError as error:
        raise NoServer(f"no gRPC server at {place}") from error
    return place, bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
