"""The dev profile's ports: which ones, and whether they are free, found out before anything is started."""

from __future__ import annotations

import socket

import msgspec

from server.core.setup import SetupError

HOST = "127.0.0.1"
"""All of the dev profile listens on loopback alone."""


class Ports(msgspec.Struct, frozen=True):
    """grpc, edge: the server. http: Envoy. demo: the demo provider."""

    grpc: int
    edge: int
    http: int
    demo: int


def choose_ports(grpc: int, edge: int, http: int, demo: int) -> Ports:
    """The ports as asked for, with a free one for each 0. Raises SetupError with one line that names every taken port,
    what it is for, and the variable that moves it."""
    wanted = (
        ("gRPC server", "DRAGOMAN_GRPC_PORT", grpc),
        ("server's side to Envoy", "DRAGOMAN_EDGE_PORT", edge),
        ("REST side (Envoy)", "DRAGOMAN_HTTP_PORT", http),
        ("demo provider", "DRAGOMAN_DEMO_PORT", demo),
    )
    problems: list[str] = []
    held: list[socket.socket] = []
    owners: dict[int, str] = {}
    chosen: list[int] = []
    try:
        for purpose, variable, port in wanted:
            if port in owners:
                problems.append(f"Port {port} is wanted for the {owners[port]} and for the {purpose}: set {variable}.")
                continue
            probe = socket.socket()
            held.append(probe)
            if not _take(probe, port):
                problems.append(f"Port {port}, for the {purpose}, is taken: free it, or set {variable} to another.")
                continue
            chosen.append(probe.getsockname()[1])
            owners[chosen[-1]] = purpose
    finally:
        for probe in held:
            probe.close()
    if problems:
        raise SetupError(" ".join(problems), mend="")
    return Ports(*chosen)


def is_free(port: int) -> bool:
    """Whether nothing listens on the port of loopback now."""
    with socket.socket() as probe:
        return _take(probe, port)


def _take(probe: socket.socket, port: int) -> bool:
    # As servers do it: the remains of closed connections do not keep a port, a listener does.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((HOST, port))
    except OSError:
        return False
    return True
