"""The parts of an order, each with the order that gives it its currencies and its state."""

from __future__ import annotations

from dataclasses import dataclass

from sellflow.simulator.models import Line, Order, Refund, RefundedLine, Transaction


@dataclass(frozen=True, slots=True)
class LineOf:
    """A line of an order."""

    order: Order
    line: Line


@dataclass(frozen=True, slots=True)
class ShippingOf:
    """An order's shipping, which is one line."""

    order: Order


@dataclass(frozen=True, slots=True)
class DiscountOf:
    """What reduces an order's lines."""

    order: Order


@dataclass(frozen=True, slots=True)
class RefundOf:
    """A refund of an order."""

    order: Order
    refund: Refund


@dataclass(frozen=True, slots=True)
class RefundedLineOf:
    """Pieces taken back by a refund."""

    order: Order
    done: RefundedLine


@dataclass(frozen=True, slots=True)
class RefundedShippingOf:
    """Shipping given back by a refund."""

    order: Order
    refund: Refund


@dataclass(frozen=True, slots=True)
class TransactionOf:
    """Money that moved for an order; a refund's has the payment as its `parent`."""

    order: Order
    done: Transaction
    parent: Transaction | None = None
