"""Reads Shopify's REST order and refund resources; whatever is malformed or absurd is refused here.

Field lists: https://shopify.dev/docs/api/admin-rest/latest/resources/order and …/refund.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sellflow.errors import InvalidPayloadError
from sellflow.loyalty.models import Order, OrderLine, OrderNews, Refund, RefundLine
from sellflow.queue import Event
from sellflow.queue.payloads import read_json

#: More than any order is worth in any currency; beyond it an amount is a fault, and points would not be exact.
LARGEST_AMOUNT = Decimal(10_000_000_000)
CENT_OF_A_CENT = Decimal("0.0001")

#: How far an order has come, for two snapshots of one second.
STATUS_ORDER = ("pending", "authorized", "partially_paid", "paid", "partially_refunded", "refunded", "voided")


def _utc(moment: datetime) -> datetime:
    """Return the moment in UTC; Shopify always sends an offset, and a missing one is read as UTC."""
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("outside the calendar") from None


Moment = Annotated[datetime, AfterValidator(_utc)]
#: Strings in most fields and JSON numbers in a few; pydantic keeps the decimal digits of either.
Signed = Annotated[Decimal, Field(ge=-LARGEST_AMOUNT, le=LARGEST_AMOUNT, allow_inf_nan=False)]
Amount = Annotated[Decimal, Field(ge=0, le=LARGEST_AMOUNT, allow_inf_nan=False)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Identity = Annotated[int, Field(gt=0, lt=2**63, strict=True)]
#: Postgres holds any text but one with a NUL, which JSON can spell.
Text = Annotated[str, Field(max_length=255, pattern=r"^[^\x00]*$")]
Quantity = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]


class _Payload(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Money(_Payload):
    amount: Amount
    currency_code: Currency


class _MoneySet(_Payload):
    shop_money: _Money
    presentment_money: _Money | None = None


class _SignedMoney(_Payload):
    amount: Signed


class _SignedMoneySet(_Payload):
    shop_money: _SignedMoney


class _DiscountAllocation(_Payload):
    amount: Amount
    amount_set: _MoneySet | None = None


class _LineItem(_Payload):
    id: Identity
    product_id: Identity | None = None
    variant_id: Identity | None = None
    quantity: Quantity
    price: Amount
    price_set: _MoneySet | None = None
    discount_allocations: tuple[_DiscountAllocation, ...] | None = None


class _RefundLineItem(_Payload):
    line_item_id: Identity
    quantity: Quantity
    subtotal: Amount | None = None
    subtotal_set: _MoneySet | None = None


class _OrderAdjustment(_Payload):
    kind: str
    amount: Signed
    amount_set: _SignedMoneySet | None = None


class _Transaction(_Payload):
    kind: str
    status: str
    amount: Amount
    currency: Currency | None = None


class _RefundResource(_Payload):
    id: Identity
    order_id: Identity
    created_at: Moment | None = None
    refund_line_items: tuple[_RefundLineItem, ...] | None = None
    order_adjustments: tuple[_OrderAdjustment, ...] | None = None
    transactions: tuple[_Transaction, ...] | None = None


class _Customer(_Payload):
    id: Identity


class _OrderResource(_Payload):
    """An order. A subscription may leave fields out (`include_fields`): what can be worked out is not required."""

    id: Identity
    name: Text = ""
    customer: _Customer | None = None
    currency: Currency
    presentment_currency: Currency | None = None
    subtotal_price: Amount | None = None
    total_price: Amount | None = None
    total_tax: Amount = Decimal(0)
    total_shipping_price_set: _MoneySet | None = None
    taxes_included: bool = False
    subtotal_price_set: _MoneySet | None = None
    financial_status: Text | None = None
    created_at: Moment | None = None
    updated_at: Moment | None = None
    cancelled_at: Moment | None = None
    line_items: tuple[_LineItem, ...] | None = None
    refunds: tuple[_RefundResource, ...] | None = None


class _OrderEdit(_Payload):
    order_id: Identity


class _OrderEdited(_Payload):
    order_edit: _OrderEdit


#: The fields that are read here, all of which are figures, times and ids of goods: what stays of an erased order.
FIELDS = frozenset(
    name
    for model in (
        *(_Money, _MoneySet, _DiscountAllocation, _LineItem, _RefundLineItem, _OrderAdjustment, _Transaction),
        *(_RefundResource, _OrderResource, _OrderEdit, _OrderEdited),
    )
    for name in model.model_fields
) - {"customer"}


def parse_news(event: Event) -> OrderNews:
    """Return what a webhook says of its order.

    Raises
    ------
    InvalidPayloadError
        If the payload is no such resource, naming the fields at fault.
    """
    if event.topic == "shopify.refunds.create":
        refund = _refund(read_json(_RefundResource, event), event)
        return OrderNews(refund.order_id, None, (refund,))
    if event.topic == "shopify.orders.edited":
        # Says which lines changed but not what they cost; the orders/updated that goes with it does.
        return OrderNews(read_json(_OrderEdited, event).order_edit.order_id, None, ())
    resource = read_json(_OrderResource, event)
    order = _order(resource, event)
    refunds = tuple(_refund(each, event) for each in resource.refunds or () if each.order_id == resource.id)
    return OrderNews(order.order_id, order, refunds)


def _order(resource: _OrderResource, event: Event) -> Order:
    shop = resource.subtotal_price_set.shop_money if resource.subtotal_price_set else None
    presentment = resource.subtotal_price_set.presentment_money if resource.subtotal_price_set else None
    currency = shop.currency_code if shop else resource.currency
    subtotal = shop.amount if shop else _subtotal(resource)
    revised_at = resource.updated_at or resource.created_at or event.received_at
    return Order(
        order_id=resource.id,
        name=resource.name,
        customer_id=resource.customer.id if resource.customer else None,
        currency=currency,
        presentment_currency=presentment.currency_code if presentment else currency,
        subtotal=_rounded(subtotal),
        presentment_subtotal=_rounded(presentment.amount if presentment else subtotal),
        financial_status=resource.financial_status or "pending",
        ordered_at=resource.created_at or revised_at,
        cancelled_at=resource.cancelled_at,
        revised_at=revised_at,
        revision_rank=_revision_rank(resource, subtotal, sha256(event.payload).hexdigest()),
        lines=tuple({line.id: _line(line) for line in resource.line_items or ()}.values()),
    )


def _subtotal(resource: _OrderResource) -> Decimal:
    """Return what the items cost after discounts; worked out where the payload leaves the field out."""
    if resource.subtotal_price is not None:
        return resource.subtotal_price
    if resource.line_items:
        lines = [_line(line) for line in resource.line_items]
        total = sum((line.price * line.quantity - line.discount for line in lines), Decimal(0))
        if total > LARGEST_AMOUNT:
            raise InvalidPayloadError(f"the order's lines add up to {total}: more than any order is worth")
        return max(total, Decimal(0))
    if resource.total_price is None:
        raise InvalidPayloadError("the order has neither subtotal_price nor line_items nor total_price")
    shipping = resource.total_shipping_price_set.shop_money.amount if resource.total_shipping_price_set else Decimal(0)
    tax = Decimal(0) if resource.taxes_included else resource.total_tax
    return max(resource.total_price - shipping - tax, Decimal(0))


def _revision_rank(resource: _OrderResource, subtotal: Decimal, digest: str) -> str:
    """Rank snapshots of one second: Shopify's updated_at is no finer, and an order changes several times in one.

    Everything here only ever grows in the life of an order: an edit adds lines (what it removes is a refund), and
    for given lines the payment goes forward. The content comes last, so that any two snapshots have an order.
    """
    status = resource.financial_status or "pending"
    progress = STATUS_ORDER.index(status) if status in STATUS_ORDER else 0
    cancelled = int(resource.cancelled_at is not None)
    pieces = sum(line.quantity for line in resource.line_items or ())
    return f"{cancelled}{pieces:07d}{subtotal:016.4f}{len(resource.refunds or ()):05d}{progress}{digest[:16]}"


def _line(line: _LineItem) -> OrderLine:
    allocations = (
        each.amount_set.shop_money.amount if each.amount_set else each.amount
        for each in line.discount_allocations or ()
    )
    return OrderLine(
        line_id=line.id,
        product_id=line.product_id,
        variant_id=line.variant_id,
        quantity=line.quantity,
        price=_rounded(line.price_set.shop_money.amount if line.price_set else line.price),
        discount=_rounded(sum(allocations, Decimal(0))),
    )


def _refund(resource: _RefundResource, event: Event) -> Refund:
    lines: dict[int, RefundLine] = {}
    for item in resource.refund_line_items or ():
        subtotal = item.subtotal_set.shop_money.amount if item.subtotal_set else item.subtotal
        if subtotal is None:
            raise InvalidPayloadError(f"line {item.line_item_id} of refund {resource.id} has no subtotal")
        before = lines.get(item.line_item_id, RefundLine(item.line_item_id, 0, Decimal(0)))
        lines[item.line_item_id] = RefundLine(
            item.line_item_id, before.quantity + item.quantity, before.subtotal + _rounded(subtotal)
        )
    amount, currency = _refunded_for_items(resource, tuple(lines.values()))
    return Refund(
        refund_id=resource.id,
        order_id=resource.order_id,
        amount=_rounded(amount),
        currency=currency,
        refunded_at=resource.created_at or event.received_at,
        lines=tuple(lines.values()),
    )


def _refunded_for_items(resource: _RefundResource, lines: tuple[RefundLine, ...]) -> tuple[Decimal, str | None]:
    """Return what was given back for items, and its currency (None: the shop's).

    Shopify describes a refund by lines and by adjustments: a `refund_discrepancy` is negative where more was given
    back than the lines cost (goodwill) and positive where less was (a restocking fee); a `shipping_refund` is none
    of our business. A refund with neither is described by its transactions alone.
    """
    if lines or resource.order_adjustments:
        discrepancies = (
            each.amount_set.shop_money.amount if each.amount_set else each.amount
            for each in resource.order_adjustments or ()
            if each.kind == "refund_discrepancy"
        )
        amount = sum((line.subtotal for line in lines), Decimal(0)) - sum(discrepancies, Decimal(0))
        return max(amount, Decimal(0)), None
    paid_back = [
        each for each in resource.transactions or () if each.kind == "refund" and each.status in ("success", "pending")
    ]
    currencies = {each.currency for each in paid_back}
    amount = sum((each.amount for each in paid_back), Decimal(0))
    return amount, currencies.pop() if len(currencies) == 1 else None


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(CENT_OF_A_CENT)
