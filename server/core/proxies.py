"""Which peers are proxies, whose word counts for where a call came from and by which transport."""

from __future__ import annotations

import ipaddress

import msgspec

from server.core.endpoint import IpNetwork

LOOPBACK: tuple[IpNetwork, ...] = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))


class TrustedProxies(msgspec.Struct, frozen=True):
    """networks: addresses of proxies. unix: whoever connects by a Unix socket is one. certificates: names, in lower
    case, of which a proxy's client certificate holds one (DNS names and URIs, subject alternative names alone)."""

    networks: tuple[IpNetwork, ...] = LOOPBACK
    unix: bool = False
    certificates: frozenset[str] = frozenset()

    def at(self, address: str) -> bool:
        """Whether an IP address, in its usual spelling, is a proxy's; "" is none."""
        if not address:
            return False
        ip = ipaddress.ip_address(address.partition("%")[0])
        return any(ip in network for network in self.networks)
