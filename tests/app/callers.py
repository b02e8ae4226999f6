"""Every kind of caller, by key and by an issuer's token, and how the matrix says that their calls end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from server.core.access import Role
from server.services.access import Access
from tests.app.world import ELSEWHERE, FOREIGN, ORG, OTHER_ORG, OWN, World
from tests.support.issuer import Issuer, SigningKey

UNAUTHENTICATED, DENIED = "UNAUTHENTICATED", "PERMISSION_DENIED"

KEYS: Mapping[str, tuple[str, Role, str | None, str]] = {
    "viewer": ("viewer", Role.VIEWER, OWN, ORG),
    "member": ("member", Role.MEMBER, OWN, ORG),
    "admin": ("admin", Role.ADMIN, OWN, ORG),
    "organisation": ("organisation", Role.ORG_ADMIN, None, ORG),
    "foreign": ("foreign", Role.ADMIN, FOREIGN, ORG),
    "other organisation": ("elsewhere", Role.ORG_ADMIN, None, OTHER_ORG),
    "expired": (UNAUTHENTICATED, Role.ADMIN, OWN, ORG),
    "revoked": (UNAUTHENTICATED, Role.ADMIN, OWN, ORG),
}
"""Callers by key: what the matrix calls them (or how all their calls end that somebody must be let in for), role,
workspace, organisation."""

ROLES = {"reader": Role.VIEWER, "user": Role.MEMBER, "manager": Role.ADMIN, "owner": Role.ORG_ADMIN}
"""What the tokens' role claim means. The issuer is of ORG."""

TOKENS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "token, viewer": ("viewer", {"role": "reader"}),
    "token, member": ("member", {"role": ["reader", "user", "what no one knows"]}),
    "token, admin": ("admin", {"role": "manager"}),
    "token, organisation": ("organisation", {"role": "owner", "workspace": None}),
    "token, foreign": ("foreign", {"role": "manager", "workspace": FOREIGN}),
    "token, other organisation": (DENIED, {"role": "manager", "workspace": ELSEWHERE}),
    "token, no such workspace": (DENIED, {"role": "manager", "workspace": "ws_none"}),
    "token, no workspace": (DENIED, {"role": "manager", "workspace": None}),
    "token, no role": (DENIED, {"role": "admin"}),
    "token, expired": (UNAUTHENTICATED, {"role": "manager", "exp": 1}),
    "token, not yet": (UNAUTHENTICATED, {"role": "manager", "nbf": 1 << 40}),
    "token, another audience": (UNAUTHENTICATED, {"role": "manager", "aud": "another"}),
    "token, another issuer": (UNAUTHENTICATED, {"role": "manager", "iss": "https://another.example"}),
    "token, another key": (UNAUTHENTICATED, {"role": "manager"}),
}
"""Callers by token: as above, and the claims that make them so."""

CALLERS: Mapping[str, str] = {
    **{who: ends for who, (ends, *_) in KEYS.items()},
    **{who: ends for who, (ends, _) in TOKENS.items()},
    "none": UNAUTHENTICATED,
}
"""Each caller with the column of `Row` that says how its calls end, or with how all of them end."""


async def new_keys(world: World) -> None:
    """For every caller by key, in the place of those that were there."""
    store, access = world.services.store, world.services.access
    past = Access(store.snapshots, store.hasher, store.access, now=lambda: datetime(2020, 1, 1, tzinfo=UTC))
    for who, (_, role, place, org) in KEYS.items():
        workspace = store.snapshots.current().workspaces[place] if place else None
        by, ends = (past, datetime(2020, 1, 2, tzinfo=UTC)) if who == "expired" else (access, None)
        key, clear = await by.create_key(workspace=workspace, org_id=org, role=role, name=who, expires_at=ends)
        world.keys[who], world.key_ids[who] = clear.reveal(), key.id
    await access.revoke_key(world.key_ids["revoked"])


def new_tokens(world: World, issuer: Issuer, key: SigningKey) -> None:
    """For every caller by token, of subjects that nobody had before."""
    stranger = SigningKey(key.kid, key.algorithm)
    for who, (_, claims) in TOKENS.items():
        subject = world.name()
        signed = stranger if who == "token, another key" else key
        world.keys[who] = issuer.token(signed, **{"workspace": OWN, "sub": subject, **claims})
        world.key_ids[who] = f"jwt:{subject}"
