"""The endpoint policy where it counts: at every connection, on the very addresses that are then connected to."""

from __future__ import annotations

from collections.abc import Sequence

from server.core.endpoint import EndpointPolicy
from server.providers.transport.resolver import Address, Resolver, system_resolver


class GuardedResolver:
    """A Resolver that lets through only what the policy allows.

    One forbidden address among the answers refuses them all: a name that also points inside is not to be trusted with
    where it points next.
    """

    def __init__(self, policy: EndpointPolicy, resolver: Resolver = system_resolver) -> None:
        self._policy = policy
        self._resolver = resolver

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        """Raises EndpointRefused, and OSError where the lookup failed."""
        addresses = await self._resolver(host, port)
        for address in addresses:
            self._policy.check_address(host, port, address.ip)
        return addresses
