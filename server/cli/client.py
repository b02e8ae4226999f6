"""The command line as a caller: a channel, a key, and a failed call put into words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from server.cli.tls import Tls, open_channel, read_tls
from server.core.setup import SetupError
from server.settings import Settings

if TYPE_CHECKING:
    import grpc

RemoteOption = Annotated[bool, typer.Option("--remote", help="Ask the running server by gRPC, as DRAGOMAN_API_KEY.")]
AddressOption = Annotated[
    str, typer.Option("--address", help="The server's host:port. Default: 127.0.0.1 and DRAGOMAN_GRPC_PORT.")
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(
        "--key-file", help="A file with the key, alone or as a DRAGOMAN_API_KEY= line. Default: that variable."
    ),
]
TlsOption = Annotated[bool, typer.Option("--tls", help="Speak TLS, trusting the system's authorities or --tls-ca.")]
TlsCaOption = Annotated[
    Path | None,
    typer.Option("--tls-ca", help="PEM: who signs for the server. Means --tls. Default: DRAGOMAN_CALLER_TLS_CA_FILE."),
]
TlsCertOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert",
        help="PEM: for a server that wants certificates. Means --tls. Default: DRAGOMAN_CALLER_TLS_CERT_FILE.",
    ),
]
TlsKeyOption = Annotated[
    Path | None, typer.Option("--tls-key", help="PEM: its private key. Default: DRAGOMAN_CALLER_TLS_KEY_FILE.")
]

PAGE = 500


class CallFailed(Exception):
    """A call that the server refused or that did not reach it. The text has a line for each thing worth knowing."""


class Caller:
    """A channel to the server, and the metadata that says who calls."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self.channel = channel
        self.metadata = (("authorization", f"Bearer {key}"),)


class Way(NamedTuple):
    """To which server, and as whom. tls: None to speak without it."""

    address: str
    key_file: Path | None
    tls: Tls | None


def way(
    settings: Settings,
    address: str,
    key_file: Path | None,
    *,
    tls: bool,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
) -> Way:
    """What the options say, the settings where they say nothing. Raises SetupError for files that cannot be used."""
    place = address or f"127.0.0.1:{settings.grpc_port}"
    if not (tls or ca or certificate or key):
        return Way(place, key_file, None)
    if (certificate is None) != (key is None):
        raise typer.BadParameter("give --tls-cert and --tls-key together")
    if certificate is None:
        certificate, key = settings.caller_tls_cert_file, settings.caller_tls_key_file
    return Way(place, key_file, read_tls(ca or settings.caller_tls_ca_file, certificate, key))


@contextlib.contextmanager
def calling(settings: Settings, way: Way) -> Iterator[Caller]:
    """A Caller for the block. Raises SetupError without a key, CallFailed in place of grpc's errors."""
    key = _key(settings, way.key_file)
    import grpc  # noqa: PLC0415

    options = [("grpc.max_receive_message_length", settings.max_message_bytes)]
    with open_channel(way.address, way.tls, options) as channel:
        try:
            yield Caller(channel, key)
        except grpc.RpcError as error:
            raise CallFailed(explain(error, way.address, tls=way.tls is not None)) from None


def _key(settings: Settings, key_file: Path | None) -> str:
    if key_file is None:
        if settings.api_key is None:
            raise SetupError("There is no key to call with.", mend="Set DRAGOMAN_API_KEY, or name a --key-file.")
        return settings.api_key.reveal()
    try:
        lines = key_file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as exc:
        raise SetupError(f"The key file {key_file} cannot be read.", mend="Name a text file with the key.") from exc
    named = [line.removeprefix("DRAGOMAN_API_KEY=") for line in lines if line.startswith("DRAGOMAN_API_KEY=")]
    keys = named or lines
    if len(keys) != 1 or not keys[0].isascii():
        raise SetupError(f"The file {key_file} does not hold one key.", mend="Put the key alone into it.")
    return keys[0]


def explain(error: Any, place: str, *, tls: bool = False) -> str:
    """What happened, whose fault it is, when to try again, what to do: from the status details, where there are any."""
    from google.rpc import error_details_pb2  # noqa: PLC0415
    from grpc_status import rpc_status  # noqa: PLC0415

    code = error.code().name
    lines = [error.details() or code]
    status = rpc_status.from_call(error)
    if status is None:
        if code == "UNAVAILABLE":
            lines = _nobody_answers(place, tls=tls)
        return "\n  ".join([*lines, f"status  {code}"])
    info, retry, bad = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        for kind in (info, retry, bad):
            if detail.Is(kind.DESCRIPTOR):
                detail.Unpack(kind)
    facts = info.metadata
    lines += [f"field   {violation.field}: {violation.description}" for violation in bad.field_violations]
    lines.append(f"status  {code}" + (f", {info.reason}" if info.reason else ""))
    if facts.get("fault"):
        lines.append(f"fault   {facts['fault']}")
    lines.append(f"retry   {_retry(facts.get('retryable', ''), retry)}")
    if facts.get("candidates"):
        lines.append(f"near    {facts['candidates'].replace(',', ', ')}")
    if facts.get("action"):
        lines.append(f"do      {facts['action']}")
    if facts.get("request_id"):
        lines.append(f"id      {facts['request_id']}")
    return "\n  ".join(lines)


def _nobody_answers(place: str, *, tls: bool) -> list[str]:
    lines = [
        f"No server answers at {place}{' by TLS' if tls else ''}.",
        "do      start it ('dragoman serve' or 'make run'), or name --address",
    ]
    if tls:
        lines.append("        or see that --tls-ca signed for it, and that it takes --tls-cert if it wants one")
    return lines


def _retry(retryable: str, retry: Any) -> str:
    if retryable != "true":
        return "no"
    return f"after {retry.retry_delay.ToNanoseconds() / 1e9:g} s" if retry.HasField("retry_delay") else "yes"


def remote_models(settings: Settings, way: Way, workspace: str) -> Sequence[Any]:
    """All of the workspace's models, as the server tells them. Raises SetupError, CallFailed."""
    from dragoman.v1 import model_service_pb2, model_service_pb2_grpc  # noqa: PLC0415

    found: list[Any] = []
    with calling(settings, way) as caller:
        stub = model_service_pb2_grpc.ModelServiceStub(caller.channel)
        token = ""
        while True:
            request = model_service_pb2.ListModelsRequest(
                workspace_id=workspace or settings.workspace, page_size=PAGE, page_token=token
            )
            page = stub.ListModels(request, metadata=caller.metadata, timeout=30)
            found.extend(page.data)
            token = page.next_page_token
            if not token:
                return found
