"""Whose credential was presented: a key of this installation's, or a token of an issuer's, as far as the address it
comes from may try."""

from __future__ import annotations

from typing import Final, Protocol

from server.core.access import Principal
from server.core.caller_key import KEY_PREFIX
from server.core.errors import LimitExceeded, Unauthenticated
from server.services.limits import FailedAttempts

LIMIT: Final = "failed_authentications_per_address"
"""`metadata["limit"]` of a refusal."""


class Credentials(Protocol):
    """One kind of credentials."""

    async def authenticate(self, presented: str, *, from_memory: bool = False) -> Principal:
        """Whose `presented` is. from_memory: nobody else is asked, and what memory does not know is not valid.

        Raises Unauthenticated; Unavailable where somebody must be asked and cannot be reached.
        """
        ...


class Authentication:
    """Both kinds behind one port.

    An address from which too many failed has to wait. Valid credentials pass from there all the same: else one bad
    client would lock out everybody who shares its address. What such an address cannot do any more is make the gateway
    ask its database or an issuer.

    tokens: None where there is no issuer.
    """

    def __init__(self, keys: Credentials, failures: FailedAttempts, tokens: Credentials | None = None) -> None:
        self._keys = keys
        self._tokens = tokens
        self._failures = failures

    async def authenticate(self, presented: str, address: str) -> Principal:
        """Whose credential this is. address: where it comes from, "" where nobody knows.

        Raises Unauthenticated, Unavailable; LimitExceeded where the address has to wait.
        """
        kind = self._keys if self._tokens is None or presented.startswith(KEY_PREFIX) else self._tokens
        wait = self._failures.wait(address)
        try:
            return await kind.authenticate(presented, from_memory=wait > 0.0)
        except Unauthenticated:
            if wait > 0.0:
                raise _refused(wait) from None
            self._failures.note(address)
            raise


def _refused(wait: float) -> LimitExceeded:
    return LimitExceeded(
        "Too many authentications failed from this address.",
        action="Wait, and send a valid key.",
        retry_after=wait,
        metadata={"limit": LIMIT},
    )
