"""Which addresses a workspace may send its credentials and prompts to: the rules, without any look-up.

The gateway sits inside somebody's network, so a user-given endpoint must not reach what only that network reaches. The
URL is checked when a configuration is written and before it is used, and every address at every connection (a name may
resolve to something else the next time). That an endpoint is stored proves nothing.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

import msgspec

from server.core.errors import Fault, InvalidRequest, ProviderError

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}

# https://www.iana.org/assignments/iana-ipv4-special-registry: what is not ordinary public unicast. Listed here, since
# what Python's ipaddress takes for global differs from release to release.
_SPECIAL_V4: Final = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared address space; Alibaba's metadata (100.100.100.200)
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's own service on every virtual machine, though the address is public
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # IETF protocol assignments; Oracle's metadata (192.0.0.192)
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)

# https://www.iana.org/assignments/ipv6-address-space: global unicast, and what within it is something else.
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_SPECIAL_V6: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # IETF protocol assignments: Teredo, ORCHID, benchmarking
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})  # upper half of an interface id that holds an IPv4 address

_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.ASCII)
_OWN_MACHINE: Final = ("localhost",)
_INNER_NAMES: Final = ("local", "internal", "home.arpa")  # RFC 6762, ICANN's reservation of 2024, RFC 8375


class EndpointRefused(ProviderError):
    """The endpoint, or the address behind it, is not one that this gateway may connect to."""

    reason = "ENDPOINT_REFUSED"
    fault = Fault.WORKSPACE
    default_action = "Use a public https address, or have the operator allow this one (DRAGOMAN_ALLOWED_ENDPOINTS)."


class EndpointPolicy(msgspec.Struct, frozen=True):
    """What an operator allows beyond public https addresses.

    hosts: `host:port` pairs (lower case) that are allowed whatever they resolve to, by http too. networks: ranges whose
    addresses are allowed: by http too where the URL names the address itself, by https where it names a host.
    """

    hosts: frozenset[tuple[str, int]] = frozenset()
    networks: tuple[IpNetwork, ...] = ()

    def check_url(self, url: str, field: str = "endpoint") -> str:
        """The base URL without a trailing slash. Raises InvalidRequest naming `field` for one that is malformed, holds
        credentials, a query or a fragment, is not https, or names a forbidden address."""
        scheme, host, port = _split(url, field)
        if (host, port) in self.hosts:
            return url.rstrip("/")
        address = _as_address(host)
        if address is None:
            self._check_name(host, field)
        elif any(address in network for network in self.networks):
            return url.rstrip("/")
        elif not is_public(address):
            raise InvalidRequest.field(field, "names an address that is not public; the operator can allow it")
        if scheme != "https":
            raise InvalidRequest.field(field, "must be an https URL; the operator can allow http to this host and port")
        return url.rstrip("/")

    def check_address(self, host: str, port: int, address: str) -> None:
        """Call with each address that `host` resolved to, before a connection to it. Raises EndpointRefused."""
        if (host.lower().rstrip("."), port) in self.hosts:
            return
        ip = ipaddress.ip_address(address.partition("%")[0])
        if not is_public(ip) and not any(ip in network for network in self.networks):
            raise EndpointRefused("The provider's endpoint resolves to an address that is not public.")

    def _check_name(self, host: str, field: str) -> None:
        """What a name resolves to decides at each connection; names that can only be meant for inside fail at once."""
        if _looks_numeric(host) or _NAME.fullmatch(host) is None:
            raise InvalidRequest.field(field, "names a host in a notation that is not accepted")
        inner = "." not in host or _ends_with(host, _INNER_NAMES)
        if _ends_with(host, _OWN_MACHINE) or (inner and not self.networks):
            raise InvalidRequest.field(field, "names a host inside the network; the operator can allow it")


def is_public(address: IpAddress) -> bool:
    """Whether the address is reachable on the public Internet and is nothing else in disguise.

    False for loopback, private, link-local (the clouds' metadata among them), multicast, reserved, unspecified, and for
    every IPv6 address that carries an IPv4 one (mapped, compatible, translated, 6to4, Teredo, ISATAP). The one
    exception is the well-known NAT64 prefix: behind it a network without IPv4 sees the public IPv4 Internet.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address not in _GLOBAL_V6 or any(address in network for network in _SPECIAL_V6):
        return False
    return int(address) >> 32 & 0xFFFFFFFF not in _ISATAP


def _split(url: str, field: str) -> tuple[str, str, int]:
    """Scheme, host (lower case, without the root's dot) and port."""
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
    if not url.isascii():
        raise InvalidRequest.field(field, "must be ASCII (punycode for the host, percent-encoding for the path)")
    if port == 0:
        raise InvalidRequest.field(field, "must name a port from 1 to 65535")
    return parts.scheme, host.removesuffix("."), port or _DEFAULT_PORTS[parts.scheme]


def _as_address(host: str) -> IpAddress | None:
    """Of a literal; one with a zone is none, since a zone is a place of this machine."""
    try:
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


def _ends_with(host: str, domains: tuple[str, ...]) -> bool:
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)


def _looks_numeric(host: str) -> bool:
    """Octal, hexadecimal, short and decimal forms of IPv4, which resolvers accept: 0x7f.1, 2130706433, 017700000001."""
    last = host.rpartition(".")[2]
    return last.isdigit() or last.startswith("0x")
