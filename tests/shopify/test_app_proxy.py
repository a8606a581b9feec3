"""App proxy requests: our verdict, that of Shopify's own library, and where ours is the stricter."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shopify_app.verify.app_proxy import verify_app_proxy_req

from sellflow.shopify.app_proxy import ProxyRequest, verify_proxy_query
from sellflow.shopify.query_signatures import InvalidQueryError

pytestmark = pytest.mark.conformance

SECRET = "hush"
Pairs = Sequence[tuple[str, str]]


def sign(pairs: Pairs, secret: str = SECRET) -> str:
    """As Shopify's page on authenticating app proxies says: sorted, repeated values joined by commas, no separator."""
    joined: dict[str, list[str]] = {}
    for name, value in pairs:
        joined.setdefault(name, []).append(value)
    text = "".join(f"{name}={','.join(joined[name])}" for name in sorted(joined) if name != "signature")
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def shopifys(**changes: str | None) -> list[tuple[str, str]]:
    """What Shopify adds to a visitor's query."""
    values = {
        "shop": "acme.myshopify.com",
        "logged_in_customer_id": "42",
        "path_prefix": "/apps/points",
        "timestamp": str(int(time.time())),
    } | changes
    return [(name, value) for name, value in values.items() if value is not None]


def signed(pairs: Pairs, secret: str = SECRET) -> str:
    return urlencode([*pairs, ("signature", sign(pairs, secret))])


def verify(query: str, *secrets: str) -> ProxyRequest:
    return verify_proxy_query(query, secrets or (SECRET,), now=time.time())


def is_good_to_the_library(query: str, secret: str = SECRET, old: str | None = None) -> bool:
    request = {"method": "GET", "url": f"https://app.example/x?{query}", "headers": {}, "body": ""}
    return verify_app_proxy_req(request, {"client_id": "c", "client_secret": secret, "old_client_secret": old}).ok  # type: ignore[arg-type]


def refusal(query: str, *secrets: str) -> str:
    with pytest.raises(InvalidQueryError) as caught:
        verify(query, *secrets)
    return str(caught.value)


def test_a_signed_query_says_shop_path_and_customer() -> None:
    assert verify(signed(shopifys())) == ProxyRequest("acme.myshopify.com", "/apps/points", 42)


