"""What loyalty works on: orders as Shopify last described them, earning rules, and movements of points.

What is made anew for every order is a named tuple: a frozen dataclass takes several times as long to make or replace.
"""

from __future__ import annotations

from collections.abc import Mapping
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

    #: For an order, or for something the customer did.
    EARN = "earn"
    #: What a refund, a cancellation or an edit takes back of an earn.
    CLAWBACK = "clawback"
    #: From pending to available: a movement out of the one account, and one into the other.
    RELEASE = "release"
    #: For a reward.
    REDEEM = "redeem"
    #: What a reward cost, given back.
    GIVE_BACK = "give_back"
    EXPIRE = "expire"
    #: By a person, with a reason.
    ADJUST = "adjust"
    #: From one customer to another that Shopify merged it with: a movement out of the one, and one into the other.
    MERGE = "merge"
    #: Brought along from another system.
    IMPORT = "import"
    #: What a debit took beyond what there was, where the shop's programme lets no balance fall below zero.
    FORGIVE = "forgive"


class AccountKind(StrEnum):
    """Which of a customer's accounts."""

    AVAILABLE = "customer"
    PENDING = "customer_pending"


class OnShortfall(StrEnum):
    """What becomes of a debit that is larger than what can be spent."""

    #: `InsufficientPointsError`; nothing is posted.
    REFUSE = "refuse"
    #: The rest is forgiven: the balance ends at zero.
    FORGIVE = "forgive"
    #: The balance falls below zero and what is earned later can be spent all the same.
    ALLOW = "allow"
    #: The balance falls below zero and the next earn covers it first.
    RECOVER = "recover"


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
    #: The version of the shop's programme that was in force when the order was first found paid; never changed then.
    program_version: int | None


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
    #: What it is for, such as order:450789469; with rule and revision it is unique in the shop.
    source: str
    #: The rule of the shop's programme, by its id there.
    rule: str | None
    revision: int
    #: What the points were computed from, or who moved them and why: kept for good, and shown to people.
    snapshot: Mapping[str, object]
    #: The event that caused it, where one did.
    day: date | None = None
    event_id: int | None = None
    account: AccountKind = AccountKind.AVAILABLE
    #: When what is gained ends; None is never.
    expires_at: datetime | None = None
    #: When what is gained on the pending account is released; None there is once everything was fulfilled.
    release_at: datetime | None = None
    on_shortfall: OnShortfall = OnShortfall.RECOVER
