"""Small public documents by HTTP, through the same guarded transport as provider calls: an issuer's, named by the
operator."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import msgspec

from server.core.endpoint import EndpointPolicy
from server.core.errors import InvalidRequest, NotConfigured, ProviderError, Unavailable
from server.core.ports import CallTimeouts
from server.providers.http import HttpRequest, Transport

MOST_BYTES: Final = 512 * 1024
_TIMEOUTS: Final = CallTimeouts(connect=5, first_token=10, idle=5, total=10)


class HttpDocuments:
    """GET and nothing else: no redirects, no credentials, what `policy` allows, within limits of size and time."""

    def __init__(self, transport: Transport, policy: EndpointPolicy) -> None:
        self._transport = transport
        self._policy = policy

    async def get(self, url: str) -> bytes:
        """The body of a 200. Raises Unavailable for anything else, saying what."""
        try:
            self._policy.check_url(url.partition("?")[0], "url")
            request = HttpRequest("GET", url, (("accept", "application/json"),))
            async with self._transport.send(request, _TIMEOUTS) as response:
                if response.status == 200:
                    return await response.read(MOST_BYTES)
                status = response.status
        except (ProviderError, NotConfigured, InvalidRequest) as exc:
            raise Unavailable(f"{_place(url)}: {exc.message}") from exc
        raise Unavailable(f"{_place(url)} answers HTTP {status}.")


def trusting(policy: EndpointPolicy, *urls: str) -> EndpointPolicy:
    """`policy`, and beyond it the hosts of these https URLs, which the operator named: they may be inside the network.

    Raises InvalidRequest for one that is no URL, and for http to what `policy` does not allow.
    """
    hosts = set(policy.hosts)
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme == "https" and parts.hostname:
            hosts.add((parts.hostname.removesuffix("."), parts.port or 443))
    wider = msgspec.structs.replace(policy, hosts=frozenset(hosts))
    for url in urls:
        (wider if urlsplit(url).scheme == "https" else policy).check_url(url.partition("?")[0], "url")
    return wider


def _place(url: str) -> str:
    return url.partition("?")[0]
