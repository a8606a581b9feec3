"""Refunds and order edits as REST resources."""

from __future__ import annotations

from sellflow.simulator.ids import gid
from sellflow.simulator.line_payloads import line_item, shipping_lines
from sellflow.simulator.models import Edit, Order, Refund, RefundedLine, RestockType
from sellflow.simulator.money import ZERO, Money, text
from sellflow.simulator.payload_parts import Json, moment, money_set, transaction

LOCATION_ID = 655441491


def refund_payload(order: Order, refund: Refund) -> Json:
    """Return a Refund as refunds/create and an order's `refunds` carry it."""
    at = moment(refund.created_at, order.market)
    paid = refund.transaction
    parent = order.transactions[-1] if order.transactions else None
    return {
        "id": refund.id,
        "admin_graphql_api_id": gid("Refund", refund.id),
        "order_id": order.id,
        "created_at": at,
        "processed_at": at,
        "note": refund.note,
        "user_id": None,
        "restock": any(line.restock_type is not RestockType.NO_RESTOCK for line in refund.lines),
        "return": None,
        "duties": [],
        "refund_duties": [],
        "additional_fees": [],
        "total_additional_fees_set": money_set(ZERO, order.exchange),
        "total_duties_set": money_set(ZERO, order.exchange),
        "order_adjustments": _adjustments(order, refund),
        "refund_line_items": [_refund_line(order, line) for line in refund.lines],
        "refund_shipping_lines": _refunded_shipping(order, refund),
        "transactions": [transaction(order, paid, parent)] if paid else [],
    }


def _refund_line(order: Order, done: RefundedLine) -> Json:
    """Return a refunded line; its plain amounts are JSON numbers, unlike everywhere else, as in Shopify."""
    line = next(line for line in order.lines if line.id == done.line_id)
    return {
        "id": done.id,
        "line_item_id": done.line_id,
        "location_id": None if done.restock_type is RestockType.NO_RESTOCK else LOCATION_ID,
        "quantity": done.quantity,
        "restock_type": done.restock_type.value,
        "subtotal": float(done.subtotal.shop),
        "subtotal_set": money_set(done.subtotal, order.exchange),
        "total_tax": float(done.tax.shop),
        "total_tax_set": money_set(done.tax, order.exchange),
        "line_item": line_item(order, line),
    }


def _adjustments(order: Order, refund: Refund) -> list[Json]:
    """Return order adjustments; below zero is money that went to the buyer, as in Shopify's reports."""
    shipping, discrepancy = refund.shipping, refund.discrepancy
    shipping_id, discrepancy_id = refund.adjustment_ids
    found = []
    if shipping.shop:
        found.append(_adjustment(order, refund, shipping_id, "shipping_refund", shipping))
    if discrepancy.shop or discrepancy.presentment:
        found.append(_adjustment(order, refund, discrepancy_id, "refund_discrepancy", discrepancy))
    return found


def _adjustment(order: Order, refund: Refund, number: int, kind: str, paid: Money) -> Json:
    amount, tax = -paid, -refund.shipping_tax if kind == "shipping_refund" else ZERO
    return {
        "id": number,
        "order_id": order.id,
        "refund_id": refund.id,
        "kind": kind,
        "reason": kind.replace("_", " ").capitalize(),
        "amount": text(amount.shop, order.exchange.shop),
        "amount_set": money_set(amount, order.exchange),
        "tax_amount": text(tax.shop, order.exchange.shop),
        "tax_amount_set": money_set(tax, order.exchange),
    }


def _refunded_shipping(order: Order, refund: Refund) -> list[Json]:
    if not refund.shipping.shop:
        return []
    line: Json = {
        "id": refund.id,
        "shipping_line": shipping_lines(order)[0],
        "subtotal_amount_set": money_set(refund.shipping, order.exchange),
        "tax_amount_set": money_set(refund.shipping_tax, order.exchange),
    }
    return [line]


def edit_payload(order: Order, edit: Edit) -> Json:
    """Return the payload of orders/edited: what changed, not the order."""
    return {
        "order_edit": {
            "id": edit.id,
            "app_id": None,
            "created_at": moment(edit.at, order.market),
            "notify_customer": False,
            "order_id": order.id,
            "reason": "",
            "staff_note": "",
            "user_id": None,
            "line_items": {
                "additions": [{"id": line_id, "delta": count} for line_id, count in edit.added],
                "removals": [{"id": line_id, "delta": count} for line_id, count in edit.removed],
            },
            "discounts": {"line_item": {"additions": [], "removals": []}},
            "shipping_lines": {"additions": [], "removals": []},
        }
    }
