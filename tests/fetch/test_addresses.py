"""Which addresses a caller may send us to, form by form."""

import ipaddress

import pytest

from foremask.fetch.addresses import is_public

PUBLIC = [
    "8.8.8.8",
    "93.184.215.14",
    "172.15.255.255",
    "172.32.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "168.63.129.17",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
    "64:ff9b::808:808",
]
NOT_PUBLIC = {
    "this host": ["0.0.0.0", "0.1.2.3", "::"],  # noqa: S104
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12::1"],
    "carriers": ["100.64.0.1", "100.127.255.255"],
    "link-local, metadata": ["169.254.169.254", "169.254.0.1", "fe80::1", "fd00:ec2::254"],
    "assignments": ["192.0.0.192", "192.0.0.9", "192.88.99.1", "168.63.129.16", "2001:20::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "benchmarks": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "4000::1", "fec0::1"],
    "v4 in v6": ["::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "::8.8.8.8"],
    "6to4, Teredo": ["2002:7f00:1::", "2002:808:808::", "2001:0:4136:e378:8000:63bf:3fff:fdd2"],
    "NAT64 of what is not public": ["64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808"],
}


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_is_public(address: str) -> None:
    """Ordinary addresses, neighbours of special ones, and IPv4 as an IPv6-only network sees it."""
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("kind", NOT_PUBLIC)
def test_everything_else_is_not(kind: str) -> None:
    assert [a for a in NOT_PUBLIC[kind] if is_public(ipaddress.ip_address(a))] == []
