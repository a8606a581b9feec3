"""Routes of shops and their customers."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sellflow.simulator import notices
from sellflow.simulator.catalogue import invent_customer
from sellflow.simulator.customer_payloads import customer_payload
from sellflow.simulator.journal import sent
from sellflow.simulator.models import Customer, Shop
from sellflow.simulator.money import text
from sellflow.simulator.oauth.schemas import UninstallInput
from sellflow.simulator.payload_parts import Json
from sellflow.simulator.routing import json_answer, lines_answer, parsed, simulator_of
from sellflow.simulator.schemas import CustomerInput, ShopInput


async def register_shop(request: Request) -> Response:
    """PUT /shops/{domain}: invent a shop, or change where its webhooks go."""
    wanted = await parsed(request, ShopInput)
    shop = simulator_of(request).register(request.path_params["domain"], wanted)
    return json_answer(described(shop))


async def list_shops(request: Request) -> Response:
    """GET /shops: every shop with its products, secrets left out."""
    return json_answer({"shops": [described(shop) for shop in simulator_of(request).shopify.shops.values()]})


async def list_customers(request: Request) -> Response:
    """GET /shops/{domain}/customers: the shop's customers as REST resources."""
    shopify, domain = simulator_of(request).shopify, request.path_params["domain"]
    shop = shopify.shop(domain)
    return json_answer({"customers": [customer_payload(found, shop) for found in shopify.customers(domain)]})


async def create_customer(request: Request) -> Response:
    """POST /shops/{domain}/customers: a new customer, told by customers/create."""
    wanted, simulator = await parsed(request, CustomerInput), simulator_of(request)
    rng = simulator.rng(request.path_params["domain"])
    customer = invent_customer(simulator.shopify.ids, rng, simulator.shopify.now())
    return await _customer_changed(request, "customers/create", _with(customer, wanted), wanted)


async def update_customer(request: Request) -> Response:
    """POST /shops/{domain}/customers/{customer_id}: a changed customer, told by customers/update."""
    wanted, shopify = await parsed(request, CustomerInput), simulator_of(request).shopify
    known = shopify.customer(request.path_params["domain"], request.path_params["customer_id"])
    customer = _with(replace(known, updated_at=shopify.now()), wanted)
    return await _customer_changed(request, "customers/update", customer, wanted)


async def uninstall(request: Request) -> Response:
    """POST /shops/{domain}/uninstall: remove the app, its tokens with it, and tell it; the shop stays."""
    sending, simulator = await parsed(request, UninstallInput), simulator_of(request)
    shop = simulator.shopify.shop(request.path_params["domain"])
    simulator.oauth.uninstall(shop.domain, sending.client_id)
    await simulator.post(shop.domain, [notices.uninstalled(shop)], sending.faults)
    return json_answer(described(shop))


async def list_sent(request: Request) -> Response:
    """GET /shops/{domain}/sent: the webhooks that single calls caused."""
    outbox = simulator_of(request).outbox(request.path_params["domain"])
    return lines_answer(sent(delivery) for delivery in list(outbox.journal))


async def _customer_changed(request: Request, topic: str, customer: Customer, sending: CustomerInput) -> Response:
    simulator, domain = simulator_of(request), request.path_params["domain"]
    shop = simulator.shopify.shop(domain)
    simulator.shopify.keep_customer(domain, customer)
    await simulator.post(domain, [notices.customer_changed(topic, customer, shop)], sending.faults)
    return json_answer(customer_payload(customer, shop))


def _with(customer: Customer, wanted: CustomerInput) -> Customer:
    return replace(
        customer,
        email=wanted.email or customer.email,
        tags=customer.tags if wanted.tags is None else wanted.tags,
        note=customer.note if wanted.note is None else wanted.note,
    )


def described(shop: Shop) -> Json:
    """Return what may be told about a shop."""
    return {
        "id": shop.id,
        "domain": shop.domain,
        "currency": shop.currency,
        "taxes_included": shop.market.taxes_included,
        "webhook_url": shop.app.webhook_url,
        "api_version": shop.app.api_version,
        "headers": shop.app.headers.value,
        "products": [
            {
                "id": product.id,
                "title": product.title,
                "vendor": product.vendor,
                "variants": [
                    {
                        "id": variant.id,
                        "title": variant.title,
                        "sku": variant.sku,
                        "price": text(variant.price, shop.currency),
                    }
                    for variant in product.variants
                ],
            }
            for product in shop.products
        ],
    }


ROUTES = (
    Route("/shops", list_shops, methods=["GET"]),
    Route("/shops/{domain}", register_shop, methods=["PUT"]),
    Route("/shops/{domain}/customers", list_customers, methods=["GET"]),
    Route("/shops/{domain}/customers", create_customer, methods=["POST"]),
    Route("/shops/{domain}/customers/{customer_id:int}", update_customer, methods=["POST"]),
    Route("/shops/{domain}/uninstall", uninstall, methods=["POST"]),
    Route("/shops/{domain}/sent", list_sent, methods=["GET"]),
)
