"""An OpenID Connect issuer over real HTTP on loopback, with real keys; a test rotates them, or takes it down."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "dragoman"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class SigningKey:
    """A private key with its id, and what of it is published."""

    def __init__(self, kid: str, algorithm: str = "ES256", *, bits: int = 2048) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private: PrivateKey
        match algorithm[:2]:
            case "RS" | "PS":
                self.private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
            case "Ed":
                self.private = ed25519.Ed25519PrivateKey.generate()
            case _:
                curves: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}
                self.private = ec.generate_private_key(curves[algorithm])

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """The public key as a JWKS has it; changes: members to set, None to leave out."""
        kind = {"RS": RSAAlgorithm, "PS": RSAAlgorithm, "Ed": OKPAlgorithm}.get(self.algorithm[:2], ECAlgorithm)
        published = json.loads(kind.to_jwk(self.private.public_key()))  # type: ignore[attr-defined]
        given = published | {"kid": self.kid, "use": "sig"} | changes
        return {name: value for name, value in given.items() if value is not None}

    def public_pem(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class Issuer:
    """What the issuer publishes and how it fails, for a test to set, and its tokens. url: its `iss`."""

    def __init__(self, *keys: SigningKey) -> None:
        self.url = ""
        self.port = 0
        self.jwks: Any = {"keys": [key.jwk() for key in keys]}
        self.discovery: dict[str, Any] = {}
        self.status = 200
        self.asked: list[str] = []

    def publish(self, *keys: SigningKey) -> None:
        """These keys, and no others."""
        self.jwks = {"keys": [key.jwk() for key in keys]}

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Good ones; changes: claims to set, None to leave out."""
        now = int(time.time())
        good = {"iss": self.url, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 300}
        given = good | {"workspace": "ws_1", "role": "member"} | changes
        return {name: value for name, value in given.items() if value is not None}

    def token(self, key: SigningKey, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """A token signed with `key`. header: beyond the key's id."""
        named = {"kid": key.kid} | (header or {})
        algorithm = named.pop("alg", key.algorithm)
        return jwt.encode(self.claims(**changes), key.private, algorithm=algorithm, headers=named)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if self.status != 200:
            return web.Response(status=self.status, text="no")
        if request.path == "/.well-known/openid-configuration":
            return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/jwks"} | self.discovery)
        return web.json_response(self.jwks)


@asynccontextmanager
async def serving(issuer: Issuer) -> AsyncIterator[Issuer]:
    """The issuer, on a free port."""
    app = web.Application()
    app.router.add_get("/{path:.*}", issuer.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    issuer.port = runner.addresses[0][1]
    issuer.url = f"http://127.0.0.1:{issuer.port}"
    try:
        yield issuer
    finally:
        await runner.cleanup()
