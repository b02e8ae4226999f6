"""Who is connected to the server: its address, and whether it is a proxy whose word counts."""

from __future__ import annotations

import ipaddress
import logging
from typing import Final, NamedTuple
from urllib.parse import unquote

from server.core.proxies import TrustedProxies
from server.rpc.context import CallContext

log = logging.getLogger("dragoman.rpc")

_MOST_HOSTS: Final = 4096
"""How many hosts are remembered; then all are looked at anew."""
_SAN: Final = "x509_subject_alternative_name"


class Peer(NamedTuple):
    """address: an IP address in its usual spelling, "" for another kind of connection. proxy: whether it is one by its
    address, or by the kind of its connection."""

    address: str
    proxy: bool


class Peers:
    """Peers by what gRPC calls them. Parsed once a host, whatever ports it connects from."""

    def __init__(self, proxies: TrustedProxies) -> None:
        self._proxies = proxies
        self._hosts: dict[str, Peer] = {}
        self._warned: set[str] = set()

    def of(self, context: CallContext) -> Peer:
        """Who is connected. Only of TCP peers the name ends in a port."""
        name = context.peer() or ""
        host = name.rpartition(":")[0] if name.startswith("ip") else name
        peer = self._hosts.get(host)
        if peer is None:
            if len(self._hosts) >= _MOST_HOSTS:
                self._hosts.clear()
            peer = self._hosts[host] = self._parse(host)
        return peer

    def transport(self, context: CallContext, said: str) -> str:
        """What a peer says of the transport that its caller used, "" where its word does not count."""
        if not said:
            return ""
        peer = self.of(context)
        if peer.proxy or (self._proxies.certificates and self._certified(context)):
            return said
        if peer.address not in self._warned and len(self._warned) < _MOST_HOSTS:
            self._warned.add(peer.address)
            log.warning(
                "ignoring what a peer says of its callers; if it is your proxy, name it in DRAGOMAN_TRUSTED_PROXIES",
                extra={"fields": {"peer": peer.address}},
            )
        return ""

    def _certified(self, context: CallContext) -> bool:
        """Asked for each call of such a proxy: the next connection from its host may be somebody else's."""
        names = (context.auth_context() or {}).get(_SAN, ())
        return any(name.decode("utf-8", "replace").lower() in self._proxies.certificates for name in names)

    def _parse(self, host: str) -> Peer:
        """`ipv4:1.2.3.4`, `ipv6:[::1]` or `ipv6:%5B::1%5D`, `unix:...` and `unix-abstract:...`; of anything else
        nothing is known, and it is no proxy."""
        kind, _, place = host.partition(":")
        if kind in ("unix", "unix-abstract"):
            return Peer("", self._proxies.unix)
        if kind not in ("ipv4", "ipv6"):
            return Peer("", False)
        try:
            ip = ipaddress.ip_address(unquote(place).removeprefix("[").removesuffix("]"))
        except ValueError:
            return Peer("", False)
        mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
        address = str(mapped or ip)
        return Peer(address, self._proxies.at(address))
