"""Which addresses an endpoint may have: nothing that is reached from inside alone, whatever way it is written.

The ranges are those of IANA's special-purpose registries (RFC 6890 and its successors). They are written out here,
since what Python counts as global has changed between its releases.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from sellflow.errors import ConfigurationError, SellflowError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LONGEST_URL = 2000

_SPECIAL_4 = tuple(
    IPv4Network(each)
    for each in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carriers' shared space
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, and the metadata services of clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # automatic multicast tunnelling
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_GLOBAL_6 = IPv6Network("2000::/3")
_SPECIAL_6 = tuple(
    IPv6Network(each)
    for each in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which can hide any IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
#: Translation to IPv4 (RFC 6052): whether it is public is up to the address inside.
_NAT64 = IPv6Network("64:ff9b::/96")

_SNS_TOPIC = re.compile(r"arn:aws[a-z-]{0,20}:sns:([a-z]{2}[a-z0-9-]{1,30}):[0-9]{12}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?")


class AddressRefusedError(SellflowError):
    """An endpoint's address is not public, and no setting allows it."""

    code = "outgoing.address_refused"


@dataclass(frozen=True, slots=True)
class Allowance:
    """The networks that may be reached although they are not public. Plain http is spoken there alone."""

    networks: tuple[Network, ...] = ()

    def check(self, address: Address, *, encrypted: bool) -> None:
        """Raise AddressRefusedError unless `address` may be connected to."""
        is_listed = any(address in network for network in self.networks if network.version == address.version)
        if not is_listed and not is_public(address):
            raise AddressRefusedError(f"{address} is not a public address")
        if not is_listed and not encrypted:
            raise AddressRefusedError(f"{address} may only be spoken to through https")


def parse_networks(text: str) -> tuple[Network, ...]:
    """Return networks from a list such as `10.20.0.0/16, fd00::/8`.

    Raises
    ------
    ValueError
        If one of them is no network.
    """
    return tuple(ip_network(each.strip()) for each in text.split(",") if each.strip())


def is_public(address: Address) -> bool:
    """Say whether everybody can reach an address: it is global, and hides no other that is not."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_4)
    inside = address.ipv4_mapped
    if inside is None and address in _NAT64:
        inside = IPv4Address(int(address) & 0xFFFFFFFF)
    if inside is not None:
        return is_public(inside)
    return address in _GLOBAL_6 and not any(address in network for network in _SPECIAL_6)


def check_all(found: Sequence[str], allowance: Allowance, *, encrypted: bool) -> list[Address]:
    """Return the addresses of a name, every one of them allowed.

    One that is not spoils all: which of several a connection would end at is the name's owner's to choose.
    """
    addresses = [ip_address(each) for each in found]
    if not addresses:
        raise AddressRefusedError("the name has no address")
    for address in addresses:
        allowance.check(address, encrypted=encrypted)
    return addresses


def check_url(url: str, allowance: Allowance) -> str:
    """Return the address of a webhook endpoint as it is stored; where its name leads is checked at each connection.

    Raises
    ------
    ConfigurationError
        If it is not one that deliveries may be sent to, saying why.
    """
    if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigurationError("an endpoint's address has at most 2000 characters, plain ones (IDNs as xn--…)")
    parts = _split(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and allowance.networks):
        raise ConfigurationError(
            "an endpoint's address begins with https:// (http:// is for SELLFLOW_OUTGOING_PRIVATE_NETWORKS alone)"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("an endpoint's address holds no user and password: the signature says who calls")
    if not parts.hostname or "#" in url or "\\" in url:
        raise ConfigurationError("an endpoint's address looks like https://name.example/path")
    try:
        literal = ip_address(parts.hostname)
    except ValueError:
        return url
    try:
        allowance.check(literal, encrypted=parts.scheme == "https")
    except AddressRefusedError as error:
        raise ConfigurationError(f"{error}: SELLFLOW_OUTGOING_PRIVATE_NETWORKS names those allowed besides") from error
    return url


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{url!r} is no address: {error}") from None
    return parts


def region_of(arn: str) -> str:
    """Return the region of an SNS topic.

    Raises
    ------
    ConfigurationError
        If the ARN is none of a topic.
    """
    found = _SNS_TOPIC.fullmatch(arn)
    if found is None:
        raise ConfigurationError(f"{arn!r} is no SNS topic: it looks like arn:aws:sns:eu-west-1:123456789012:name")
    return found[1]
