"""Addresses that lead anywhere but to the internet are not public."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.ingest.addresses import is_public

PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "93.184.215.14", "100.63.255.255", "100.128.0.0"),
    *("126.255.255.255", "128.0.0.0", "168.63.129.15", "168.63.129.17", "172.15.255.255"),
    *("172.32.0.0", "192.0.1.0", "192.31.196.1", "198.17.255.255", "198.20.0.0"),
    *("223.255.255.255", "2606:4700:4700::1111", "2001:4860:4860::8888", "2400::1"),
    *("2620:4f:8000::1", "::ffff:8.8.8.8"),
]

NOT_PUBLIC = [
    # this machine and this network
    *("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "::", "::1", "255.255.255.255"),
    # private ones
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "fc00::1", "fd12::1"),
    *("100.64.0.1", "100.127.255.255", "fec0::1", "feff::1"),
    # of one link, with a scope too
    *("169.254.0.1", "fe80::1", "fe80::1%eth0", "fe80::1%1"),
    # what clouds give their own machines
    *("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254"),
    *("fd20:ce::254", "192.0.0.192"),
    # for protocols, examples and measurements
    *("192.0.0.0", "192.0.0.8", "192.0.0.9", "192.0.0.170", "192.0.2.1", "192.88.99.1"),
    *("198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "2001:db8::1"),
    *("2001:2::1", "2001:10::1", "2001:20::1", "3fff::1", "100::1", "5f00::1"),
    # many at once, and what nobody has
    *("224.0.0.1", "239.255.255.255", "ff02::1", "240.0.0.1", "4000::1", "8000::1"),
    # IPv6 addresses that stand for IPv4 ones
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:168.63.129.16", "::127.0.0.1"),
    *("::10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::a00:1"),
    *("2002:7f00:1::", "2002:808:808::", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_all_others_are_not(address: str) -> None:
    assert not is_public(address)


@given(st.ip_addresses())
def test_what_python_calls_private_is_not_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if address.is_private or address.is_reserved or address.is_multicast:
        assert not is_public(str(address))
