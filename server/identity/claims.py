"""What a verified token says: who, in which workspace, as what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from server.core.access import Role
from server.core.errors import PermissionDenied
from server.core.token_issuer import TokenIssuer

MOST_SUBJECT_CHARS: Final = 120
"""A subject is stored with what it makes and in the audit log, which finds ids of up to 128 characters."""


class Identity(NamedTuple):
    """workspace: its id; None for an organisation's admin."""

    subject: str
    role: Role
    workspace: str | None


def identity_of(claims: Mapping[str, Any], issuer: TokenIssuer) -> Identity:
    """Raises PermissionDenied where the token is good and says nothing of use here; the message names the claim, never
    its value."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= MOST_SUBJECT_CHARS or not subject.isprintable():
        raise _lacks("sub", f"must be of 1 to {MOST_SUBJECT_CHARS} printable characters")
    values = _strings(_claim(claims, issuer.role_claim))
    roles = [issuer.roles[value] for value in values if value in issuer.roles]
    if not roles:
        raise _lacks(issuer.role_claim, "holds no role that means anything here")
    role = max(roles)
    if role is Role.ORG_ADMIN:
        return Identity(subject, role, None)
    workspaces = _strings(_claim(claims, issuer.workspace_claim))
    if len(workspaces) != 1:
        raise _lacks(issuer.workspace_claim, "must hold one workspace")
    return Identity(subject, role, workspaces[0])


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """By its name, which may hold dots itself (`https://example.com/role`), else by a path of names."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def _strings(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str) and each]


def _lacks(claim: str, what: str) -> PermissionDenied:
    return PermissionDenied(
        f"The token's claim {claim} {what}.",
        action="Have the issuer put it into the token.",
        metadata={"claim": claim},
    )
