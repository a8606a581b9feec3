"""Routes that have Shopify ask for a customer's data, or for the erasure of a customer or a whole shop.

In earnest the first comes when a customer asks the merchant, the second ten days after a merchant's request or later,
the third two days after the app was removed. Here they come at once, and the shop and its customers stay as they are.

Bodies: https://shopify.dev/docs/apps/build/compliance/privacy-law-compliance
"""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sellflow.simulator.customer_payloads import customer_payload
from sellflow.simulator.models import Customer, Shop
from sellflow.simulator.notices import Notice
from sellflow.simulator.payload_parts import Json
from sellflow.simulator.routing import json_answer, parsed, simulator_of
from sellflow.simulator.schemas import ComplianceInput, Sending


async def data_request(request: Request) -> Response:
    """POST /shops/{domain}/compliance/data_request: a customer wants to know what is stored of them."""
    wanted = await parsed(request, ComplianceInput)
    number: Json = {"data_request": {"id": simulator_of(request).shopify.ids()}}
    return await _about_customer(request, wanted, "customers/data_request", "orders_requested", number)


async def redact_customer(request: Request) -> Response:
    """POST /shops/{domain}/compliance/redact-customer: a customer is to be erased."""
    wanted = await parsed(request, ComplianceInput)
    return await _about_customer(request, wanted, "customers/redact", "orders_to_redact", {})


async def redact_shop(request: Request) -> Response:
    """POST /shops/{domain}/compliance/redact-shop: a shop is to be erased."""
    sending = await parsed(request, Sending)
    return await _told(request, "shop/redact", _shop(_shop_of(request)), sending)


async def _about_customer(request: Request, wanted: ComplianceInput, topic: str, orders: str, more: Json) -> Response:
    shopify, shop = simulator_of(request).shopify, _shop_of(request)
    customer = shopify.customer(shop.domain, wanted.customer_id)
    bought = [order.id for order in shopify.orders_of(shop.domain, customer.id)]
    named = bought if wanted.order_ids is None else wanted.order_ids
    return await _told(request, topic, _shop(shop) | _customer(customer, shop) | {orders: named} | more, wanted)


async def _told(request: Request, topic: str, payload: Json, sending: Sending) -> Response:
    await simulator_of(request).post(
        _shop_of(request).domain, [Notice(topic, None, orjson.dumps(payload))], sending.faults
    )
    return json_answer(payload)


def _shop_of(request: Request) -> Shop:
    return simulator_of(request).shopify.shop(request.path_params["domain"])


def _shop(shop: Shop) -> Json:
    return {"shop_id": shop.id, "shop_domain": shop.domain}


def _customer(customer: Customer, shop: Shop) -> Json:
    known = customer_payload(customer, shop)
    return {"customer": {name: known[name] for name in ("id", "email", "phone")}}


ROUTES = (
    Route("/shops/{domain}/compliance/data_request", data_request, methods=["POST"]),
    Route("/shops/{domain}/compliance/redact-customer", redact_customer, methods=["POST"]),
    Route("/shops/{domain}/compliance/redact-shop", redact_shop, methods=["POST"]),
)
