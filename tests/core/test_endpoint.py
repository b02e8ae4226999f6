"""What an endpoint may be: public https, or what the operator allowed; however it is spelled."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.endpoint import EndpointPolicy, EndpointRefused, is_public
from server.core.errors import InvalidRequest

PUBLIC = EndpointPolicy()
DEMO = EndpointPolicy(hosts=frozenset({("127.0.0.1", 9100)}))
OFFICE = EndpointPolicy(networks=(ipaddress.ip_network("10.1.0.0/16"),))

REFUSED_URLS = [
    "http://api.example.com/v1",
    "ftp://api.example.com",
    "file:///etc/passwd",
    "gopher://api.example.com",
    "//api.example.com",
    "api.example.com",
    "https://",
    "https:///v1",
    "https://user:pass@api.example.com",
    "https://user@api.example.com",
    "https://api.example.com/?a=1",
    "https://api.example.com/#f",
    "https://api.example.com?",
    "https://api.example.com/ v1",
    "https://api.example.com\\@evil.example",
    "https://api.example.com\r\nHost: evil",
    "https://api.example.com:99999",
    "https://[::1",
    "https://127.0.0.1",
    "https://127.1",
    "https://127.0.1",
    "https://0177.0.0.1",
    "https://0x7f.0.0.1",
    "https://0x7f000001",
    "https://2130706433",
    "https://017700000001",
    "https://127.0.0.1.",
    "https://0",
    "https://0.0.0.0",
    "https://10.0.0.1",
    "https://172.16.0.1",
    "https://192.168.1.1",
    "https://100.64.0.1",
    "https://169.254.169.254",
    "https://169.254.169.254/latest/meta-data",
    "https://192.0.2.1",
    "https://198.18.0.1",
    "https://224.0.0.1",
    "https://255.255.255.255",
    "https://240.0.0.1",
    "https://[::]",
    "https://[::1]",
    "https://[::ffff:127.0.0.1]",
    "https://[::ffff:7f00:1]",
    "https://[::ffff:169.254.169.254]",
    "https://[64:ff9b::7f00:1]",
    "https://[64:ff9b::a9fe:a9fe]",
    "https://[2002:7f00:1::]",
    "https://[2001:0:0:0:0:0:80ff:fffe]",
    "https://[fe80::1]",
    "https://[fe80::1%25eth0]",
    "https://[fc00::1]",
    "https://[fd00:ec2::254]",
    "https://[ff02::1]",
    "https://[100::1]",
    "https://[2001:db8::1]",
    "https://１２７.０.０.１",
    "https://ⓔxample.com",
    # The same places in further spellings.
    "HTTPS://127.0.0.1",
    "https://127.0.0.1:443/v1",
    "https://127.255.255.254",
    "https://0x7F.1",
    "https://0x7f.0x0.0x0.0x1",
    "https://0177.1",
    "https://00000177.0.0.1",
    "https://127.0.0.0x1",
    "https://127.0.0.01",
    "https://1.1.1.1.1",
    "https://4294967297",
    "https://127.0.0.1..",
    "https://%31%32%37.0.0.1",
    "https://127%2e0%2e0%2e1",
    "https://loc%61lhost",
    "https://127.0.0.1%00.example.com",
    "https://[::ffff:8.8.8.8]",
    "https://[::127.0.0.1]",
    "https://[::ffff:0:127.0.0.1]",
    "https://[0:0:0:0:0:0:0:1]",
    "https://[0000:0000:0000:0000:0000:0000:0000:0001]",
    "https://[::1%25lo]",
    "https://[::1%lo]",
    "https://[v1.::1]",
    "https://[64:ff9b:1::7f00:1]",
    "https://[2001:470:1f0b::5efe:127.0.0.1]",
    "https://[2001:470:1f0b:0:200:5efe:10.0.0.1]",
    "https://[fec0::1]",
    "https://[3fff::1]",
    "https://[5f00::1]",
    "https://[4000::1]",
    # Metadata, by address and by name.
    "https://169.254.169.254.",
    "https://2852039166",
    "https://0xa9fea9fe",
    "https://0251.0376.0251.0376",
    "https://[::ffff:a9fe:a9fe]",
    "https://169.254.170.2",
    "https://100.100.100.200",
    "https://192.0.0.192",
    "https://168.63.129.16",
    "https://[fd20:ce::254]",
    "https://metadata.google.internal",
    "https://metadata",
    # Names that can only mean inside.
    "https://localhost",
    "https://LOCALHOST.",
    "https://api.localhost",
    "https://kubernetes.default.svc.cluster.local",
    "https://router.home.arpa",
    "https://redis",
    # Where two readers of a URL may see two hosts.
    "https://api.example.com@127.0.0.1",
    "https://127.0.0.1:443@api.example.com",
    "https://api.example.com:443:80",
    "https://api.example.com:0",
    "https://api.example.com;127.0.0.1",
    "https://api..example.com",
    "https://-api.example.com",
    "https://api.example.com,127.0.0.1",
    "https:/\\127.0.0.1",
    "https:127.0.0.1",
    "https:///127.0.0.1",
    "https://api.example.com\t.evil.example",
    "https://api.example.com/pröfix",
    "https://xn--\u202e.example",
]

PUBLIC_ADDRESSES = [
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2001:470:1f0b::1",
    "2606:4700::1111",
    "2a00:1450:4001::200e",
    "64:ff9b::808:808",
]


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_an_endpoint_that_could_reach_inside_is_refused_with_the_field_and_without_the_url(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        PUBLIC.check_url(url)
    assert caught.value.violations[0].field == "endpoint"
    assert url not in caught.value.message


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("https://my-resource.openai.azure.com/openai/v1", "https://my-resource.openai.azure.com/openai/v1"),
        ("https://API.Example.com:8443/x", "https://API.Example.com:8443/x"),
        ("https://8.8.8.8/v1", "https://8.8.8.8/v1"),
        ("https://[2606:4700::1111]/v1", "https://[2606:4700::1111]/v1"),
    ],
)
def test_a_public_https_endpoint_is_kept_without_its_last_slash(url: str, kept: str) -> None:
    assert PUBLIC.check_url(url) == kept


def test_there_are_more_than_sixty_spellings_and_each_is_there_once() -> None:
    assert len(set(REFUSED_URLS)) == len(REFUSED_URLS) > 60


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_the_neighbours_of_special_ranges_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_http_is_for_allowed_hosts_and_for_literal_addresses_of_allowed_networks() -> None:
    """A name that resolves into an allowed network today may resolve to the Internet tomorrow, and a credential would
    go there unencrypted."""
    both = EndpointPolicy(hosts=frozenset({("llm.internal", 8000)}), networks=OFFICE.networks)
    for url in ("http://llm.internal:8000/v1", "http://10.1.2.3", "https://llm.internal", "https://ollama"):
        assert both.check_url(url) == url
    for url in ("http://llm.internal:8001", "http://llm.office.example", "http://ollama", "https://localhost"):
        with pytest.raises(InvalidRequest):
            both.check_url(url)


def test_of_private_addresses_only_the_allowed_host_and_port_passes() -> None:
    assert DEMO.check_url("http://127.0.0.1:9100/v1") == "http://127.0.0.1:9100/v1"
    for other in ("http://127.0.0.1:9101/v1", "http://127.0.0.2:9100", "http://localhost:9100", "http://127.0.0.1"):
        with pytest.raises(InvalidRequest):
            DEMO.check_url(other)


def test_an_allowed_network_passes_by_address_and_by_a_name_that_resolves_into_it() -> None:
    assert OFFICE.check_url("http://10.1.2.3:8000/v1")
    with pytest.raises(InvalidRequest):
        OFFICE.check_url("http://10.2.0.1:8000/v1")
    OFFICE.check_address("models.office.example", 8000, "10.1.2.3")
    with pytest.raises(EndpointRefused):
        OFFICE.check_address("models.office.example", 8000, "10.2.0.1")


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1%eth0", "::ffff:10.0.0.1"]
)
def test_a_name_that_resolves_to_an_inner_address_is_refused_at_the_connection(address: str) -> None:
    with pytest.raises(EndpointRefused) as caught:
        PUBLIC.check_address("api.example.com", 443, address)
    assert address not in caught.value.message


def test_a_public_address_is_connected_to() -> None:
    PUBLIC.check_address("api.example.com", 443, "93.184.216.34")


@given(st.ip_addresses(v=4))
def test_ipv4_in_ipv6_disguise_is_refused_and_behind_nat64_judged_as_itself(
    v4: ipaddress.IPv4Address,
) -> None:
    for prefix in ("::", "::ffff:0:0", "::ffff:0:0:0", "2001:470::5efe:0:0", "64:ff9b:1::"):
        assert not is_public(ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(v4)))
    assert not is_public(ipaddress.IPv6Address(f"2002:{int(v4) >> 16:x}:{int(v4) & 0xFFFF:x}::1"))
    nat64 = ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) | int(v4))
    assert is_public(nat64) == is_public(v4)


@given(st.ip_addresses())
def test_what_python_calls_private_or_special_is_never_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if is_public(address) and address not in ipaddress.ip_network("64:ff9b::/96"):
        assert address.is_global
        kinds = (address.is_multicast, address.is_reserved, address.is_link_local, address.is_loopback)
        assert not any(kinds)
