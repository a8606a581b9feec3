"""App proxy requests: pages of a storefront that Shopify has the app answer, with a signed query.

The parameters but `signature` are sorted, joined without a separator, and signed with HMAC-SHA256 in hexadecimal
(https://shopify.dev/docs/apps/build/online-store/app-proxies/authenticate-app-proxies). `shopifyapp` checks that, and
the age. What it reads twice, or does not look at, is checked here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sellflow.shopify.domains import HostileDomainError, read_shop_domain
from sellflow.shopify.query_signatures import InvalidQueryError, check_timestamp, read_pairs

#: What Shopify adds itself, once each. Of what the storefront's visitor wrote, anything may come several times.
_SHOPIFYS = ("shop", "timestamp", "signature", "path_prefix", "logged_in_customer_id")
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CUSTOMER = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """What a verified query says. Only Shopify's own parameters are to be believed: a visitor writes the others."""

    shop_domain: str
    path_prefix: str
    #: The customer who is logged in to the storefront, or None.
    customer_id: int | None


def verify_proxy_query(query: str, secrets: Sequence[str], *, now: float) -> ProxyRequest:
    """Return what a query says that Shopify signed for the app within 90 seconds of `now` (Unix time).

    Raises
    ------
    InvalidQueryError
        If it is malformed, stale, unsigned, signed by somebody else, or says any of Shopify's own parameters twice.
    """
    parameters = _shopifys(query)
    if not _DIGEST.fullmatch(parameters.get("signature", "")):
        raise InvalidQueryError("the query carries no signature of 64 hexadecimal digits")
    check_timestamp(parameters.get("timestamp", ""), now=now)
    _check_signature(query, secrets)
    try:
        domain = read_shop_domain(parameters.get("shop", ""))
    except HostileDomainError as error:
        raise InvalidQueryError(f"the query is of no shop: {error}") from None
    return ProxyRequest(domain, parameters.get("path_prefix", ""), _customer(parameters))


def _shopifys(query: str) -> dict[str, str]:
    pairs = read_pairs(query)
    counts = Counter(name for name, _ in pairs)
    twice = [name for name in _SHOPIFYS if counts[name] > 1]
    if twice:
        raise InvalidQueryError(f"the query says {', '.join(twice)} more than once")
    return {name: value for name, value in pairs if name in _SHOPIFYS}


def _check_signature(query: str, secrets: Sequence[str]) -> None:
    from shopify_app.verify.app_proxy import verify_app_proxy_req  # noqa: PLC0415 - web alone needs it

    current, previous = (*secrets, None)[:2]
    verdict = verify_app_proxy_req(
        {"method": "GET", "url": f"https://app.invalid/?{query}", "headers": {}, "body": ""},
        {"client_id": "", "client_secret": current or "", "old_client_secret": previous},
    )
    if not verdict.ok:
        raise InvalidQueryError(f"the query was refused: {verdict.log.code}")


def _customer(parameters: dict[str, str]) -> int | None:
    given = parameters.get("logged_in_customer_id", "")
    if given and not _CUSTOMER.fullmatch(given):
        raise InvalidQueryError("the query's logged_in_customer_id is no customer's")
    return int(given) if given else None
