"""What an order's parts add up to, originally and after returns and edits: pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from sellflow.simulator.models import FinancialStatus, Line, Order
from sellflow.simulator.money import ZERO, Money, total


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums of an order; `subtotal` is after discounts, `total` includes shipping and tax."""

    gross: Money
    discounts: Money
    subtotal: Money
    shipping: Money
    tax: Money
    total: Money


def line_subtotal(line: Line) -> Money:
    """Return what all pieces of a line cost after discounts."""
    return line.price.times(line.quantity) - line.discount


def tax_of(order: Order, amount: Money) -> Money:
    """Return the tax on (or, where prices include it, within) `amount`."""
    rate = order.market.tax_rate
    factor = rate / (1 + rate) if order.market.taxes_included else rate
    return order.exchange.scaled(amount, factor)


def line_tax(order: Order, line: Line) -> Money:
    """Return the tax of all pieces of a line."""
    return tax_of(order, line_subtotal(line))


def original_totals(order: Order) -> Totals:
    """Return the sums before returns. Pieces that an edit added count, as they do in Shopify."""
    return _totals(
        order,
        gross=total(line.price.times(line.quantity) for line in order.lines),
        subtotal=total(line_subtotal(line) for line in order.lines),
        shipping=order.shipping,
        tax=total(line_tax(order, line) for line in order.lines) + tax_of(order, order.shipping),
    )


def current_totals(order: Order) -> Totals:
    """Return the sums after returns and edits: Shopify's `current_…` fields."""
    original = original_totals(order)
    returned = [line for refund in order.refunds for line in refund.lines]
    prices = {line.id: line.price for line in order.lines}
    taxes = [line.tax for line in returned] + [refund.shipping_tax for refund in order.refunds]
    return _totals(
        order,
        gross=original.gross - total(prices[line.line_id].times(line.quantity) for line in returned),
        subtotal=original.subtotal - total(line.subtotal for line in returned),
        shipping=original.shipping - total(refund.shipping for refund in order.refunds),
        tax=original.tax - total(taxes),
    )


def _totals(order: Order, *, gross: Money, subtotal: Money, shipping: Money, tax: Money) -> Totals:
    return Totals(
        gross=gross,
        discounts=gross - subtotal,
        subtotal=subtotal,
        shipping=shipping,
        tax=tax,
        total=subtotal + shipping + (ZERO if order.market.taxes_included else tax),
    )


def current_quantity(order: Order, line: Line) -> int:
    """Return how many pieces of a line are neither refunded nor removed."""
    returned = (done.quantity for refund in order.refunds for done in refund.lines if done.line_id == line.id)
    return line.quantity - sum(returned)


def received(order: Order) -> Money:
    """Return the money that the buyer paid, refunds not deducted."""
    return total(payment.amount for payment in order.transactions)


def paid_back(order: Order) -> Money:
    """Return the money that went back to the buyer."""
    return total(refund.transaction.amount for refund in order.refunds if refund.transaction)


def refundable(order: Order) -> Money:
    """Return the money that can still go back."""
    return received(order) - paid_back(order)


def outstanding(order: Order) -> Money:
    """Return what the buyer still owes; below zero, what the shop owes after an edit."""
    goodwill = total(refund.discrepancy for refund in order.refunds)
    return current_totals(order).total - goodwill - refundable(order)


def refunded_items(order: Order) -> Decimal:
    """Return what came back of the goods' price, in shop currency: lines and goodwill, no shipping or tax.

    Never more than the subtotal: goodwill beyond that gives back shipping or tax.
    """
    lines = total(line.subtotal for refund in order.refunds for line in refund.lines)
    goodwill = total(refund.discrepancy for refund in order.refunds)
    return min((lines + goodwill).shop, original_totals(order).subtotal.shop)


def financial_status(order: Order) -> FinancialStatus:
    """Return the order's payment state in Shopify's words."""
    taken, returned = received(order).presentment, paid_back(order).presentment
    owed = outstanding(order).presentment
    if order.cancelled_at and not taken:
        return FinancialStatus.VOIDED
    if owed > 0:
        if taken:
            return FinancialStatus.PARTIALLY_PAID
        return FinancialStatus.AUTHORIZED if order.is_authorized else FinancialStatus.PENDING
    if not returned:
        return FinancialStatus.PAID
    return FinancialStatus.REFUNDED if returned >= taken else FinancialStatus.PARTIALLY_REFUNDED


def is_paid(order: Order) -> bool:
    """Whether nothing is left to pay, whatever was refunded since."""
    return financial_status(order) in (
        FinancialStatus.PAID,
        FinancialStatus.PARTIALLY_REFUNDED,
        FinancialStatus.REFUNDED,
    )
