"""Refunds of lines, of shipping, of an amount, of all that is left; and pieces that an edit removes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from sellflow.simulator.errors import RefusedError
from sellflow.simulator.ids import Ids
from sellflow.simulator.models import Line, Order, Refund, RefundedLine, RestockType, Transaction
from sellflow.simulator.money import Money, total
from sellflow.simulator.totals import (
    current_quantity,
    current_totals,
    line_subtotal,
    line_tax,
    refundable,
    tax_of,
)


def refund_lines(
    order: Order,
    quantities: Mapping[int, int],
    *,
    restock: RestockType = RestockType.RETURN,
    ids: Ids,
    now: datetime,
) -> Order:
    """Refund pieces of lines; `quantities` is by line id.

    Raises
    ------
    RefusedError
        If a line is unknown, has fewer pieces left, or no money is left to give back.
    """
    return _refund(order, Refund(ids(), now, lines=_take(order, quantities, restock, ids)), ids)


def refund_shipping(order: Order, *, ids: Ids, now: datetime) -> Order:
    """Refund what is left of the shipping.

    Raises
    ------
    RefusedError
        If none is left.
    """
    left = current_totals(order).shipping
    if left.shop <= 0:
        raise RefusedError(f"order {order.name} has no shipping left to refund")
    return _refund(order, Refund(ids(), now, shipping=left, shipping_tax=tax_of(order, left)), ids)


def refund_amount(order: Order, amount: Decimal, *, ids: Ids, now: datetime) -> Order:
    """Give back `amount` of shop currency without taking anything back: goodwill.

    Raises
    ------
    RefusedError
        If it is not positive, or more than the money left.
    """
    goodwill = order.exchange.convert(amount)
    if goodwill.shop <= 0 or goodwill.shop > refundable(order).shop:
        raise RefusedError(f"a refund must lie between 0 and the {refundable(order).shop} left, not {amount}")
    return _refund(order, Refund(ids(), now, discrepancy=goodwill, note="Goodwill"), ids)


def refund_rest(order: Order, *, restock: RestockType = RestockType.RETURN, ids: Ids, now: datetime) -> Order:
    """Refund every piece and all shipping that is left.

    Raises
    ------
    RefusedError
        If nothing, or no money, is left to give back.
    """
    left = {line.id: count for line in order.lines if (count := current_quantity(order, line))}
    shipping = current_totals(order).shipping
    if not left and shipping.shop <= 0:
        raise RefusedError(f"order {order.name} has nothing left to refund")
    refund = Refund(
        ids(),
        now,
        lines=_take(order, left, restock, ids),
        shipping=shipping,
        shipping_tax=tax_of(order, shipping),
    )
    return _refund(order, refund, ids)


def remove_lines(order: Order, quantities: Mapping[int, int], *, ids: Ids, now: datetime) -> Order:
    """Remove pieces by an order edit: a refund record without a transaction, as Shopify writes it.

    Raises
    ------
    RefusedError
        If a line is unknown or has fewer pieces left.
    """
    lines = _take(order, quantities, RestockType.NO_RESTOCK, ids)
    return replace(order, refunds=(*order.refunds, Refund(ids(), now, lines=lines)), updated_at=now)


def _take(order: Order, quantities: Mapping[int, int], restock: RestockType, ids: Ids) -> tuple[RefundedLine, ...]:
    lines = {line.id: line for line in order.lines}
    for line_id, quantity in quantities.items():
        if line_id not in lines:
            raise RefusedError(f"order {order.name} has no line {line_id}")
        left = current_quantity(order, lines[line_id])
        if not 1 <= quantity <= left:
            raise RefusedError(f"line {line_id} has {left} pieces left, {quantity} is not among 1 to {left}")
    return tuple(_taken(order, lines[line_id], count, restock, ids) for line_id, count in quantities.items())


def _taken(order: Order, line: Line, quantity: int, restock: RestockType, ids: Ids) -> RefundedLine:
    """Value pieces so that refunding a line in any steps gives back exactly what it cost."""
    before = line.quantity - current_quantity(order, line)

    def worth(whole: Money) -> Money:
        upto = order.exchange.share(whole, before + quantity, line.quantity)
        return upto - order.exchange.share(whole, before, line.quantity)

    return RefundedLine(ids(), line.id, quantity, worth(line_subtotal(line)), worth(line_tax(order, line)), restock)


def _refund(order: Order, refund: Refund, ids: Ids) -> Order:
    """Pay out what a refund is worth, but never more than is left; the difference is its discrepancy."""
    left = refundable(order)
    if left.presentment <= 0:
        raise RefusedError(f"order {order.name} has no money left to refund")
    due = _value(order, refund) + refund.discrepancy
    paid = due.at_most(left)
    done = replace(
        refund,
        discrepancy=refund.discrepancy - (due - paid),
        adjustment_ids=(ids(), ids()),
        transaction=Transaction(ids(), "refund", paid, refund.created_at),
    )
    return replace(order, refunds=(*order.refunds, done), updated_at=refund.created_at)


def _value(order: Order, refund: Refund) -> Money:
    goods = total(line.subtotal for line in refund.lines) + refund.shipping
    if order.market.taxes_included:
        return goods
    return goods + total(line.tax for line in refund.lines) + refund.shipping_tax
