"""Routes that place and change single orders. Each answers with the order's REST payload."""

from __future__ import annotations

import random
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sellflow.simulator.backend import Shopify
from sellflow.simulator.catalogue import find_variant
from sellflow.simulator.errors import RefusedError
from sellflow.simulator.models import Customer, RestockType, Shop
from sellflow.simulator.notices import Change
from sellflow.simulator.order_payloads import order_payload
from sellflow.simulator.orders import Basket, Pick
from sellflow.simulator.routing import json_answer, order_id_of, parsed, simulator_of
from sellflow.simulator.schemas import (
    AttachInput,
    CancelInput,
    EditInput,
    LineInput,
    OrderInput,
    RefundedQuantity,
    RefundInput,
    Sending,
)
from sellflow.simulator.stories import any_pick, basket


async def place_order(request: Request) -> Response:
    """POST /shops/{domain}/orders: place an order, told by orders/create and orders/paid."""
    wanted, shopify = await parsed(request, OrderInput), simulator_of(request).shopify
    shop = shopify.shop(request.path_params["domain"])
    rng = simulator_of(request).rng(shop.domain)
    change = shopify.place(
        shop.domain,
        wanted_basket(wanted, shop, rng),
        customer=wanted_customer(wanted, shopify, shop, rng),
        currency=wanted.presentment_currency,
        paid=wanted.financial_status == "paid",
        authorized=wanted.financial_status == "authorized",
    )
    return await _told(request, change, wanted, status=201)


async def show_order(request: Request) -> Response:
    """GET /orders/{id}: the order as it is now."""
    return json_answer(order_payload(simulator_of(request).shopify.order(order_id_of(request))))


async def pay_order(request: Request) -> Response:
    """POST /orders/{id}/pay: take what is owed, told by orders/paid and orders/updated."""
    sending = await parsed(request, Sending)
    return await _told(request, simulator_of(request).shopify.pay(order_id_of(request)), sending)


async def cancel_order(request: Request) -> Response:
    """POST /orders/{id}/cancel: told by orders/cancelled, orders/updated, and refunds/create if refunded."""
    wanted = await parsed(request, CancelInput)
    shopify = simulator_of(request).shopify
    change = shopify.cancel(order_id_of(request), reason=wanted.reason, refund=wanted.refund)
    return await _told(request, change, wanted)


async def edit_order(request: Request) -> Response:
    """POST /orders/{id}/edit: told by orders/edited and orders/updated."""
    wanted, shopify = await parsed(request, EditInput), simulator_of(request).shopify
    order = shopify.order(order_id_of(request))
    shop = shopify.shop(order.domain)
    rng = simulator_of(request).rng(shop.domain)
    picks = [wanted_pick(line, shop, rng) for line in wanted.add]
    return await _told(request, shopify.edit(order.id, add=picks, remove=by_line(wanted.remove)), wanted)


async def attach_customer(request: Request) -> Response:
    """POST /orders/{id}/customer: give the order its customer, told by orders/updated."""
    wanted = await parsed(request, AttachInput)
    return await _told(request, simulator_of(request).shopify.attach(order_id_of(request), wanted.customer_id), wanted)


async def refund_order(request: Request) -> Response:
    """POST /orders/{id}/refunds: told by refunds/create and orders/updated."""
    wanted = await parsed(request, RefundInput)
    return await _told(request, refunded(simulator_of(request).shopify, order_id_of(request), wanted), wanted)


def refunded(shopify: Shopify, order_id: int, wanted: RefundInput) -> Change:
    """Refund what a request names.

    Raises
    ------
    RefusedError
        If it names more than one thing, or something that is not left.
    """
    named = (wanted.line_items is not None, wanted.amount is not None, wanted.shipping)
    if sum(named) > 1:
        raise RefusedError("name one of line_items, amount and shipping; send one refund for each")
    restock = RestockType(wanted.restock_type)
    if wanted.line_items is not None:
        return shopify.refund_lines(order_id, by_line(wanted.line_items), restock)
    if wanted.amount is not None:
        return shopify.refund_amount(order_id, wanted.amount)
    if wanted.shipping:
        return shopify.refund_shipping(order_id)
    return shopify.refund_rest(order_id, restock)


def by_line(pieces: list[RefundedQuantity]) -> dict[int, int]:
    """Return quantities by line id, lines named twice added up."""
    quantities: dict[int, int] = {}
    for piece in pieces:
        quantities[piece.line_item_id] = quantities.get(piece.line_item_id, 0) + piece.quantity
    return quantities


def wanted_customer(wanted: OrderInput, shopify: Shopify, shop: Shop, rng: random.Random) -> Customer | None:
    """Return the customer of an order: the one named, any one, or none for a guest."""
    if wanted.no_customer:
        return None
    if wanted.customer_id is not None:
        return shopify.customer(shop.domain, wanted.customer_id)
    customers = shopify.customers(shop.domain)
    return rng.choice(customers) if customers else None


def wanted_basket(wanted: OrderInput, shop: Shop, rng: random.Random) -> Basket:
    """Return what is ordered; named lines come without a discount code that nobody asked for."""
    invented = basket(shop, rng)
    if wanted.shipping is not None:
        invented = replace(invented, shipping=wanted.shipping)
    if wanted.lines is None:
        return invented
    picks = tuple(wanted_pick(line, shop, rng) for line in wanted.lines)
    return replace(invented, picks=picks, discount=None)


def wanted_pick(line: LineInput, shop: Shop, rng: random.Random) -> Pick:
    """Return a line's goods."""
    if line.variant_id is None:
        chosen = any_pick(shop, rng)
        product, variant = chosen.product, chosen.variant
    else:
        product, variant = find_variant(shop, line.variant_id)
    return Pick(product, variant, line.quantity, line.price, line.discount)


async def _told(request: Request, change: Change, sending: Sending, *, status: int = 200) -> Response:
    await simulator_of(request).post(change.order.domain, change.notices, sending.faults)
    return json_answer(order_payload(change.order), status)


ROUTES = (
    Route("/shops/{domain}/orders", place_order, methods=["POST"]),
    Route("/orders/{order_id:int}", show_order, methods=["GET"]),
    Route("/orders/{order_id:int}/pay", pay_order, methods=["POST"]),
    Route("/orders/{order_id:int}/cancel", cancel_order, methods=["POST"]),
    Route("/orders/{order_id:int}/edit", edit_order, methods=["POST"]),
    Route("/orders/{order_id:int}/customer", attach_customer, methods=["POST"]),
    Route("/orders/{order_id:int}/refunds", refund_order, methods=["POST"]),
)