def test_the_example_of_shopifys_documentation_has_its_signature() -> None:
    documented = [
        ("extra", "1"),
        ("extra", "2"),
        ("shop", "some-shop.myshopify.com"),
        ("path_prefix", "/apps/awesome_reviews"),
        ("timestamp", "1317327555"),
    ]
    text = "extra=1,2path_prefix=/apps/awesome_reviewsshop=some-shop.myshopify.comtimestamp=1317327555"
    assert sign(documented) == hmac.new(b"hush", text.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize("customer", [None, ""])
def test_a_visitor_who_is_not_logged_in_is_nobody(customer: str | None) -> None:
    assert verify(signed(shopifys(logged_in_customer_id=customer))).customer_id is None


@pytest.mark.parametrize("customer", ["0", "-1", "1e3", "42 ", "٤٢", "null", "9" * 20, "42,43"])
def test_a_customer_that_is_no_number_is_refused_though_it_is_signed(customer: str) -> None:
    assert "no customer's" in refusal(signed(shopifys(logged_in_customer_id=customer)))


def test_what_the_visitor_asks_may_come_several_times() -> None:
    assert verify(signed([*shopifys(), ("ids[]", "1"), ("ids[]", "2"), ("q", "a b&c=d")]))


@pytest.mark.parametrize("name", ["shop", "timestamp", "signature", "path_prefix", "logged_in_customer_id"])
def test_what_shopify_adds_may_not_come_twice(name: str) -> None:
    query = signed(shopifys())
    assert f"{name} more than once" in refusal(f"{query}&{name}=evil")
    assert f"{name} more than once" in refusal(f"{name}=evil&{query}")


@pytest.mark.parametrize("name", ["timestamp", "path_prefix", "logged_in_customer_id"])
def test_not_even_when_both_are_signed(name: str) -> None:
    """A visitor who writes one of Shopify's names into the address gets it signed besides Shopify's own."""
    pairs = [(name, "7"), *shopifys()]
    assert f"{name} more than once" in refusal(signed(pairs))


@pytest.mark.parametrize("seconds", [-88, 0, 88])
def test_a_query_is_good_for_ninety_seconds(seconds: int) -> None:
    assert verify(signed(shopifys(timestamp=str(int(time.time()) + seconds))))


@pytest.mark.parametrize("seconds", [-100_000, -93, 93, 100_000])
def test_a_stale_query_is_refused(seconds: int) -> None:
    assert "within 90 seconds" in refusal(signed(shopifys(timestamp=str(int(time.time()) + seconds))))


@pytest.mark.parametrize("timestamp", [None, "", "NaN", "Infinity", "-5", "1e9", " 5", "\u0661"])
def test_a_timestamp_that_is_no_number_of_seconds_is_refused(timestamp: str | None) -> None:
    assert "whole number of seconds" in refusal(signed(shopifys(timestamp=timestamp)))


@pytest.mark.parametrize(
    "shop",
    [None, "", "acme", "acme.com", "acme.myshopify.com.evil.com", "https://acme.myshopify.com", "a/b.myshopify.com"],
)
def test_a_query_of_no_shop_is_refused_though_it_is_signed(shop: str | None) -> None:
    assert "of no shop" in refusal(signed(shopifys(shop=shop)))


@pytest.mark.parametrize("signature", ["", "x", "g" * 64, "A" * 64, "\xe9" * 64, "0" * 63, "0" * 65])
def test_rubbish_for_a_signature_is_refused_and_no_error(signature: str) -> None:
    refusal(urlencode([*shopifys(), ("signature", signature)]))


def test_a_query_whose_end_some_readers_do_not_see_is_refused() -> None:
    query = signed(shopifys(logged_in_customer_id=None))
    assert is_good_to_the_library(f"{query}#&logged_in_customer_id=5")
    assert "percent-encoded" in refusal(f"{query}#&logged_in_customer_id=5")


def test_while_a_secret_is_rotated_both_are_good() -> None:
    for secret, verdict in (("new", True), ("old", True), ("older", False)):
        query = signed(shopifys(), secret)
        assert is_good_to_the_library(query, "new", "old") is verdict
        if verdict:
            assert verify(query, "new", "old")
        else:
            assert "invalid_signature" in refusal(query, "new", "old")


def test_another_value_is_refused() -> None:
    assert "invalid_signature" in refusal(signed(shopifys()).replace("=42", "=43"))


plain = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
visitors = st.lists(st.tuples(st.text("abcxyz_[]", min_size=1, max_size=6), plain), max_size=5)


@settings(max_examples=1000)
@given(
    visitors=visitors,
    signer=st.sampled_from(["new", "old", "stranger"]),
    previous=st.sampled_from(["old", None]),
    age=st.sampled_from([0, 80, -80, 100, -100]),
    tamper=st.sampled_from(["", "value", "more", "less", "unsigned"]),
)
def test_the_verdict_is_that_of_shopifys_own_library(
    visitors: Pairs, signer: str, previous: str | None, age: int, tamper: str
) -> None:
    pairs = [*shopifys(timestamp=str(int(time.time()) - age)), *visitors]
    signature = sign(pairs, signer)
    if tamper == "value":
        pairs[0] = ("shop", "other.myshopify.com")
    elif tamper == "more":
        pairs.append(("more", ""))
    elif tamper == "less":
        del pairs[1]
    query = urlencode(pairs if tamper == "unsigned" else [*pairs, ("signature", signature)])
    theirs = is_good_to_the_library(query, "new", previous)
    try:
        ours = bool(verify(query, *(["new", previous] if previous else ["new"])))
    except InvalidQueryError:
        ours = False
    assert ours is theirs
    assert theirs is (not tamper and abs(age) < 90 and signer in ("new", previous))
