"""Signed queries: of redirects to an app and of the requests that an app proxy forwards."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote, urlencode

#: What JavaScript's encodeURIComponent leaves alone, on top of what Python's `quote` does.
UNRESERVED = "!'()*"

Pairs = Sequence[tuple[str, str]]


def with_hmac(parameters: Mapping[str, str], secret: str) -> str:
    """Return a query with its `hmac`: hex SHA-256 over the sorted, percent-encoded parameters."""
    text = "&".join(f"{_encoded(name)}={_encoded(value)}" for name, value in sorted(parameters.items()))
    return urlencode({"hmac": _digest(text, secret), **parameters}, quote_via=quote)


def with_signature(parameters: Pairs, secret: str) -> str:
    """Return a query with its `signature`: hex SHA-256 over `name=value`, sorted, repeated values joined by commas.

    The rule, and no separator between the pairs, are those of Shopify's page on authenticating app proxies.
    """
    values: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in parameters:
        values[name].append(value)
    text = "".join(f"{name}={','.join(found)}" for name, found in sorted(values.items()))
    return urlencode([*parameters, ("signature", _digest(text, secret))], quote_via=quote)


def host_of(domain: str) -> str:
    """Return `host`: where the admin shows the shop, in base64 without padding."""
    address = f"admin.shopify.com/store/{domain.partition('.')[0]}"
    return base64.b64encode(address.encode()).decode().rstrip("=")


def extended(url: str, query: str) -> str:
    """Return an address with more query."""
    return f"{url}{'&' if '?' in url else '?'}{query}"


def without(parameters: Iterable[tuple[str, str]], names: Iterable[str]) -> list[tuple[str, str]]:
    """Return parameters less those that nobody but Shopify may set."""
    barred = frozenset(names)
    return [(name, value) for name, value in parameters if name not in barred]


def _encoded(text: str) -> str:
    return quote(text, safe=UNRESERVED)


def _digest(text: str, secret: str) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
