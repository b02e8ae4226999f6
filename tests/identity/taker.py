"""What takes an issuer's tokens, over the real transport."""

from __future__ import annotations

from typing import Any

import msgspec

from server.core.endpoint import EndpointPolicy
from server.core.snapshot import Snapshot
from server.core.token_issuer import TokenIssuer
from server.identity.keys import IssuerKeys
from server.identity.tokens import Tokens
from server.providers.transport.client import HttpTransport
from server.providers.transport.documents import HttpDocuments
from tests.services.fakes import WORKSPACE, FixedSnapshot
from tests.support.issuer import AUDIENCE, Issuer

ALL = ("RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA")


class Clock:
    """Seconds, set by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Taker:
    """Takes the tokens of one issuer; `tokens` anew with other settings by `configure`."""

    def __init__(self, issuer: Issuer, transport: HttpTransport, policy: EndpointPolicy) -> None:
        self.issuer = issuer
        self.clock = Clock()
        self.documents = HttpDocuments(transport, policy)
        other = msgspec.structs.replace(WORKSPACE, id="ws_2", org_id="org_2", name="two")
        self.snapshot = FixedSnapshot(Snapshot(1, {"ws_1": WORKSPACE, "ws_2": other}, {}, {}))
        self.configure()

    def configure(self, **changes: Any) -> Tokens:
        given = {"name": self.issuer.url, "audience": (AUDIENCE,), "algorithms": ALL} | changes
        settings = TokenIssuer(**given)
        self.keys = IssuerKeys(settings, self.documents, now=self.clock)
        self.tokens = Tokens(settings, self.keys, self.snapshot)
        return self.tokens
