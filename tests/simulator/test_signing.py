"""A webhook's headers are those that Shopify's own libraries accept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from shopify_app import RequestInput, ShopifyApp

from sellflow.simulator.faults import Fate
from sellflow.simulator.journal import Delivery, pack
from sellflow.simulator.models import App, HeaderFamily
from sellflow.simulator.signing import headers, sign

APP = App("http://127.0.0.1:1/webhooks", "hush")
BODY = b'{"id":1}'
DELIVERY = Delivery(
    webhook_id="b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
    event_id="98880550-7158-44d4-b7cd-2c97c8a091b5",
    topic="orders/create",
    domain="demo-shop.myshopify.com",
    order_id=42,
    triggered_at=datetime(2026, 11, 22, 8, 0, 0, 250_000, UTC),
    packed=pack(BODY),
    fate=Fate(),
)


@pytest.mark.conformance
def test_the_signature_is_base64_hmac_sha256_of_the_raw_body() -> None:
    # printf '{"id":1}' | openssl dgst -sha256 -hmac hush -binary | base64
    assert sign(BODY, "hush") == "VnKUjZsLuN5iZWjn5EntcBVCF9kMN43LglzCE1/GSeY="


@pytest.mark.conformance
def test_webhooks_carry_the_prefixed_family() -> None:
    found = headers(DELIVERY, BODY, APP)

    assert {name: value for name, value in found.items() if name.startswith("X-")} == {
        "X-Shopify-Topic": "orders/create",
        "X-Shopify-Hmac-Sha256": sign(BODY, "hush"),
        "X-Shopify-Shop-Domain": "demo-shop.myshopify.com",
        "X-Shopify-API-Version": "2026-10",
        "X-Shopify-Webhook-Id": DELIVERY.webhook_id,
        "X-Shopify-Triggered-At": "2026-11-22T08:00:00.250000Z",
        "X-Shopify-Event-Id": DELIVERY.event_id,
    }
    assert not any(name.startswith("shopify-") for name in found)


@pytest.mark.conformance
def test_events_carry_the_unprefixed_family() -> None:
    found = headers(DELIVERY, BODY, replace(APP, headers=HeaderFamily.EVENT))

    assert found["shopify-topic"] == "orders/create"
    assert found["shopify-hmac-sha256"] == sign(BODY, "hush")
    assert found["shopify-webhook-id"] == DELIVERY.webhook_id
    assert found["shopify-resource-id"] == "gid://shopify/Order/42"
    assert not any(name.startswith("X-") for name in found)


@pytest.mark.conformance
@pytest.mark.parametrize("family", HeaderFamily)
def test_shopifys_own_library_accepts_both(family: HeaderFamily) -> None:
    library = ShopifyApp("client-id", "hush")
    found = headers(DELIVERY, BODY, replace(APP, headers=family))

    def verify(body: bytes) -> bool:
        request: RequestInput = {
            "method": "POST",
            "headers": found,
            "url": "https://app.example.com/webhooks",
            "body": body.decode(),
        }
        return library.verify_webhook_req(request).ok

    assert verify(BODY)
    assert not verify(BODY + b" ")


def test_a_body_leaves_the_journal_as_it_came() -> None:
    assert DELIVERY.body == BODY
