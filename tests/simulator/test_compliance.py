"""Compliance webhooks, as Shopify documents them."""

from __future__ import annotations

from typing import Any

import httpx
import orjson
import pytest

from sellflow.simulator.signing import sign

from .conftest import DOMAIN, SECRET, RegisterShop
from .receiver import Receiver

Json = dict[str, Any]


async def asked(api: httpx.AsyncClient, what: str, status: int = 200, **body: object) -> Json:
    answer = await api.post(f"/shops/{DOMAIN}/compliance/{what}", json=body)
    assert answer.status_code == status, answer.text
    found: Json = answer.json()
    return found


async def customer(api: httpx.AsyncClient) -> Json:
    found: Json = (await api.get(f"/shops/{DOMAIN}/customers")).json()["customers"][0]
    return found


@pytest.mark.conformance
@pytest.mark.parametrize(
    ("what", "topic", "orders"),
    [
        ("data_request", "customers/data_request", "orders_requested"),
        ("redact-customer", "customers/redact", "orders_to_redact"),
    ],
)
async def test_what_is_asked_of_a_customer_names_them_and_their_orders(
    *, api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver, what: str, topic: str, orders: str
) -> None:
    shop, who = await register(), await customer(api)
    placed = [
        (await api.post(f"/shops/{DOMAIN}/orders", json={"customer_id": who["id"]})).json()["id"] for _ in range(2)
    ]
    await api.post(f"/shops/{DOMAIN}/orders", json={"no_customer": True})
    await receiver.wait_for(6)
    told = await asked(api, what, customer_id=who["id"])
    request = (await receiver.wait_for(7))[-1]

    assert request.topic == topic
    assert request.headers["x-shopify-hmac-sha256"] == sign(request.body, SECRET)
    body = orjson.loads(request.body)
    assert body == told
    assert body.pop("data_request", {"id": 1})["id"] > 0
    assert body == {
        "shop_id": shop["id"],
        "shop_domain": DOMAIN,
        "customer": {"id": who["id"], "email": who["email"], "phone": who["phone"]},
        orders: placed,
    }


@pytest.mark.conformance
async def test_a_shops_erasure_names_the_shop_alone(
    api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver
) -> None:
    shop = await register()
    await asked(api, "redact-shop")
    (request,) = await receiver.wait_for(1)

    assert request.topic == "shop/redact"
    assert request.headers["x-shopify-hmac-sha256"] == sign(request.body, SECRET)
    assert orjson.loads(request.body) == {"shop_id": shop["id"], "shop_domain": DOMAIN}


async def test_orders_may_be_named_and_webhooks_lost(
    api: httpx.AsyncClient, register: RegisterShop, receiver: Receiver
) -> None:
    await register()
    who = await customer(api)
    await asked(api, "redact-customer", customer_id=who["id"], faults={"lose": 1})
    await asked(api, "redact-customer", customer_id=who["id"], order_ids=[5])
    (request,) = await receiver.wait_for(1)

    assert orjson.loads(request.body)["orders_to_redact"] == [5]


async def test_what_makes_no_sense_is_refused(api: httpx.AsyncClient, register: RegisterShop) -> None:
    await register()

    assert (await asked(api, "redact-customer", 404, customer_id=1))["error"]
    assert (await asked(api, "redact-customer", 400))["error"]
    assert (await asked(api, "redact-shop", 400, customer_id=1))["error"]
    assert (await api.post("/shops/nobody.myshopify.com/compliance/redact-shop")).status_code == 404
