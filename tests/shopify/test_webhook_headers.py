"""The headers of a delivery, in both families."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sellflow.shopify.webhook_headers import MalformedHeadersError, WebhookHeaders, read_webhook_headers

GOOD = {
    "hmac-sha256": "c2lnbmF0dXJl",
    "topic": "orders/paid",
    "shop-domain": "acme.myshopify.com",
    "webhook-id": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
    "triggered-at": "2026-11-22T09:00:00.123456789Z",
}
REQUIRED = ["hmac-sha256", "topic", "shop-domain", "webhook-id"]


def headers(family: str = "x-shopify-", **changes: str | None) -> dict[bytes, bytes]:
    """The good headers with some changed; None leaves one out."""
    values = GOOD | {name.replace("_", "-"): value for name, value in changes.items()}
    return {(family + name).encode(): value.encode("latin-1") for name, value in values.items() if value is not None}


def faults(given_headers: dict[bytes, bytes]) -> str:
    with pytest.raises(MalformedHeadersError) as caught:
        read_webhook_headers(given_headers)
    return str(caught.value)


@pytest.mark.conformance
@pytest.mark.parametrize("family", ["x-shopify-", "shopify-"])
def test_both_families_are_read_alike(family: str) -> None:
    assert read_webhook_headers(headers(family)) == WebhookHeaders(
        topic="orders/paid",
        shop_domain="acme.myshopify.com",
        webhook_id=str(GOOD["webhook-id"]),
        signature="c2lnbmF0dXJl",
        triggered_at=datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC),
    )


@pytest.mark.conformance
def test_a_delivery_with_both_families_is_an_events_delivery() -> None:
    both = headers("x-shopify-", topic="orders/create", webhook_id="old") | headers("shopify-", webhook_id="new")
    read = read_webhook_headers(both)
    assert (read.topic, read.webhook_id) == ("orders/paid", "new")


def test_an_events_delivery_takes_nothing_from_the_other_family() -> None:
    incomplete = headers("x-shopify-") | headers("shopify-", topic=None)
    assert faults(incomplete) == "shopify-topic is missing"


@pytest.mark.parametrize("family", ["x-shopify-", "shopify-"])
@pytest.mark.parametrize("name", ["topic", "shop-domain", "webhook-id"])
@pytest.mark.parametrize("value", [None, "", "   "])
def test_a_missing_header_is_named(family: str, name: str, value: str | None) -> None:
    changes = {name.replace("-", "_"): value}
    assert faults(headers(family, **changes)) == f"{family}{name} is missing"


def test_a_missing_signature_is_named() -> None:
    assert faults(headers(hmac_sha256=None)) == "x-shopify-hmac-sha256 is missing"


def test_all_that_is_missing_is_named_at_once() -> None:
    told = faults({})
    assert all(f"x-shopify-{name} is missing" in told for name in REQUIRED)


@pytest.mark.conformance
@pytest.mark.parametrize(
    "domain",
    [
        "evil.com",
        "a.myshopify.com.evil.com",
        "a.myshopify.com/x",
        "a.myshopify.com:443",
        "a.myshopify.com?",
        "a.myshopify.com#",
        "a.myshopify.com\\.evil.com",
        "https://a.myshopify.com",
        "user@a.myshopify.com",
        "a.b.myshopify.com",
        "myshopify.com",
        ".myshopify.com",
        "-a.myshopify.com",
        "a_b.myshopify.com",
        "a b.myshopify.com",
        "a.myshopifyxcom",
        "amyshopify.com",
        "a.myshopify.io",
        "a.myshopify.com\nb.myshopify.com",
        "a.myshopify.com\x00",
        "caf\xe9.myshopify.com",
        "\xaa.myshopify.com",
        f"{'a' * 101}.myshopify.com",
    ],
)
def test_a_hostile_domain_is_refused(domain: str) -> None:
    assert faults(headers(shop_domain=domain)) == "x-shopify-shop-domain is malformed"


@pytest.mark.conformance
@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("acme.myshopify.com", "acme.myshopify.com"),
        ("ACME.MyShopify.com", "acme.myshopify.com"),
        ("1-a.myshopify.com", "1-a.myshopify.com"),
        (f"{'a' * 100}.myshopify.com", f"{'a' * 100}.myshopify.com"),
    ],
)
def test_a_domain_is_read_in_lower_case(sent: str, read: str) -> None:
    assert read_webhook_headers(headers(shop_domain=sent)).shop_domain == read


@pytest.mark.parametrize("topic", ["orders paid", "/orders", "orders/", "orders//paid", "orders.paid", "ö/p", "a/" * 5])
def test_a_malformed_topic_is_refused(topic: str) -> None:
    assert faults(headers(topic=topic)) == "x-shopify-topic is malformed"


def test_a_topic_longer_than_any_of_shopifys_is_refused() -> None:
    assert faults(headers(topic="a" * 101)) == "x-shopify-topic is malformed"


@pytest.mark.parametrize(
    ("sent", "read"), [("ORDERS/PAID", "orders/paid"), ("app/uninstalled", "app/uninstalled"), ("x", "x")]
)
def test_a_topic_is_read_in_lower_case(sent: str, read: str) -> None:
    assert read_webhook_headers(headers(topic=sent)).topic == read


@pytest.mark.parametrize("webhook_id", ["a b", "\xe9", "a\tb", "x" * 256])
def test_a_malformed_webhook_id_is_refused(webhook_id: str) -> None:
    assert faults(headers(webhook_id=webhook_id)) == "x-shopify-webhook-id is malformed"


def test_the_case_of_a_webhook_id_is_kept() -> None:
    assert read_webhook_headers(headers(webhook_id="AbC")).webhook_id == "AbC"


@pytest.mark.parametrize(
    "moment",
    [None, "", "yesterday", "2026-13-40T00:00:00Z", "2026-11-22T09:00:00", "1732266000", "\xe9"],
)
def test_a_missing_or_malformed_time_is_no_reason_to_refuse_an_order(moment: str | None) -> None:
    assert read_webhook_headers(headers(triggered_at=moment)).triggered_at is None


def test_a_time_keeps_its_moment_whatever_its_offset() -> None:
    read = read_webhook_headers(headers(triggered_at="2026-11-22T09:00:00-05:00")).triggered_at
    assert read == datetime(2026, 11, 22, 9, tzinfo=timezone(timedelta(hours=-5)))


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_time_outside_the_calendar_is_none_since_the_database_could_not_hold_it(moment: str) -> None:
    assert read_webhook_headers(headers(triggered_at=moment)).triggered_at is None


@given(st.dictionaries(st.sampled_from([f"x-shopify-{name}".encode() for name in GOOD]), st.binary(max_size=60)))
def test_any_bytes_are_read_or_refused_by_name(sent: dict[bytes, bytes]) -> None:
    try:
        read = read_webhook_headers(sent)
    except MalformedHeadersError:
        return
    assert read.shop_domain.endswith(".myshopify.com")
