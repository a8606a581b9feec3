"""The domains of shops: what may be one, before anything is sent to it or believed of it."""

from __future__ import annotations

import re

from sellflow.errors import SellflowError

#: The name of a shop as Shopify gives it, which never changes. Custom domains are none.
SHOP_DOMAIN = re.compile(r"[a-z0-9][a-z0-9-]{0,99}\.myshopify\.com", re.ASCII)

#: A place where a shop's domain goes in an address.
PLACEHOLDER = "{shop}"


class HostileDomainError(SellflowError):
    """Something that should name a shop names something else."""

    code = "shopify.hostile_domain"


def read_shop_domain(text: str) -> str:
    """Return a shop's domain in lower case.

    Raises
    ------
    HostileDomainError
        If it is none: no scheme, port, path, user, other host or other alphabet is let through.
    """
    domain = text.lower() if text.isascii() else ""
    if not SHOP_DOMAIN.fullmatch(domain):
        raise HostileDomainError(f"{text[:120]!r} is no domain of a shop; it looks like name.myshopify.com")
    return domain


def base_url_of(domain: str, shopify_url: str | None) -> str:
    """Return where a shop's Admin is: under its own domain, unless its app has another Shopify (a simulator)."""
    return (shopify_url or f"https://{PLACEHOLDER}").replace(PLACEHOLDER, domain)
