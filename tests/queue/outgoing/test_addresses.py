"""Which addresses an endpoint may have."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sellflow.errors import ConfigurationError
from sellflow.queue.outgoing.addresses import (
    AddressRefusedError,
    Allowance,
    check_all,
    check_url,
    is_public,
    parse_networks,
    region_of,
)

PRIVATE = Allowance((ip_network("10.20.0.0/16"),))


@given(st.ip_addresses(v=4))
def test_no_address_that_python_knows_as_special_is_public(address: IPv4Address) -> None:
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        assert not is_public(address)
    if address.is_reserved or address.is_unspecified or address in ip_network("100.64.0.0/10"):
        assert not is_public(address)


@given(st.ip_addresses(v=6))
def test_no_sixth_version_address_that_python_knows_as_special_is_public(address: IPv6Address) -> None:
    if address.is_private or address.is_multicast or address.is_link_local or address.is_site_local:
        assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_an_address_is_no_more_public_for_being_wrapped_in_another(address: IPv4Address) -> None:
    mapped = IPv6Address(int(IPv6Address("::ffff:0:0")) + int(address))
    translated = IPv6Address(int(IPv6Address("64:ff9b::")) + int(address))
    tunnelled = IPv6Address((0x2002 << 112) + (int(address) << 80))
    assert is_public(mapped) == is_public(translated) == is_public(address)
    assert not is_public(tunnelled)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001::200e"])
def test_ordinary_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "::1", "::", "fe80::1", "ff02::1"],
)
def test_addresses_of_metadata_services_and_the_like_are_not(address: str) -> None:
    assert not is_public(ip_address(address))


def test_one_address_that_is_not_allowed_spoils_all() -> None:
    with pytest.raises(AddressRefusedError, match=r"192\.168\.0\.1"):
        check_all(["8.8.8.8", "192.168.0.1"], Allowance(), encrypted=True)
    with pytest.raises(AddressRefusedError, match="no address"):
        check_all([], Allowance(), encrypted=True)


def test_an_allowed_network_opens_itself_and_nothing_else() -> None:
    PRIVATE.check(ip_address("10.20.3.4"), encrypted=False)
    for other in ("10.21.0.1", "127.0.0.1", "169.254.169.254"):
        with pytest.raises(AddressRefusedError):
            PRIVATE.check(ip_address(other), encrypted=True)


def test_plain_http_is_spoken_in_allowed_networks_alone() -> None:
    with pytest.raises(AddressRefusedError, match="through https"):
        PRIVATE.check(ip_address("8.8.8.8"), encrypted=False)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://shop.example/hooks", "begins with https://"),
        ("ftp://shop.example/", "begins with https://"),
        ("https://user:secret@shop.example/", "no user and password"),
        ("https://user@shop.example/", "no user and password"),
        ("https:///path", "looks like"),
        ("https://shop.example/#part", "looks like"),
        ("https://shop.example\\inside/", "looks like"),
        ("https://shop.example:port/", "is no address"),
        ("https://shop.example:99999/", "is no address"),
        ("https://[::1/", "is no address"),
        ("https://127.0.0.1/", "not a public address"),
        ("https://[::ffff:10.0.0.1]/", "not a public address"),
        ("https://shop.example/\r\nx-evil: 1", "plain ones"),
        ("https://shop.example/a b", "plain ones"),
        ("https://bücher.example/", "plain ones"),
        ("https://shop.example/" + "a" * 2000, "at most 2000"),
    ],
)
def test_an_address_that_nothing_should_be_sent_to_is_refused_with_its_reason(url: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        check_url(url, Allowance())


def test_good_addresses_are_taken_as_they_are() -> None:
    for url in ("https://shop.example/hooks?x=1", "https://shop.example:8443", "https://8.8.8.8/"):
        assert check_url(url, Allowance()) == url
    assert check_url("http://10.20.0.5:8080/", PRIVATE) == "http://10.20.0.5:8080/"


def test_networks_are_read_from_a_list() -> None:
    assert parse_networks("") == ()
    assert parse_networks(" 10.20.0.0/16, fd12::/48 ") == (ip_network("10.20.0.0/16"), ip_network("fd12::/48"))


def test_the_region_of_a_topic_is_its_arn_s_and_nothing_that_could_be_a_host() -> None:
    assert region_of("arn:aws:sns:eu-west-1:123456789012:orders") == "eu-west-1"
    assert region_of("arn:aws-cn:sns:cn-north-1:123456789012:orders.fifo") == "cn-north-1"
    for wrong in (
        "arn:aws:sqs:eu-west-1:123456789012:orders",
        "arn:aws:sns:evil.example/:123456789012:orders",
        "arn:aws:sns:eu-west-1:12:orders",
        "arn:aws:sns:eu-west-1:123456789012:orders\n",
    ):
        with pytest.raises(ConfigurationError, match="is no SNS topic"):
            region_of(wrong)
