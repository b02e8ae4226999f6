"""Which addresses a workspace may send its credentials and prompts to: the rules, without any look-up.

The gateway sits inside somebody's network, so a user-given endpoint must not reach what only that network reaches. The
URL is checked when a configuration is written and before it is used, and every address at every connection (a name may
resolve to something else the next time). That an endpoint is stored proves nothing.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import msgspec

from server.core.errors import Fault, InvalidRequest, ProviderError

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_DEFAULT_PORTS = {"https": 443, "http": 80}


class EndpointRefused(ProviderError):
    """The endpoint, or the address behind it, is not one that this gateway may connect to."""

    reason = "ENDPOINT_REFUSED"
    fault = Fault.WORKSPACE
    default_action = "Use a public https address, or have the operator allow this one (DRAGOMAN_ALLOWED_ENDPOINTS)."


class EndpointPolicy(msgspec.Struct, frozen=True):
    """What an operator allows beyond public https addresses.

    hosts: `host:port` pairs (lower case) that are allowed whatever they resolve to, by http too. networks: ranges whose
    addresses are allowed, by http too.
    """

    hosts: frozenset[tuple[str, int]] = frozenset()
    networks: tuple[IpNetwork, ...] = ()

    def check_url(self, url: str, field: str = "endpoint") -> str:
        """The base URL without a trailing slash. Raises InvalidRequest naming `field` for one that is malformed, holds
        credentials, a query or a fragment, is not https, or names a forbidden address."""
        scheme, host, port = _split(url, field)
        allowed = (host, port) in self.hosts
        address = _as_address(host)
        if address is not None and not allowed:
            allowed = any(address in network for network in self.networks)
            if not allowed and not is_public(address):
                raise InvalidRequest.field(field, "names an address that is not public; the operator can allow it")
        if scheme != "https" and not allowed and not (address is None and self.networks):
            raise InvalidRequest.field(field, "must be an https URL")
        if address is None and not allowed and _looks_numeric(host):
            raise InvalidRequest.field(field, "names a host in a notation that is not accepted")
        return url.rstrip("/")

    def check_address(self, host: str, port: int, address: str) -> None:
        """Call with each address that `host` resolved to, before a connection to it. Raises EndpointRefused."""
        if (host.lower().rstrip("."), port) in self.hosts:
            return
        ip = ipaddress.ip_address(address.partition("%")[0])
        if not is_public(ip) and not any(ip in network for network in self.networks):
            raise EndpointRefused("The provider's endpoint resolves to an address that is not public.")


def is_public(address: IpAddress) -> bool:
    """Whether the address is reachable on the public Internet and is nothing else in disguise.

    False for loopback, private, link-local (the clouds' metadata among them), multicast, reserved, unspecified, and for
    IPv6 addresses that carry such an IPv4 address (mapped, 6to4, Teredo, NAT64).
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(v4 is not None and not is_public(v4) for v4 in inner):
            return False
        if address.ipv4_mapped is not None:
            return True
    return address.is_global and not address.is_multicast and not address.is_reserved


def _split(url: str, field: str) -> tuple[str, str, int]:
    if any(c <= " " or c in "\x7f\\" for c in url):
        raise InvalidRequest.field(field, "must be a URL without spaces, control characters or backslashes")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidRequest.field(field, "is not a valid URL") from None
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise InvalidRequest.field(field, "must be an absolute https URL")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest.field(field, "must not hold credentials; give them as key or secret")
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise InvalidRequest.field(field, "must not have a query or a fragment")
    if not host.isascii():
        raise InvalidRequest.field(field, "must name its host in ASCII (punycode)")
    return parts.scheme, host.rstrip("."), port or _DEFAULT_PORTS[parts.scheme]


def _as_address(host: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _looks_numeric(host: str) -> bool:
    """Octal, hexadecimal, short and decimal forms of IPv4, which resolvers accept: 0x7f.1, 2130706433, 017700000001."""
    last = host.rpartition(".")[2]
    return last.isdigit() or last.startswith("0x")
