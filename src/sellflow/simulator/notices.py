"""Which webhooks each change of an order or customer causes, with their bodies."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from sellflow.simulator.customer_payloads import customer_payload, uninstalled_payload
from sellflow.simulator.models import Customer, Order, Shop
from sellflow.simulator.order_payloads import order_payload
from sellflow.simulator.payload_parts import Json
from sellflow.simulator.refund_payloads import edit_payload, refund_payload
from sellflow.simulator.totals import is_paid


@dataclass(frozen=True, slots=True)
class Notice:
    """A webhook to send: its topic, the order it is about, and its raw body."""

    topic: str
    order_id: int | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """An order's new state and the webhooks that tell of it."""

    order: Order
    notices: tuple[Notice, ...]


def placed(order: Order) -> Change:
    """Tell of a new order, and of its payment if it came with one."""
    return _about(order, "orders/create", *(["orders/paid"] if is_paid(order) else []))


def paid(order: Order) -> Change:
    """Tell of a payment."""
    return _about(order, "orders/paid", "orders/updated")


def updated(order: Order) -> Change:
    """Tell of any other change, such as the customer that an express checkout reveals."""
    return _about(order, "orders/updated")


def refunded(order: Order) -> Change:
    """Tell of the order's latest refund."""
    latest = _notice("refunds/create", order, refund_payload(order, order.refunds[-1]))
    return Change(order, (latest, *_about(order, "orders/updated").notices))


def edited(order: Order) -> Change:
    """Tell of the order's latest edit. What it removed shows in the order's `refunds` only, as in Shopify."""
    latest = _notice("orders/edited", order, edit_payload(order, order.edits[-1]))
    return Change(order, (latest, *_about(order, "orders/updated").notices))


def cancelled(order: Order, *, with_refund: bool) -> Change:
    """Tell of a cancellation, and of the refund that came with it."""
    about = _about(order, "orders/cancelled", "orders/updated").notices
    refund = refunded(order).notices[:1] if with_refund else ()
    return Change(order, (*about, *refund))


def customer_changed(topic: str, customer: Customer, shop: Shop) -> Notice:
    """Tell of a customer: `topic` is customers/create or customers/update."""
    return Notice(topic, None, orjson.dumps(customer_payload(customer, shop)))


def uninstalled(shop: Shop) -> Notice:
    """Tell that the app was removed from the shop."""
    return Notice("app/uninstalled", None, orjson.dumps(uninstalled_payload(shop)))


def _about(order: Order, *topics: str) -> Change:
    payload = orjson.dumps(order_payload(order))
    return Change(order, tuple(Notice(topic, order.id, payload) for topic in topics))


def _notice(topic: str, order: Order, payload: Json) -> Notice:
    return Notice(topic, order.id, orjson.dumps(payload))
