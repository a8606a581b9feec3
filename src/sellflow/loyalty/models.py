"""What loyalty works on: orders as Shopify last described them, earning rules, and movements of points.

What is made anew for every order is a named tuple: a frozen dataclass takes several times as long to make or replace.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

#: Statuses in which the customer has paid for the whole order.
PAID_STATUSES = frozenset({"paid", "partially_refunded", "refunded"})


class Rounding(StrEnum):
    """How points are made whole."""

    DOWN = "down"
    HALF_UP = "half_up"
    UP = "up"


class MovementKind(StrEnum):
    """Why points move."""

    EARN = "earn"
    CLAWBACK = "clawback"


class OrderLine(NamedTuple):
    """One line of an order; `price` is for one piece, `discount` for the whole line, both in shop money."""

    line_id: int
    product_id: int | None
    variant_id: int | None
    quantity: int
    price: Decimal
    discount: Decimal


@dataclass(frozen=True, slots=True)
class RefundLine:
    """What was given back for a line, in shop money."""

    line_id: int
    quantity: int
    subtotal: Decimal


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund. `amount` covers items only; it is in shop money where `currency` is None."""

    refund_id: int
    order_id: int
    amount: Decimal
    currency: str | None
    refunded_at: datetime
    lines: tuple[RefundLine, ...]


class Order(NamedTuple):
    """One snapshot of an order.

    `subtotal` is what its items cost after discounts and before returns, tax and shipping, in shop money;
    `presentment_subtotal` the same in the customer's currency. `revision_rank` breaks ties between snapshots of
    the same second, `revised_at`.
    """

    order_id: int
    name: str
    customer_id: int | None
    currency: str
    presentment_currency: str
    subtotal: Decimal
    presentment_subtotal: Decimal
    financial_status: str
    ordered_at: datetime
    cancelled_at: datetime | None
    revised_at: datetime
    revision_rank: str
    lines: tuple[OrderLine, ...]


@dataclass(frozen=True, slots=True)
class OrderNews:
    """What one event says of one order: a snapshot, refunds, both or (after an edit) nothing of its own."""

    order_id: int
    order: Order | None
    refunds: tuple[Refund, ...]


class OrderState(NamedTuple):
    """What is known of an order by now, as far as points depend on it."""

    shop_id: int
    order_id: int
    name: str
    customer_id: int | None
    customer_revised_at: datetime | None
    currency: str
    presentment_currency: str
    subtotal: Decimal
    presentment_subtotal: Decimal
    financial_status: str
    ordered_at: datetime | None
    cancelled_at: datetime | None
    #: None while the order itself has not arrived: only a refund of it has.
    revised_at: datetime | None
    revision_rank: str
    rule_id: int | None
    rule_version: int | None


@dataclass(frozen=True, slots=True)
class SpendRule:
    """One version of a shop's rule for spending: points for each 1.00 of shop money."""

    rule_id: int
    version: int
    points_per_unit: Decimal
    rounding: Rounding
    #: Orders placed before it bring nothing: the history of a shop that installs the app today. None counts them all.
    starts_at: datetime | None = None

    def counts(self, ordered_at: datetime | None) -> bool:
        """Say whether an order of that moment is one that brings points."""
        return self.starts_at is None or ordered_at is None or ordered_at >= self.starts_at


@dataclass(frozen=True, slots=True)
class Posted:
    """What the ledger holds for an order so far: net points by customer, and how many transfers made them."""

    points: dict[int, int]
    revision: int


class Movement(NamedTuple):
    """Points that a customer is to gain (positive) or give (negative)."""

    shop_id: int
    customer_id: int
    kind: MovementKind
    points: int
    source: str
    rule_id: int | None
    revision: int
    snapshot: dict[str, str | int]
    day: date
    event_id: int
