"""TLS of the server: certificates from files, which are read again when they change.

Files are looked at in every handshake, so a renewed certificate or another client authority is in use from the next
connection on, and connections that are open go on as they are.
"""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path
from typing import NamedTuple

import grpc

from server.core.setup import SetupError

log = logging.getLogger("dragoman.tls")

_State = tuple[tuple[int, int, int], ...]

_READS = 3


class CertificateFiles(NamedTuple):
    """PEM files: the certificate with what it was signed by, up to a root's (which may be left out); its private key,
    not encrypted; and the authorities of which callers must have a certificate, None: callers need none."""

    certificate: Path
    key: Path
    client_authorities: Path | None = None


class _Unusable(Exception):
    """Says which file cannot be used and why; nothing of what stands in it."""


class _Loaded(NamedTuple):
    """What the files hold, for gRPC's server and for asyncio's."""

    grpc: grpc.ServerCertificateConfiguration
    ssl: ssl.SSLContext


class ServerCertificates:
    """What the files held when they last made sense together. May be asked from any thread. One for each server: it
    tells of a change once."""

    def __init__(self, files: CertificateFiles) -> None:
        """Raises SetupError where the files cannot be used."""
        self._files = files
        self._lock = threading.Lock()
        try:
            self._state, self._current = _read(files)
        except _Unusable as exc:
            raise SetupError(
                f"The server's TLS certificate cannot be used: {exc}.",
                mend="Give PEM files that belong together: DRAGOMAN_TLS_CERT_FILE, DRAGOMAN_TLS_KEY_FILE, "
                "DRAGOMAN_TLS_CLIENT_CA_FILE.",
            ) from None
        self._refused = ""

    def credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`; asks again at each handshake."""
        return grpc.dynamic_ssl_server_credentials(
            self._current.grpc,
            self.changed,  # type: ignore[arg-type]  # None for "no change", which the stubs do not know
            require_client_authentication=self._files.client_authorities is not None,
        )

    def ssl_context(self) -> ssl.SSLContext:
        """For `loop.create_server`; the files are looked at in each handshake."""
        context = self._current.ssl

        def renew(handshake: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            self.changed()
            handshake.context = self._current.ssl

        context.sni_callback = renew  # called without a name as well
        return context

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """The certificates, if the files changed since they were last used. Files that cannot be used (half written, or
        not belonging together) leave those in use that are, and are named in the log once."""
        with self._lock:
            try:
                state = _state(self._files)
                if state == self._state:
                    return None
                self._state, self._current = _read(self._files)
            except _Unusable as exc:
                if self._refused != str(exc):
                    self._refused = str(exc)
                    log.warning("TLS certificates stay as they were: %s", exc)
                return None
            self._refused = ""
            log.info("TLS certificates read again")
            return self._current.grpc


def _read(files: CertificateFiles) -> tuple[_State, _Loaded]:
    """What the files hold, all of one moment. Raises _Unusable."""
    for _ in range(_READS):
        state = _state(files)
        configuration = _load(files)
        if _state(files) == state:
            return state, configuration
    raise _Unusable("the files change while they are read")


def _load(files: CertificateFiles) -> _Loaded:
    # gRPC would take anything, and fail at each handshake without a word; Python's ssl tells now.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "reason", None) or type(exc).__name__
        both = f"{files.certificate} and {files.key}"
        raise _Unusable(f"{both} do not make a certificate with its key ({reason})") from exc
    authorities = None
    if files.client_authorities is not None:
        authorities = _bytes(files.client_authorities)
        try:
            context.load_verify_locations(cadata=authorities.decode("ascii"))
        except (OSError, ValueError) as exc:
            raise _Unusable(f"{files.client_authorities} holds no certificates in PEM form") from exc
        if not context.get_ca_certs():
            raise _Unusable(f"{files.client_authorities} holds no certificate of an authority")
        context.verify_mode = ssl.CERT_REQUIRED
    pair = (_bytes(files.key), _bytes(files.certificate))
    return _Loaded(grpc.ssl_server_certificate_configuration([pair], root_certificates=authorities), context)


def _no_password() -> str:
    raise ValueError("the private key is encrypted")


def _state(files: CertificateFiles) -> _State:
    states = []
    for path in files:
        if path is not None:
            try:
                found = path.stat()
            except OSError as exc:
                raise _Unusable(f"{path} cannot be read") from exc
            states.append((found.st_ino, found.st_mtime_ns, found.st_size))
    return tuple(states)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise _Unusable(f"{path} cannot be read") from exc
