"""The query of an app's launch and of an authorization's end: signed by Shopify, and just now."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sellflow.shopify.query_signatures import InvalidQueryError, sign_query, verify_query

pytestmark = pytest.mark.conformance

SECRET = "hush"
NOW = 1337178173
#: From Shopify's documentation of the authorization code grant.
VECTOR = {"code": "a94a110d86d2452eb3e2af4cfb8a3828", "shop": "some-shop.myshopify.com", "timestamp": str(NOW)}
VECTOR_HMAC = "2cb1a277650a659f1b11e92a4a64275b128e037f2c3390e3c8fd2d8721dac9e2"


def signed(parameters: dict[str, str], secret: str = SECRET, **more: str) -> str:
    """A query as Shopify sends it."""
    return urlencode(parameters | {"hmac": sign_query(parameters, secret)} | more)


def refusal(query: str, *, now: float = NOW, secrets: tuple[str, ...] = (SECRET,)) -> str:
    with pytest.raises(InvalidQueryError) as caught:
        verify_query(query, secrets, now=now)
    return str(caught.value)


def test_the_published_vector_has_its_published_hmac() -> None:
    assert sign_query(VECTOR, SECRET) == VECTOR_HMAC
    assert verify_query(urlencode(VECTOR | {"hmac": VECTOR_HMAC}), [SECRET], now=NOW)["shop"] == VECTOR["shop"]


def test_the_order_of_the_parameters_does_not_matter() -> None:
    turned = dict(reversed((VECTOR | {"hmac": VECTOR_HMAC}).items()))
    assert verify_query(urlencode(turned), [SECRET], now=NOW) == turned


@pytest.mark.parametrize("name", ["hmac", "signature"])
def test_hmac_and_signature_are_not_signed_themselves(name: str) -> None:
    assert sign_query(VECTOR | {name: "anything"}, SECRET) == VECTOR_HMAC


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("a b", "a%20b"),
        ("a+b", "a%2Bb"),
        ("a&b=c", "a%26b%3Dc"),
        ("100%", "100%25"),
        ("caf\xe9", "caf%C3%A9"),
        ("\N{GRINNING FACE}", "%F0%9F%98%80"),
        ("-_.~!'()*", "-_.~!'()*"),
        ("", ""),
        ("a/b?c#d", "a%2Fb%3Fc%23d"),
    ],
)
def test_values_are_signed_as_javascript_encodes_them(value: str, encoded: str) -> None:
    by_hand = f"shop={VECTOR['shop']}&state={encoded}&timestamp={NOW}"
    expected = hmac.new(SECRET.encode(), by_hand.encode(), hashlib.sha256).hexdigest()
    parameters = {"shop": VECTOR["shop"], "state": value, "timestamp": str(NOW)}
    assert sign_query(parameters, SECRET) == expected
    assert verify_query(signed(parameters), [SECRET], now=NOW)["state"] == value


@pytest.mark.parametrize("seconds", [-90, -89.5, 0, 89, 90])
def test_a_query_is_good_for_ninety_seconds_either_way(seconds: float) -> None:
    assert verify_query(signed(VECTOR), [SECRET], now=NOW + seconds)


@pytest.mark.parametrize("seconds", [-3600, -91, 91, 3600, 10**9])
def test_a_stale_query_is_refused_though_it_is_signed(seconds: float) -> None:
    assert "within 90 seconds" in refusal(signed(VECTOR), now=NOW + seconds)


@pytest.mark.parametrize(
    "timestamp",
    [
        "",
        " ",
        "NaN",
        "Infinity",
        "-Infinity",
        "-1",
        "1e9",
        "0x50",
        f"{NOW}.0",
        f" {NOW}",
        f"{NOW} ",
        "+1",
        "1" * 13,
        "١٣٣٧١٧٨١٧٣",
        "yesterday",
        "null",
    ],
)
def test_a_timestamp_that_is_no_number_of_seconds_is_refused_though_it_is_signed(timestamp: str) -> None:
    assert "whole number of seconds" in refusal(signed(VECTOR | {"timestamp": timestamp}))


def test_a_missing_timestamp_is_refused_though_the_query_is_signed() -> None:
    assert "whole number of seconds" in refusal(signed({"shop": VECTOR["shop"]}))


@pytest.mark.parametrize("name", ["shop", "code", "timestamp", "hmac", "state"])
def test_a_parameter_that_comes_twice_is_refused(name: str) -> None:
    query = signed(VECTOR | {"state": "s"})
    for doubled in (f"{query}&{name}=evil", f"{name}=evil&{query}", f"{query}&{name}="):
        assert f"{name!r} more than once" in refusal(doubled)


def test_a_name_that_is_spelled_in_another_way_still_comes_twice() -> None:
    assert "more than once" in refusal(signed(VECTOR) + "&%73hop=evil.myshopify.com")


@pytest.mark.parametrize(
    "given_hmac",
    [
        "",
        "x",
        VECTOR_HMAC[:-1],
        VECTOR_HMAC + "0",
        VECTOR_HMAC.upper(),
        f"{VECTOR_HMAC} ",
        "g" * 64,
        "é" * 64,
        "\0" * 64,
        "0" * 10_000,
    ],
)
def test_rubbish_for_an_hmac_is_refused_and_no_error(given_hmac: str) -> None:
    refusal(urlencode(VECTOR | {"hmac": given_hmac}))


def test_another_value_name_or_number_of_parameters_is_refused() -> None:
    for changed in (
        VECTOR | {"shop": "other-shop.myshopify.com"},
        VECTOR | {"extra": "1"},
        {name: value for name, value in VECTOR.items() if name != "code"},
        {name if name != "code" else "Code": value for name, value in VECTOR.items()},
    ):
        assert "not that of its parameters" in refusal(urlencode(changed | {"hmac": VECTOR_HMAC}))


def test_while_a_secret_is_rotated_the_old_one_is_good_besides() -> None:
    for secret in ("new", "old"):
        assert verify_query(signed(VECTOR, secret), ["new", "old"], now=NOW)
    assert "not that of its parameters" in refusal(signed(VECTOR, "older"), secrets=("new", "old"))
    assert "not that of its parameters" in refusal(signed(VECTOR), secrets=())


@pytest.mark.parametrize("query", ["shop=%ff", "shop=a b", "shop=a#b", "shop=caf\xe9", "shop=a\nb", "a=\0", "a" * 9000])
def test_what_no_query_can_hold_is_refused(query: str) -> None:
    assert refusal(query).startswith("the query ")


@settings(max_examples=300)
@given(st.text(max_size=300))
def test_no_text_at_all_is_signed_or_raises_anything_else(query: str) -> None:
    refusal(query)


def as_javascript_does(parameters: dict[str, str]) -> str:
    """The algorithm of Shopify's JavaScript library, written down once more: sort, encode, join, sign."""
    kept = sorted((name, value) for name, value in parameters.items() if name not in ("hmac", "signature"))
    text = "&".join(f"{quote(name, safe=JAVASCRIPT)}={quote(value, safe=JAVASCRIPT)}" for name, value in kept)
    return hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()


JAVASCRIPT = "-_.!~*'()"
names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=10)
values = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=500)
@given(st.dictionaries(names, values, max_size=6))
def test_any_parameters_are_signed_as_shopifys_javascript_signs_them(parameters: dict[str, str]) -> None:
    kept = {name: value for name, value in parameters.items() if name not in ("hmac", "timestamp")}
    kept["timestamp"] = str(NOW)
    assert sign_query(kept, SECRET) == as_javascript_does(kept)
    assert verify_query(signed(kept), [SECRET], now=NOW).items() >= kept.items()
