"""Real certificates, made for one test: authorities, and what they sign."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PEM = serialization.Encoding.PEM


class Certificate:
    """A certificate and its private key, as PEM. serial: what tells it from another of the same name."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.pem = certificate.public_bytes(_PEM)
        self.serial = certificate.serial_number
        self._key = key

    def key_pem(self, password: bytes | None = None) -> bytes:
        """The private key; encrypted where there is a password."""
        how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        return self._key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, how)

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """As `name`.pem and `name`.key, each moved to its place whole, as a renewal does."""
        return move_in(folder / f"{name}.pem", self.pem), move_in(folder / f"{name}.key", self.key_pem())


class Authority:
    """A CA of its own."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = self._certificate.public_bytes(_PEM)

    def certify(self, host: str) -> Certificate:
        """A certificate for `host`, good for servers and for clients."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        builder = self._builder(subject, key.public_key()).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False
        )
        return Certificate(builder.sign(self._key, hashes.SHA256()), key)

    def _builder(self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )


def move_in(path: Path, content: bytes) -> Path:
    """Write beside `path`, then move it there."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    return new.replace(path)


def serial_of(der: bytes | None) -> int:
    """The serial number of a certificate as a TLS peer shows it."""
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number
