"""The HTTP API: single calls, the webhooks each of them causes, and its errors."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from sellflow.simulator.signing import sign

from .conftest import DOMAIN, SECRET, RegisterShop
from .receiver import Receiver

Json = dict[str, Any]


async def post(api: httpx.AsyncClient, path: str, body: Json | None = None, status: int = 200) -> Json:
    answer = await api.post(path, json=body or {})
    assert answer.status_code == status, answer.text
    found: Json = answer.json()
    return found


async def place(api: httpx.AsyncClient, **fields: Any) -> Json:  # noqa: ANN401 - any JSON
    lines = {"lines": [{"price": "30", "quantity": 2, "discount": "12"}], "shipping": "5"}
    return await post(api, f"/shops/{DOMAIN}/orders", lines | fields, 201)


async def test_it_is_healthy(api: httpx.AsyncClient) -> None:
    assert (await api.get("/healthz")).json() == {"status": "ok"}


async def test_registering_a_shop_again_keeps_its_catalogue(api: httpx.AsyncClient, register: RegisterShop) -> None:
    first = await register()
    again = await register(webhook_url="http://127.0.0.1:1/other")

    assert again == first | {"webhook_url": "http://127.0.0.1:1/other"}
    assert (await api.get("/shops")).json() == {"shops": [again]}


async def test_a_paid_order_sends_its_creation_and_its_payment(
    api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver
) -> None:
    await register()
    order = await place(api)
    requests = await receiver.wait_for(2)

    assert sorted(receiver.topics()) == ["orders/create", "orders/paid"]
    assert json.loads(requests[0].body) == order
    assert (order["total_line_items_price"], order["subtotal_price"]) == ("60.00", "48.00")
    assert order["name"] == "#1001"


async def test_a_pending_order_sends_its_payment_when_it_is_paid(
    api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver
) -> None:
    await register()
    order = await place(api, financial_status="pending")
    paid = await post(api, f"/orders/{order['id']}/pay")
    await receiver.wait_for(3)

    assert (order["financial_status"], paid["financial_status"]) == ("pending", "paid")
    assert sorted(receiver.topics()) == ["orders/create", "orders/paid", "orders/updated"]


@pytest.mark.parametrize(
    ("path", "body", "topics"),
    [
        ("refunds", {}, ["orders/updated", "refunds/create"]),
        ("refunds", {"amount": "7.50"}, ["orders/updated", "refunds/create"]),
        ("refunds", {"shipping": True}, ["orders/updated", "refunds/create"]),
        ("cancel", {}, ["orders/cancelled", "orders/updated"]),
        ("cancel", {"refund": True}, ["orders/cancelled", "orders/updated", "refunds/create"]),
        ("edit", {"add": [{"quantity": 2}]}, ["orders/edited", "orders/updated"]),
    ],
)
async def test_a_change_sends_what_shopify_would(
    *,
    api: httpx.AsyncClient,
    register: RegisterShop,
    receiver: Receiver,
    path: str,
    body: Json,
    topics: list[str],
) -> None:
    await register()
    order = await place(api)
    await receiver.wait_for(2)
    changed = await post(api, f"/orders/{order['id']}/{path}", body)
    await receiver.wait_for(2 + len(topics))

    assert sorted(receiver.topics()[2:]) == topics
    assert (await api.get(f"/orders/{order['id']}")).json() == changed


async def test_an_authorized_order_is_not_paid_until_it_is_captured(
    api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver
) -> None:
    await register()
    order = await place(api, financial_status="authorized")
    paid = await post(api, f"/orders/{order['id']}/pay")
    await receiver.wait_for(3)

    assert (order["financial_status"], paid["financial_status"]) == ("authorized", "paid")


async def test_an_unpaid_order_is_voided_by_its_cancellation(
    api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver
) -> None:
    await register()
    order = await place(api, financial_status="pending")
    cancelled = await post(api, f"/orders/{order['id']}/cancel", {"reason": "fraud"})
    await receiver.wait_for(3)

    assert (cancelled["financial_status"], cancelled["cancel_reason"]) == ("voided", "fraud")


async def test_a_shop_may_ask_for_the_newer_headers(
    api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver
) -> None:
    await register(headers="event")
    await place(api)

    for request in await receiver.wait_for(2):
        assert request.headers["shopify-topic"] in {"orders/create", "orders/paid"}
        assert request.headers["shopify-hmac-sha256"] == sign(request.body, SECRET)
        assert "x-shopify-topic" not in request.headers


async def test_a_line_refund_gives_back_its_share_after_discounts(
    api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver
) -> None:
    await register()
    order = await place(api, presentment_currency="JPY")
    line = order["line_items"][0]["id"]
    body = {"line_items": [{"line_item_id": line, "quantity": 1}]}
    refunded = await post(api, f"/orders/{order['id']}/refunds", body)
    await receiver.wait_for(4)

    (refund,) = refunded["refunds"]
    (back,) = refund["refund_line_items"]
    assert back["subtotal_set"]["shop_money"] == {"amount": "24.00", "currency_code": "USD"}
    assert back["subtotal_set"]["presentment_money"] == {"amount": "3588", "currency_code": "JPY"}
    assert refunded["current_subtotal_price"] == "24.00"
    assert refunded["subtotal_price"] == "48.00"
    assert refunded["financial_status"] == "partially_refunded"


async def test_goodwill_is_an_adjustment_below_zero(
    api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver
) -> None:
    await register()
    order = await place(api)
    refunded = await post(api, f"/orders/{order['id']}/refunds", {"amount": "7.50"})
    await receiver.wait_for(4)

    (adjustment,) = refunded["refunds"][0]["order_adjustments"]
    assert (adjustment["kind"], adjustment["amount"]) == ("refund_discrepancy", "-7.50")
    assert refunded["refunds"][0]["transactions"][0]["amount"] == "7.50"


async def test_an_express_checkout_gets_its_customer_later(
    api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver
) -> None:
    await register(customers=1)
    customer = (await api.get(f"/shops/{DOMAIN}/customers")).json()["customers"][0]["id"]
    order = await place(api, no_customer=True)
    attached = await post(api, f"/orders/{order['id']}/customer", {"customer_id": customer})
    await receiver.wait_for(3)

    assert order["customer"] is None
    assert attached["customer"]["id"] == customer


async def test_customers_and_uninstallation_are_told(
    api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver
) -> None:
    await register()
    customer = await post(api, f"/shops/{DOMAIN}/customers", {"email": "ada@example.com"})
    changed = await post(api, f"/shops/{DOMAIN}/customers/{customer['id']}", {"tags": "vip"})
    await post(api, f"/shops/{DOMAIN}/uninstall")
    await receiver.wait_for(3)

    assert (changed["email"], changed["tags"]) == ("ada@example.com", "vip")
    assert sorted(receiver.topics()) == ["app/uninstalled", "customers/create", "customers/update"]


async def test_single_calls_have_a_journal_and_faults(
    api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver
) -> None:
    await register()
    order = await place(api, faults={"lose": 1})
    lines = (await api.get(f"/shops/{DOMAIN}/sent")).text.splitlines()
    sent = [json.loads(line) for line in lines]

    assert [(one["topic"], one["order_id"]) for one in sent] == [
        ("orders/create", order["id"]),
        ("orders/paid", order["id"]),
    ]
    assert receiver.requests == []


async def test_identifiers_differ_between_shops(
    api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver
) -> None:
    found = [await register(f"shop-{number}.myshopify.com", seed=1, customers=20) for number in range(3)]
    ids = [shop["id"] for shop in found]
    for shop in found:
        customers = (await api.get(f"/shops/{shop['domain']}/customers")).json()["customers"]
        ids += [customer["id"] for customer in customers]
        order = await post(api, f"/shops/{shop['domain']}/orders", {}, 201)
        ids += [order["id"], *(line["id"] for line in order["line_items"])]
    await receiver.wait_for(6)

    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        (
            "PUT",
            "/shops/a.example.com",
            {"webhook_url": "http://x/", "client_secret": "x"},
            400,
            "a.example.com",
        ),
        ("PUT", "/shops/a.myshopify.com", {"client_secret": "x"}, 400, "webhook_url: Field required"),
        (
            "PUT",
            "/shops/a.myshopify.com",
            {"webhook_url": "nowhere", "client_secret": "x"},
            400,
            "webhook_url",
        ),
        (
            "PUT",
            f"/shops/{DOMAIN}",
            {"webhook_url": "http://x/", "client_secret": "x", "currency": "EUR"},
            400,
            "USD",
        ),
        ("POST", f"/shops/{DOMAIN}/orders", {"presentment_currency": "XXX"}, 400, "XXX"),
        ("POST", f"/shops/{DOMAIN}/orders", {"lines": []}, 400, "lines"),
        ("POST", f"/shops/{DOMAIN}/orders", {"lines": [{"variant_id": 1}]}, 400, "sells no variant 1"),
        ("POST", f"/shops/{DOMAIN}/orders", {"lines": [{"price": "1", "discount": "2"}]}, 400, "exceeds"),
        ("POST", f"/shops/{DOMAIN}/orders", {"customer_id": 1}, 404, "customer 1"),
        ("POST", f"/shops/{DOMAIN}/orders", {"surprise": 1}, 400, "surprise"),
        ("POST", f"/shops/{DOMAIN}/runs", {"count": 0}, 400, "count"),
        ("POST", "/shops/nobody.myshopify.com/orders", {}, 404, "nobody.myshopify.com"),
        ("GET", "/shops/nobody.myshopify.com/customers", None, 404, "nobody"),
        ("GET", "/orders/1", None, 404, "no order 1"),
        ("GET", "/runs/run-1", None, 404, "run-1"),
        ("GET", "/nowhere", None, 404, "Not Found"),
    ],
)
async def test_an_error_says_what_is_wrong(
    *,
    api: httpx.AsyncClient,
    register: RegisterShop,
    method: str,
    path: str,
    body: Json | None,
    status: int,
    words: str,
) -> None:
    await register()
    answer = await api.request(method, path, json=body)

    assert answer.status_code == status
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("refunds", {"amount": "1000"}, "a refund must lie between"),
        ("refunds", {"amount": "1", "shipping": True}, "name one of"),
        ("refunds", {"line_items": [{"line_item_id": 1, "quantity": 1}]}, "no line 1"),
        ("pay", {}, "owes nothing"),
        ("edit", {}, "add or remove something"),
    ],
)
async def test_what_shopify_would_refuse_is_refused(
    *, api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver, path: str, body: Json, words: str
) -> None:
    await register()
    order = await place(api)
    answer = await post(api, f"/orders/{order['id']}/{path}", body, 400)
    await receiver.wait_for(2)

    assert words in answer["error"]


async def test_no_more_is_refunded_than_was_sold(
    api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver
) -> None:
    await register()
    order = await place(api)
    line = order["line_items"][0]["id"]
    too_many = {"line_items": [{"line_item_id": line, "quantity": 2}, {"line_item_id": line, "quantity": 1}]}
    refused = await post(api, f"/orders/{order['id']}/refunds", too_many, 400)
    everything = await post(api, f"/orders/{order['id']}/refunds")
    again = await post(api, f"/orders/{order['id']}/refunds", {}, 400)
    await receiver.wait_for(4)

    assert "2 pieces left" in refused["error"]
    assert Decimal(everything["current_total_price"]) == 0
    assert "nothing left to refund" in again["error"]


async def test_a_body_that_is_not_json_is_refused(api: httpx.AsyncClient, register: RegisterShop) -> None:
    await register()
    answer = await api.post(f"/shops/{DOMAIN}/orders", content=b"{")

    assert answer.status_code == 400
    assert "Invalid JSON" in answer.json()["error"]
