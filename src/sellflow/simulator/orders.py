"""What can happen to an order. Each function returns the order's next state; nothing is changed in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sellflow.simulator.errors import RefusedError
from sellflow.simulator.ids import Ids
from sellflow.simulator.models import (
    Address,
    Customer,
    Discount,
    Edit,
    Line,
    Order,
    Product,
    Shop,
    Transaction,
    Variant,
)
from sellflow.simulator.money import Exchange
from sellflow.simulator.totals import outstanding


@dataclass(frozen=True, slots=True)
class Pick:
    """What goes into a basket: pieces of a variant, with amounts of shop currency for all of them.

    `price` is for one piece and defaults to the variant's; `discount` is for all pieces together.
    """

    product: Product
    variant: Variant
    quantity: int = 1
    price: Decimal | None = None
    discount: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Basket:
    """What a buyer is about to order; `shipping` is in shop currency."""

    picks: tuple[Pick, ...]
    shipping: Decimal
    email: str
    address: Address
    discount: Discount | None = None


def place_order(
    shop: Shop,
    basket: Basket,
    *,
    number: int,
    token: UUID,
    exchange: Exchange,
    customer: Customer | None,
    ids: Ids,
    now: datetime,
) -> Order:
    """Return a new, unpaid order.

    Raises
    ------
    RefusedError
        If the basket is empty, or a discount exceeds its line.
    """
    if not basket.picks:
        raise RefusedError("an order needs at least one line")
    return Order(
        id=ids(),
        number=number,
        token=token.hex,
        shop_id=shop.id,
        domain=shop.domain,
        market=shop.market,
        exchange=exchange,
        customer=customer,
        email=basket.email,
        address=basket.address,
        lines=tuple(_line(pick, exchange, ids, basket.discount) for pick in basket.picks),
        shipping_id=ids(),
        shipping=exchange.convert(basket.shipping),
        discount=basket.discount or _manual_discount(basket.picks),
        created_at=now,
        updated_at=now,
    )


def _line(pick: Pick, exchange: Exchange, ids: Ids, discount: Discount | None) -> Line:
    if pick.quantity < 1:
        raise RefusedError("a line needs a quantity of at least 1")
    price = exchange.convert(pick.variant.price if pick.price is None else pick.price)
    gross = price.times(pick.quantity)
    if pick.discount > gross.shop:
        raise RefusedError(f"a discount of {pick.discount} exceeds its line's {gross.shop}")
    reduction = exchange.convert(pick.discount).at_most(gross)
    if discount is not None:
        reduction = exchange.scaled(gross, discount.value / 100)
    return Line(ids(), pick.product, pick.variant, pick.quantity, price, reduction)


def _manual_discount(picks: Sequence[Pick]) -> Discount | None:
    """Return what a merchant took off by hand, if anything."""
    amount = sum((pick.discount for pick in picks), Decimal(0))
    return Discount("Manual discount", amount, "fixed_amount") if amount else None


def pay(order: Order, *, ids: Ids, now: datetime) -> Order:
    """Take what is outstanding.

    Raises
    ------
    RefusedError
        If the order is cancelled or nothing is owed.
    """
    _require_open(order)
    owed = outstanding(order)
    if owed.presentment <= 0:
        raise RefusedError(f"order {order.name} owes nothing")
    payment = Transaction(ids(), "sale", owed, now)
    return replace(order, transactions=(*order.transactions, payment), updated_at=now)


def attach_customer(order: Order, customer: Customer, *, now: datetime) -> Order:
    """Give an order its customer, as happens some time after an express checkout.

    Raises
    ------
    RefusedError
        If the order has one already.
    """
    if order.customer is not None:
        raise RefusedError(f"order {order.name} already belongs to customer {order.customer.id}")
    return replace(order, customer=customer, updated_at=now)


def cancel(order: Order, *, reason: str, now: datetime) -> Order:
    """Cancel an order; money is given back by a refund of its own.

    Raises
    ------
    RefusedError
        If it is cancelled already.
    """
    _require_open(order)
    return replace(order, cancelled_at=now, cancel_reason=reason, updated_at=now)


def add_lines(order: Order, picks: Sequence[Pick], *, ids: Ids, now: datetime) -> Order:
    """Add lines by an order edit; they are owed until the order is paid again."""
    _require_open(order)
    added = tuple(_line(pick, order.exchange, ids, None) for pick in picks)
    if any(line.discount.shop for line in added):
        raise RefusedError("lines added by an edit take no discount")
    return replace(order, lines=order.lines + added, updated_at=now)


def note_edit(order: Order, *, added: Mapping[int, int], removed: Mapping[int, int], ids: Ids, now: datetime) -> Order:
    """Record an edit: quantities by line id. The change itself is `add_lines` and `refunds.remove_lines`."""
    edit = Edit(ids(), now, tuple(added.items()), tuple(removed.items()))
    return replace(order, edits=(*order.edits, edit), updated_at=now)


def _require_open(order: Order) -> None:
    if order.cancelled_at is not None:
        raise RefusedError(f"order {order.name} is cancelled")
