"""Keys and tokens behind one port, and what an address that failed too often may still do."""

from __future__ import annotations

import pytest

from server.core.access import Principal, Role
from server.core.errors import LimitExceeded, Unauthenticated, Unavailable
from server.services.authentication import Authentication
from server.services.limits import FailedAttempts

KEY, TOKEN = "dgm_known", "ey.known"
HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"


class Known:
    """Knows one credential by memory, and `later` only once it asks."""

    def __init__(self, known: str, later: str = "") -> None:
        self.known = known
        self.later = later
        self.asked = 0
        self.error: Exception | None = None

    async def authenticate(self, presented: str, *, from_memory: bool = False) -> Principal:
        if presented != self.known and not from_memory:
            self.asked += 1
            if self.error is not None:
                raise self.error
        if presented == self.known or (presented == self.later and not from_memory):
            return Principal(presented, "org_1", "ws_1", Role.MEMBER, presented)
        raise Unauthenticated("The key is not valid.")


def authentication(keys: Known, tokens: Known | None = None) -> Authentication:
    return Authentication(keys, FailedAttempts(3, 60.0, now=lambda: 0.0), tokens)


async def exhaust(service: Authentication, presented: str = "dgm_wrong") -> None:
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await service.authenticate(presented, HERE)


async def test_keys_are_known_by_their_prefix_and_all_else_is_a_token() -> None:
    keys, tokens = Known(KEY), Known(TOKEN)
    service = authentication(keys, tokens)
    assert (await service.authenticate(KEY, HERE)).key_id == KEY
    assert (await service.authenticate(TOKEN, HERE)).key_id == TOKEN
    assert (keys.asked, tokens.asked) == (0, 0)


async def test_without_an_issuer_whatever_comes_is_looked_at_as_a_key() -> None:
    keys = Known(KEY)
    with pytest.raises(Unauthenticated):
        await authentication(keys).authenticate(TOKEN, HERE)
    assert keys.asked == 1


@pytest.mark.parametrize("wrong", ["dgm_wrong", "ey.wrong"])
async def test_too_many_failures_make_the_address_wait_and_nobody_is_asked_for_it(wrong: str) -> None:
    keys, tokens = Known(KEY), Known(TOKEN)
    service = authentication(keys, tokens)
    await exhaust(service, wrong)
    asked = keys.asked + tokens.asked
    for presented in ("dgm_wrong", "ey.wrong"):
        with pytest.raises(LimitExceeded) as caught:
            await service.authenticate(presented, HERE)
        assert caught.value.metadata == {"limit": "failed_authentications_per_address"}
        assert caught.value.retry_after == pytest.approx(20.0)
    assert keys.asked + tokens.asked == asked


async def test_valid_credentials_still_pass_from_an_address_that_waits() -> None:
    service = authentication(Known(KEY), Known(TOKEN))
    await exhaust(service)
    assert (await service.authenticate(KEY, HERE)).key_id == KEY
    assert (await service.authenticate(TOKEN, HERE)).key_id == TOKEN


async def test_other_addresses_do_not_wait() -> None:
    keys = Known(KEY, later="dgm_new")
    service = authentication(keys)
    await exhaust(service)
    with pytest.raises(Unauthenticated):
        await service.authenticate("dgm_wrong", ELSEWHERE)
    assert (await service.authenticate("dgm_new", ELSEWHERE)).key_id == "dgm_new"


async def test_success_is_never_counted() -> None:
    service = authentication(Known(KEY))
    for _ in range(100):
        await service.authenticate(KEY, HERE)
    with pytest.raises(Unauthenticated):
        await service.authenticate("dgm_wrong", HERE)


async def test_that_keys_cannot_be_checked_is_not_the_callers_failure() -> None:
    keys = Known(KEY)
    keys.error = Unavailable("Keys cannot be checked now.")
    service = authentication(keys)
    for _ in range(10):
        with pytest.raises(Unavailable):
            await service.authenticate("dgm_wrong", HERE)
