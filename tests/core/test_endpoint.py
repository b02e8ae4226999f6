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
def test_an_ipv4_address_is_judged_the_same_in_every_ipv6_disguise(v4: ipaddress.IPv4Address) -> None:
    disguises = [
        ipaddress.IPv6Address(f"::ffff:{v4}"),
        ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) | int(v4)),
    ]
    if not is_public(v4):
        assert not any(is_public(disguise) for disguise in disguises)
