"""The command line by TLS: as a caller with a certificate, and as who asks whether this machine's server serves."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.support.certificates import Authority, move_in
from tests.support.ports import free_port
from tests.support.process import RunProcess

HOST = "dragoman.internal"
LIST = ("models", "list", "--remote", "--json")


@pytest.fixture
def serve(dragoman: CommandLine, run_process: RunProcess) -> Callable[..., None]:
    """Start `dragoman serve` with further settings; the commands that follow have them too, and an admin's key."""

    def started(**environ: str) -> None:
        dragoman.environ |= {"DRAGOMAN_GRPC_PORT": str(free_port()), "DRAGOMAN_EDGE_PORT": "0", **environ}
        dragoman.environ["DRAGOMAN_API_KEY"] = dragoman.ok("keys", "create", "--role", "admin").out.strip()
        plain = {name: value for name, value in os.environ.items() if not name.startswith("DRAGOMAN_")}
        settings = plain | {"DRAGOMAN_HOME": str(dragoman.home)} | dragoman.environ
        run_process([sys.executable, "-m", "server", "serve"], env=settings).wait_for_line('"serving"', within=30)

    return started


def server_finding(dragoman: CommandLine, **environ: str) -> str:
    """The level of what `doctor` says of the server."""
    found = dragoman("doctor", "--json", **environ).json()
    return next(str(finding["level"]) for finding in found if finding["what"] == "server")


def test_commands_call_a_server_that_wants_certificates(
    dragoman: CommandLine, serve: Callable[..., None], tmp_path: Path
) -> None:
    """With options, or with the environment; without a certificate or with a stranger's the call fails and says so.
    `health` and `doctor` know the server by its own certificate, and show that where they have none of their own."""
    inside, strangers = Authority("inside"), Authority("strangers")
    # By a name that resolves to the loopback everywhere, since callers check it.
    certificate, key = inside.certify("localhost").write(tmp_path, "server")
    mine, my_key = inside.certify("caller.internal").write(tmp_path, "caller")
    theirs, their_key = strangers.certify("caller.internal").write(tmp_path, "stranger")
    ca = move_in(tmp_path / "ca.pem", inside.pem)
    other_ca = move_in(tmp_path / "other.pem", strangers.pem)
    serve(
        DRAGOMAN_TLS_CERT_FILE=str(certificate),
        DRAGOMAN_TLS_KEY_FILE=str(key),
        DRAGOMAN_TLS_CLIENT_CA_FILE=str(ca),
    )
    listing = (*LIST, "--address", f"localhost:{dragoman.environ['DRAGOMAN_GRPC_PORT']}")

    def options(*files: Path) -> list[str]:
        return [
            word
            for pair in zip(("--tls-ca", "--tls-cert", "--tls-key"), map(str, files), strict=False)
            for word in pair
        ]

    assert dragoman.ok(*listing, *options(ca, mine, my_key)).json() == []
    environ = {
        "DRAGOMAN_CALLER_TLS_CA_FILE": str(ca),
        "DRAGOMAN_CALLER_TLS_CERT_FILE": str(mine),
        "DRAGOMAN_CALLER_TLS_KEY_FILE": str(my_key),
    }
    assert dragoman.ok(*listing, "--tls", **environ).json() == []
    for wrong in (options(ca), options(ca, theirs, their_key), options(other_ca, mine, my_key), ["--tls"]):
        outcome = dragoman(*listing, *wrong)
        assert outcome.status == 1
        assert "No server answers" in outcome.err
        assert "by TLS" in outcome.err
    assert dragoman(*listing).status == 1, "without TLS"
    for unusable in (options(key), options(ca, mine, key), options(ca, mine), ["--tls-key", str(my_key)]):
        assert dragoman(*listing, *unusable).status == 2
    for own in ({}, environ):
        assert "serving" in dragoman.ok("health", **own).err
        assert server_finding(dragoman, **own) == "ok"
    stranger = {"DRAGOMAN_CALLER_TLS_CERT_FILE": str(theirs), "DRAGOMAN_CALLER_TLS_KEY_FILE": str(their_key)}
    assert dragoman("health", **stranger).status == 1
    assert server_finding(dragoman, **stranger) == "problem"
    # Of the server's place, by another certificate: whoever answers there is not it.
    other, its_key = inside.certify("localhost").write(tmp_path, "other")
    assert dragoman("health", DRAGOMAN_TLS_CERT_FILE=str(other), DRAGOMAN_TLS_KEY_FILE=str(its_key)).status == 1


@pytest.mark.parametrize("name", [HOST, "*.internal", ""], ids=["a name", "a wildcard", "plain"])
def test_health_speaks_as_the_server_does_whatever_its_certificate_is_for(
    dragoman: CommandLine, serve: Callable[..., None], tmp_path: Path, name: str
) -> None:
    if name:
        certificate, key = Authority("unknown").certify(name).write(tmp_path, "server")
        serve(DRAGOMAN_TLS_CERT_FILE=str(certificate), DRAGOMAN_TLS_KEY_FILE=str(key))
    else:
        serve()
    assert "serving" in dragoman.ok("health").err


def test_health_without_a_server_or_with_wrong_settings_is_status_1(dragoman: CommandLine) -> None:
    """Never 2, which Docker keeps for itself."""
    port = {"DRAGOMAN_GRPC_PORT": str(free_port())}
    assert dragoman("health", **port).status == 1
    missing = {"DRAGOMAN_TLS_CERT_FILE": "missing.pem", "DRAGOMAN_TLS_KEY_FILE": "missing.key"}
    for wrong in (missing, {"DRAGOMAN_GRPC_PROT": "1"}, {"DRAGOMAN_CALLER_TLS_CERT_FILE": "a.pem"}):
        assert dragoman("health", **port, **wrong).status == 1
