"""The deliveries are what Shopify would send: realistic, signed, distinct, and 1 % of them repeated."""

from __future__ import annotations

import hmac
import json
from base64 import b64encode
from collections import Counter
from datetime import UTC, datetime

from benchmarks.deliveries import Requests, make_deliveries, make_requests, run_prefix, webhook_id
from benchmarks.floors import hmac_app

MOMENT = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
SECRET = "only-for-this-test"


def requests(count: int, run: int = 7) -> Requests:
    return make_requests(
        secret=SECRET,
        run=run,
        count=count,
        host="127.0.0.1:8080",
        path="/webhooks/shopify/bench",
        moment=MOMENT,
    )


def test_a_body_is_an_order_of_about_three_kilobytes() -> None:
    for delivery in make_deliveries(secret=SECRET, run=1, count=300, moment=MOMENT):
        order = json.loads(delivery.body)
        assert 2900 <= len(delivery.body) <= 3100
        assert order["financial_status"] == "paid"
        assert order["admin_graphql_api_id"].endswith(f"/{order['id']}")
        paid = sum(round(float(line["price"]) * 100) * line["quantity"] for line in order["line_items"])
        assert round(float(order["total_price"]) * 100) == paid


def test_a_signature_is_the_base64_hmac_of_the_body() -> None:
    (delivery,) = make_deliveries(secret=SECRET, run=1, count=1, moment=MOMENT)
    expected = b64encode(hmac.digest(SECRET.encode(), delivery.body, "sha256")).decode()
    assert delivery.signature == expected


def test_no_two_deliveries_share_an_id_or_a_body() -> None:
    deliveries = list(make_deliveries(secret=SECRET, run=1, count=1000, moment=MOMENT))
    assert len({delivery.webhook_id for delivery in deliveries}) == 1000
    assert len({delivery.body for delivery in deliveries}) == 1000


def test_the_ids_of_a_run_begin_as_those_of_no_other() -> None:
    assert webhook_id(3, 5).startswith(run_prefix(3))
    assert not webhook_id(3, 5).startswith(run_prefix(4))


def test_one_request_in_a_hundred_repeats_another_byte_for_byte() -> None:
    made = requests(1000)
    times = Counter(made.numbers)
    assert len(times) == 990
    assert sum(times.values()) == 1000
    by_number = dict(zip(made.numbers, made.parts, strict=True))
    assert all(by_number[number] is parts for number, parts in zip(made.numbers, made.parts, strict=True))


def test_a_request_says_how_long_its_body_is_and_whose_it_is() -> None:
    made = requests(1)
    head, _, body = b"".join(made.parts[0]).partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert int(fields["Content-Length"]) == len(body)
    assert fields["X-Shopify-Topic"] == "orders/paid"
    assert fields["X-Shopify-Webhook-Id"] == webhook_id(7, 0)
    assert fields["X-Shopify-Shop-Domain"] == "bench.myshopify.com"


def test_the_same_run_is_the_same_requests() -> None:
    assert requests(250).parts == requests(250).parts
    assert requests(250).parts != requests(250, run=8).parts


def test_the_floor_accepts_what_is_signed_and_nothing_else() -> None:
    (delivery,) = make_deliveries(secret=hmac_app.KEY.decode(), run=1, count=1, moment=MOMENT)
    assert hmac_app.is_signed(delivery.body, delivery.signature.encode())
    assert not hmac_app.is_signed(delivery.body + b" ", delivery.signature.encode())
