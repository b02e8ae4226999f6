"""From a presented token to a principal: verified once, then known by its digest until it expires."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import jwt

from server.core.access import Principal
from server.core.errors import PermissionDenied, Unauthenticated
from server.core.snapshot import SnapshotSource
from server.core.token_issuer import TokenIssuer
from server.identity.claims import Identity, identity_of
from server.identity.keys import IssuerKeys

log = logging.getLogger("dragoman.identity")

MOST_TOKEN_CHARS: Final = 16 * 1024
MOST_VERIFIED: Final = 10_000
"""Tokens that are remembered as verified, some 5 MB; of more, those are verified again that were not used for long."""

_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
"""RFC 7519 section 5.1, RFC 9068 section 2.1. What an issuer signs for other ends (a logout) is no access token."""

_REQUIRED: Final = ["iss", "aud", "exp", "sub"]

# What PyJWT and what is under it raise about a token that is not one; the last two for numbers and depths without end.
_REFUSED = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


class _Header(NamedTuple):
    kid: str
    algorithm: str


class _Verified(NamedTuple):
    """until: in seconds since the epoch."""

    identity: Identity
    until: float


class Tokens:
    """The tokens of one issuer. A credential of `server.services.authentication`.

    now: seconds since the epoch.
    """

    def __init__(
        self,
        issuer: TokenIssuer,
        keys: IssuerKeys,
        snapshot: SnapshotSource,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._issuer = issuer
        self._keys = keys
        self._snapshot = snapshot
        self._now = now
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._generation = keys.generation

    async def authenticate(self, presented: str, *, from_memory: bool = False) -> Principal:
        """Whose token this is; `key_id` and `user_id` are `jwt:` and its subject. from_memory: the issuer is not asked
        for a key that is not known.

        Raises Unauthenticated, which never says what is wrong with the token (the log does, at level debug);
        PermissionDenied where it is good and names no role or no workspace of this installation; Unavailable where the
        issuer's keys are needed and cannot be read.
        """
        self._forget_by_other_keys()
        digest = hashlib.sha256(presented.encode("utf-8", "surrogatepass")).digest()
        found = self._verified.get(digest)
        if found is not None and self._now() < found.until:
            self._verified.move_to_end(digest)
        else:
            found = await self._verify(presented, from_memory=from_memory)
            self._forget_by_other_keys()
            self._verified[digest] = found
            if len(self._verified) > MOST_VERIFIED:
                self._verified.popitem(last=False)
        return self._principal(found.identity)

    def _forget_by_other_keys(self) -> None:
        """A key that the issuer withdrew takes with it what it had signed."""
        if self._generation != self._keys.generation:
            self._generation = self._keys.generation
            self._verified.clear()

    async def _verify(self, presented: str, *, from_memory: bool) -> _Verified:
        header = self._header(presented)
        find = self._keys.known(*header) if from_memory else await self._keys.find(*header)
        if find is None:
            raise _refused("no such key")
        try:
            claims: Mapping[str, Any] = jwt.decode(
                presented,
                find,
                algorithms=[header.algorithm],
                audience=self._issuer.audience,
                issuer=self._issuer.name,
                leeway=self._issuer.leeway,
                options={"require": _REQUIRED},
            )
            until = float(claims["exp"]) + self._issuer.leeway
        except _REFUSED as exc:
            raise _refused(type(exc).__name__) from None
        return _Verified(identity_of(claims, self._issuer), until)

    def _header(self, presented: str) -> _Header:
        """What the token says of its signature, checked before anything is made of it."""
        if len(presented) > MOST_TOKEN_CHARS or presented.count(".") != 2:
            raise _refused("not a token")
        try:
            header = jwt.get_unverified_header(presented)
        except _REFUSED as exc:
            raise _refused(type(exc).__name__) from None
        algorithm, kid, kind = header.get("alg"), header.get("kid", ""), header.get("typ", "")
        if algorithm not in self._issuer.algorithms or "crit" in header:
            raise _refused("algorithm or critical header")
        if not isinstance(kid, str) or not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise _refused("key id or type")
        return _Header(kid, algorithm)

    def _principal(self, identity: Identity) -> Principal:
        name = f"jwt:{identity.subject}"
        if identity.workspace is None:
            return Principal(name, self._issuer.organisation, None, identity.role, name)
        workspace = self._snapshot.current().workspaces.get(identity.workspace)
        if workspace is None or self._issuer.organisation not in ("", workspace.org_id):
            raise PermissionDenied("The token's workspace is none that it may act in here.")
        return Principal(name, workspace.org_id, workspace.id, identity.role, name)


def _refused(why: str) -> Unauthenticated:
    log.debug("token refused: %s", why)
    return Unauthenticated("The token is not valid.")
