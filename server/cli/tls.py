"""TLS of the command line: what it shows, whom it trusts, and how it knows the server of its own settings."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from server.core.setup import SetupError

if TYPE_CHECKING:
    import grpc

    from server.settings import Settings

_HANDSHAKE_SECONDS = 2.0


class Tls(NamedTuple):
    """PEM. roots: who signs for the server, None for the system's authorities. certificate and key: shown to a server
    that wants them, None for none. name: that the server's certificate must be for; "" for the one that is called."""

    roots: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None
    name: str = ""


def read_tls(roots: Path | None, certificate: Path | None, key: Path | None) -> Tls:
    """The files' content. Raises SetupError for one that cannot be read or used, which gRPC would not tell."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if roots is not None:
        try:
            context.load_verify_locations(roots)
        except (OSError, ValueError) as exc:
            raise SetupError(
                f"The file {roots} holds no certificates.", mend="Name a PEM file of authorities."
            ) from exc
    if certificate is not None and key is not None:
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError) as exc:
            raise SetupError(
                f"The files {certificate} and {key} do not make a certificate with its key.",
                mend="Name PEM files that belong together; the key must not be encrypted.",
            ) from exc
    return Tls(
        roots=roots.read_bytes() if roots else None,
        certificate=certificate.read_bytes() if certificate else None,
        key=key.read_bytes() if key else None,
    )


def open_channel(place: str, tls: Tls | None, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
    """A channel to `place` (host:port)."""
    import grpc  # noqa: PLC0415

    if tls is None:
        return grpc.insecure_channel(place, options)
    if tls.name:
        options = [*options, ("grpc.ssl_target_name_override", tls.name)]
    return grpc.secure_channel(place, grpc.ssl_channel_credentials(tls.roots, tls.key, tls.certificate), options)


def own_server(settings: Settings) -> tuple[str, Tls | None]:
    """Where a server of these very settings answers on this machine, and how it is spoken to.

    It is known by its own certificate, whatever authority signed that and whatever its name is. To one that wants
    certificates, the caller's is shown where there is one, else the server's own. Raises SetupError for files that
    cannot be used, OSError where no server of this certificate answers.
    """
    host = settings.grpc_host.strip("[]")
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    place = f"[{host}]:{settings.grpc_port}" if ":" in host else f"{host}:{settings.grpc_port}"
    files = settings.tls_files()
    if files is None:
        return place, None
    certificate, key, client_authorities = files
    shown: tuple[Path | None, Path | None] = (settings.caller_tls_cert_file, settings.caller_tls_key_file)
    if shown[0] is None and client_authorities is not None:
        shown = certificate, key
    tls = read_tls(certificate, *shown)
    return place, tls._replace(name=_name_of(host, settings.grpc_port, certificate, *shown))


def _name_of(host: str, port: int, certificate: Path, own: Path | None, key: Path | None) -> str:
    """A name that the server's certificate is for, from a handshake in which it must show that very certificate: the
    standard library parses what it was shown, and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(certificate)
    context.set_alpn_protocols(["h2"])
    if own is not None and key is not None:
        context.load_cert_chain(own, key, password=_no_password)
    with (
        socket.create_connection((host, port), timeout=_HANDSHAKE_SECONDS) as plain,
        context.wrap_socket(plain) as secure,
    ):
        shown: dict[str, Any] = dict(secure.getpeercert() or {})
    names = [name for kind, name in shown.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    # gRPC goes by the common name where there is no other, as old certificates have it.
    names += [name for parts in shown.get("subject", ()) for kind, name in parts if kind == "commonName"]
    # A wildcard is met by any name of its kind.
    return str(names[0]).replace("*", "any", 1) if names else ""


def _no_password() -> str:
    raise ValueError("the private key is encrypted")
