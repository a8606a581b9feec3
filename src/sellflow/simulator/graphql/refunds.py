"""Refunds and the money that moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sellflow.simulator.graphql.connections import plain_page
from sellflow.simulator.graphql.fields import Call, Fields, Value, moment
from sellflow.simulator.graphql.money_fields import Bag
from sellflow.simulator.graphql.order_parts import (
    LineOf,
    RefundedLineOf,
    RefundedShippingOf,
    RefundOf,
    ShippingOf,
    TransactionOf,
)
from sellflow.simulator.ids import gid
from sellflow.simulator.models import Order, RestockType
from sellflow.simulator.money import ZERO, Money
from sellflow.simulator.refund_payloads import LOCATION_ID


def _bag(order: Order, money: Money) -> Bag:
    return Bag(money, order.exchange)


def _lines(found: RefundOf, call: Call) -> Value:
    return plain_page([RefundedLineOf(found.order, one) for one in found.refund.lines], call, lambda one: one.done.id)


def _shipping(found: RefundOf, call: Call) -> Value:
    lines = [RefundedShippingOf(found.order, found.refund)] if found.refund.shipping.shop else []
    return plain_page(lines, call, lambda one: one.refund.id)


def _transactions(found: RefundOf, call: Call) -> Value:
    parent = found.order.transactions[-1] if found.order.transactions else None
    done = found.refund.transaction
    moved = [TransactionOf(found.order, done, parent)] if done else []
    return plain_page(moved, call, lambda one: one.done.id)


def _adjustments(found: RefundOf, call: Call) -> Value:
    """Resolve what was paid beyond, or short of, the value of what was taken back; signed as in the REST payload."""
    discrepancy = found.refund.discrepancy
    adjustment: Value = {
        "__typename": "OrderAdjustment",
        "id": gid("OrderAdjustment", found.refund.adjustment_ids[1]),
        "reason": "REFUND_DISCREPANCY",
        "amountSet": _bag(found.order, -discrepancy),
        "taxAmountSet": _bag(found.order, ZERO),
    }
    there = [adjustment] if discrepancy.shop or discrepancy.presentment else []
    return plain_page(there, call, lambda _: found.refund.adjustment_ids[1])


def _line_item(found: RefundedLineOf, _call: Call) -> object:
    line = next(line for line in found.order.lines if line.id == found.done.line_id)
    return LineOf(found.order, line)


def _location(found: RefundedLineOf, call: Call) -> object:
    is_back = found.done.restock_type is not RestockType.NO_RESTOCK
    return call.world.admin.stock.location(LOCATION_ID) if is_back else None


REFUND: Fields[RefundOf] = {
    "id": lambda found, _: gid("Refund", found.refund.id),
    "legacyResourceId": lambda found, _: f"{found.refund.id}",
    "createdAt": lambda found, _: moment(found.refund.created_at),
    "processedAt": lambda found, _: moment(found.refund.created_at),
    "updatedAt": lambda found, _: moment(found.refund.created_at),
    "note": lambda found, _: found.refund.note,
    "order": lambda found, _: found.order,
    "totalRefundedSet": lambda found, _: _bag(
        found.order, found.refund.transaction.amount if found.refund.transaction else ZERO
    ),
    "refundLineItems": _lines,
    "refundShippingLines": _shipping,
    "transactions": _transactions,
    "orderAdjustments": _adjustments,
    "duties": lambda _found, _: [],
    "return": lambda _found, _: None,
}

REFUND_LINE_ITEM: Fields[RefundedLineOf] = {
    "id": lambda found, _: gid("RefundLineItem", found.done.id),
    "lineItem": _line_item,
    "location": _location,
    "quantity": lambda found, _: found.done.quantity,
    "restockType": lambda found, _: found.done.restock_type.value.upper(),
    "restocked": lambda found, _: found.done.restock_type is not RestockType.NO_RESTOCK,
    "subtotalSet": lambda found, _: _bag(found.order, found.done.subtotal),
    "totalTaxSet": lambda found, _: _bag(found.order, found.done.tax),
}

REFUND_SHIPPING_LINE: Fields[RefundedShippingOf] = {
    "id": lambda found, _: gid("RefundShippingLine", found.refund.id),
    "shippingLine": lambda found, _: ShippingOf(found.order),
    "subtotalAmountSet": lambda found, _: _bag(found.order, found.refund.shipping),
    "taxAmountSet": lambda found, _: _bag(found.order, found.refund.shipping_tax),
}

TRANSACTION: Fields[TransactionOf] = {
    "id": lambda found, _: gid("OrderTransaction", found.done.id),
    "kind": lambda found, _: found.done.kind.upper(),
    "status": lambda _found, _: "SUCCESS",
    "gateway": lambda _found, _: "bogus",
    "formattedGateway": lambda _found, _: "Bogus",
    "test": lambda _found, _: True,
    "createdAt": lambda found, _: moment(found.done.at),
    "processedAt": lambda found, _: moment(found.done.at),
    "amountSet": lambda found, _: _bag(found.order, found.done.amount),
    "order": lambda found, _: found.order,
    "parentTransaction": lambda found, _: TransactionOf(found.order, found.parent) if found.parent else None,
    "paymentId": lambda found, _: f"{found.order.name}.{len(found.order.transactions)}",
    "errorCode": lambda _found, _: None,
}

FIELDS: Mapping[str, Fields[Any]] = {
    "Refund": REFUND,
    "RefundLineItem": REFUND_LINE_ITEM,
    "RefundShippingLine": REFUND_SHIPPING_LINE,
    "OrderTransaction": TRANSACTION,
}
