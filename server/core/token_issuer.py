"""Who issues tokens that are taken beside keys, and what its tokens say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from server.core.access import Role

SIGNATURES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "RS256": ("RSA", ()),
    "RS384": ("RSA", ()),
    "RS512": ("RSA", ()),
    "PS256": ("RSA", ()),
    "PS384": ("RSA", ()),
    "PS512": ("RSA", ()),
    "ES256": ("EC", ("P-256",)),
    "ES384": ("EC", ("P-384",)),
    "ES512": ("EC", ("P-521",)),
    "EdDSA": ("OKP", ("Ed25519",)),
}
"""Algorithms (RFC 7518 section 3, RFC 8037) with the key type and curves that each goes with. Asymmetric ones alone:
with HS256 whoever knows the public key could sign, and `none` is no signature."""

PLAIN_ROLES: Final[Mapping[str, Role]] = {role.name.lower(): role for role in (Role.VIEWER, Role.MEMBER, Role.ADMIN)}
"""What a role claim means where nothing else is said. An organisation's admin is never meant by itself."""


class TokenIssuer(msgspec.Struct, frozen=True, kw_only=True):
    """name: its `iss`, a URL. audience: of which a token's `aud` must hold one. jwks_url: where its keys are, "" to ask
    its discovery document. algorithms: of SIGNATURES. leeway: seconds that clocks may differ. refresh: seconds between
    two looks at its keys.

    workspace_claim, role_claim: names of claims, or paths to them with dots between. roles: what the role claim's
    values mean. organisation: whose admins ORG_ADMIN makes, and to whose workspaces tokens are bound; "" for any's.
    """

    name: str
    audience: tuple[str, ...]
    jwks_url: str = ""
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    leeway: float = 30.0
    refresh: float = 300.0
    workspace_claim: str = "workspace"
    role_claim: str = "role"
    roles: Mapping[str, Role] = msgspec.field(default_factory=lambda: PLAIN_ROLES)
    organisation: str = ""
