"""What may be a shop's domain, and where a shop is found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sellflow.shopify.domains import HostileDomainError, base_url_of, read_shop_domain

HOSTILE = [
    "",
    "acme",
    "myshopify.com",
    ".myshopify.com",
    "acme.com",
    "acme.myshopify.io",
    "acme.myshopify.com.",
    "acme.myshopify.com.evil.com",
    "evil.com/acme.myshopify.com",
    "evil.com#.myshopify.com",
    "evil.com?.myshopify.com",
    "evil.com\\.myshopify.com",
    "user:pass@acme.myshopify.com",
    "acme.myshopify.com:443",
    "acme.myshopify.com/admin",
    "https://acme.myshopify.com",
    "//acme.myshopify.com",
    "a.b.myshopify.com",
    "-acme.myshopify.com",
    "ac_me.myshopify.com",
    "ac me.myshopify.com",
    " acme.myshopify.com",
    "acme.myshopify.com\n",
    "acme.myshopify.com\x00",
    "acme%2emyshopify.com",
    "\u212aelvin.myshopify.com",
    "caf\xe9.myshopify.com",
    "\uff41cme.myshopify.com",
    "127.0.0.1",
    f"{'a' * 101}.myshopify.com",
]


@pytest.mark.conformance
@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_domain_is_refused(text: str) -> None:
    with pytest.raises(HostileDomainError, match="is no domain of a shop"):
        read_shop_domain(text)


@pytest.mark.conformance
@pytest.mark.parametrize("text", ["acme.myshopify.com", "ACME.MyShopify.Com", "1-a-2.myshopify.com"])
def test_a_shops_domain_is_read_in_lower_case(text: str) -> None:
    assert read_shop_domain(text) == text.lower()


@given(st.text(max_size=80))
def test_what_is_read_leads_to_shopify_alone(text: str) -> None:
    try:
        domain = read_shop_domain(f"{text}.myshopify.com")
    except HostileDomainError:
        return
    assert domain == f"{text}.myshopify.com".lower()
    assert set(domain.removesuffix(".myshopify.com")) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_a_shop_is_at_its_domain_unless_its_app_has_another_shopify() -> None:
    assert base_url_of("acme.myshopify.com", None) == "https://acme.myshopify.com"
    elsewhere = base_url_of("acme.myshopify.com", "http://127.0.0.1:8081/shops/{shop}")
    assert elsewhere == "http://127.0.0.1:8081/shops/acme.myshopify.com"
