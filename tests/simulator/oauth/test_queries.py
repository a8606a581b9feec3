"""Signed queries agree with the vectors that Shopify publishes and with its own library."""

from __future__ import annotations

import time
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shopify_app import RequestInput, ShopifyApp

from sellflow.simulator.oauth.queries import host_of, with_hmac, with_signature

pytestmark = pytest.mark.conformance

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
NAMES = TEXTS.filter(lambda name: name not in ("signature", "shop", "timestamp") and name != "")


def test_the_hmac_of_a_redirect_is_that_of_the_published_example() -> None:
    query = with_hmac(
        {
            "code": "a94a110d86d2452eb3e2af4cfb8a3828",
            "shop": "some-shop.myshopify.com",
            "timestamp": "1337178173",
        },
        "hush",
    )

    assert parse_qs(query)["hmac"] == ["2cb1a277650a659f1b11e92a4a64275b128e037f2c3390e3c8fd2d8721dac9e2"]


def test_the_signature_of_an_app_proxy_is_that_of_the_published_example() -> None:
    parameters = [
        ("extra", "1"),
        ("extra", "2"),
        ("shop", "shop-name.myshopify.com"),
        ("logged_in_customer_id", "1"),
        ("path_prefix", "/apps/awesome_reviews"),
        ("timestamp", "1317327555"),
    ]

    assert with_signature(parameters, "hush").endswith(
        "&signature=4c68c8624d737112c91818c11017d24d334b524cb5c2b8ba08daa056f7395ddb"
    )


@given(st.lists(st.tuples(NAMES, TEXTS), max_size=6))
def test_shopifys_library_takes_any_query_that_an_app_proxy_signs(own: list[tuple[str, str]]) -> None:
    library = ShopifyApp("an-app", "hush")
    query = with_signature([*own, ("shop", "demo-shop.myshopify.com"), ("timestamp", str(int(time.time())))], "hush")
    request: RequestInput = {"method": "GET", "headers": {}, "url": f"https://app.test/proxy?{query}", "body": ""}

    assert library.verify_app_proxy_req(request).ok


def test_shopifys_library_refuses_a_query_that_was_changed() -> None:
    library = ShopifyApp("an-app", "hush")
    query = with_signature([("shop", "a.myshopify.com"), ("timestamp", str(int(time.time())))], "hush")
    request: RequestInput = {
        "method": "GET",
        "headers": {},
        "url": f"https://app.test/proxy?{query}&{urlencode({'more': '1'})}",
        "body": "",
    }

    assert not library.verify_app_proxy_req(request).ok


def test_the_host_has_no_padding() -> None:
    assert host_of("a.myshopify.com") == "YWRtaW4uc2hvcGlmeS5jb20vc3RvcmUvYQ"
