"""What happens to an order of a run after it was placed: drawn from the seed, never more than was sold."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum, auto

from sellflow.simulator.backend import Shopify
from sellflow.simulator.catalogue import invent_address
from sellflow.simulator.models import Discount, Order, RestockType, Shop
from sellflow.simulator.money import PER_DOLLAR, exchange, rounded
from sellflow.simulator.notices import Change
from sellflow.simulator.orders import Basket, Pick
from sellflow.simulator.schemas import Mix
from sellflow.simulator.totals import current_quantity, current_totals, outstanding, refundable

CODES = (
    Discount("WELCOME10", Decimal(10)),
    Discount("SPRING15", Decimal(15)),
    Discount("VIP25", Decimal(25)),
)


class Step(Enum):
    """One thing that happens to an order."""

    ATTACH_CUSTOMER = auto()
    PAY = auto()
    EDIT = auto()
    REFUND_PART = auto()
    REFUND_SHIPPING = auto()
    GOODWILL = auto()
    REFUND_REST = auto()
    CANCEL = auto()
    CANCEL_AND_REFUND = auto()


class Storyteller:
    """Invents the orders of one shop and what befalls them; the same seed tells the same stories."""

    def __init__(self, shopify: Shopify, domain: str, mix: Mix, rng: random.Random) -> None:
        self._shopify = shopify
        self._domain = domain
        self._mix = mix
        self._rng = rng

    def place(self) -> tuple[Change, list[Step]]:
        """Place an order and return what shall happen to it, first step first."""
        mix, rng = self._mix, self._rng
        customers = self._shopify.customers(self._domain)
        guest, later, foreign, unpaid = (
            rng.random() < share for share in (mix.no_customer, mix.customer_later, mix.foreign_currency, mix.unpaid)
        )
        customer = rng.choice(customers) if customers else None
        shop = self._shopify.shop(self._domain)
        change = self._shopify.place(
            self._domain,
            basket(shop, rng),
            customer=None if guest or later else customer,
            currency=foreign_currency(shop.currency, rng) if foreign else None,
            paid=not unpaid,
        )
        begin = [Step.ATTACH_CUSTOMER] if later and not guest and customers else []
        if unpaid and rng.random() < 0.5:
            begin.append(Step.PAY)
        return change, begin + self._sequel()

    def _sequel(self) -> list[Step]:
        """Draw what happens in between, in any order, and how it ends."""
        mix, rng = self._mix, self._rng
        shares = {
            Step.EDIT: mix.edit,
            Step.REFUND_PART: mix.partial_refund,
            Step.REFUND_SHIPPING: mix.shipping_refund,
            Step.GOODWILL: mix.goodwill,
        }
        between = [step for step, share in shares.items() if rng.random() < share]
        if Step.REFUND_PART in between:
            between += [Step.REFUND_PART] * rng.randint(0, 2)
        rng.shuffle(between)
        end = [Step.REFUND_REST] if rng.random() < mix.full_refund else []
        if rng.random() < mix.cancel:
            end.append(rng.choice((Step.CANCEL, Step.CANCEL_AND_REFUND)))
        return between + end

    def perform(self, step: Step, order_id: int) -> list[Change]:
        """Let a step happen; return nothing where the order's state does not allow it any more."""
        order = self._shopify.order(order_id)
        if order.cancelled_at or (step in NEEDS_MONEY and not has_something_left(order)):
            return []
        return self._acts()[step](order)

    def _acts(self) -> Mapping[Step, Callable[[Order], list[Change]]]:
        shopify = self._shopify
        return {
            Step.ATTACH_CUSTOMER: self._attach,
            Step.PAY: self._pay,
            Step.EDIT: self._edit,
            Step.REFUND_PART: self._refund_part,
            Step.REFUND_SHIPPING: self._refund_shipping,
            Step.GOODWILL: self._goodwill,
            Step.REFUND_REST: lambda order: [shopify.refund_rest(order.id, RestockType.RETURN)],
            Step.CANCEL: lambda order: [shopify.cancel(order.id, reason="customer", refund=False)],
            Step.CANCEL_AND_REFUND: lambda order: [shopify.cancel(order.id, reason="fraud", refund=True)],
        }

    def _attach(self, order: Order) -> list[Change]:
        customer = self._rng.choice(self._shopify.customers(self._domain))
        return [self._shopify.attach(order.id, customer.id)]

    def _pay(self, order: Order) -> list[Change]:
        return [self._shopify.pay(order.id)] if outstanding(order).presentment > 0 else []

    def _edit(self, order: Order) -> list[Change]:
        """Remove a piece or add a line; what an added line costs is paid at once where the rest was paid."""
        left = [line for line in order.lines if current_quantity(order, line)]
        if left and self._rng.random() < 0.5:
            return [self._shopify.edit(order.id, add=(), remove={self._rng.choice(left).id: 1})]
        was_paid = outstanding(order).presentment <= 0
        change = self._shopify.edit(order.id, add=[any_pick(self._shopify.shop(self._domain), self._rng)], remove={})
        return [change, *(self._pay(change.order) if was_paid else [])]

    def _refund_part(self, order: Order) -> list[Change]:
        """Refund some pieces of one line, now and then of two."""
        left = [line for line in order.lines if current_quantity(order, line)]
        chosen = self._rng.sample(left, min(len(left), self._rng.choice((1, 1, 1, 2))))
        quantities = {line.id: self._rng.randint(1, current_quantity(order, line)) for line in chosen}
        restock = self._rng.choice((RestockType.RETURN, RestockType.NO_RESTOCK))
        return [self._shopify.refund_lines(order.id, quantities, restock)] if quantities else []

    def _refund_shipping(self, order: Order) -> list[Change]:
        return [self._shopify.refund_shipping(order.id)] if current_totals(order).shipping.shop > 0 else []

    def _goodwill(self, order: Order) -> list[Change]:
        """Give back up to a fifth of the money left."""
        share = Decimal(self._rng.randint(2, 20)) / 100
        amount = rounded(refundable(order).shop * share, order.exchange.shop)
        return [self._shopify.refund_amount(order.id, amount)] if amount > 0 else []


NEEDS_MONEY = frozenset(
    {Step.REFUND_PART, Step.REFUND_SHIPPING, Step.GOODWILL, Step.REFUND_REST, Step.CANCEL_AND_REFUND}
)


def has_something_left(order: Order) -> bool:
    """Whether there is money to give back, and something to give it back for."""
    return refundable(order).presentment > 0 and current_totals(order).total.presentment > 0


def basket(shop: Shop, rng: random.Random) -> Basket:
    """Return what a buyer wants: one to four lines, shipping, now and then a discount code."""
    address = invent_address(rng)
    return Basket(
        picks=tuple(any_pick(shop, rng) for _ in range(rng.choice((1, 1, 2, 2, 3, 4)))),
        shipping=shipping_price(shop.currency, rng),
        email=f"buyer{rng.randint(1, 99_999)}@example.com",
        address=address,
        discount=rng.choice(CODES) if rng.random() < 0.3 else None,
    )


def any_pick(shop: Shop, rng: random.Random) -> Pick:
    """Return one to three pieces of anything that a shop sells."""
    product = rng.choice(shop.products)
    return Pick(product, rng.choice(product.variants), rng.choice((1, 1, 1, 2, 3)))


def shipping_price(currency: str, rng: random.Random) -> Decimal:
    """Return what shipping costs in `currency`; it is free now and then."""
    dollars = rng.choice((Decimal(0), Decimal("4.90"), Decimal("6.95"), Decimal("12.50")))
    return rounded(dollars * exchange("USD", currency).rate, currency)


def foreign_currency(currency: str, rng: random.Random) -> str:
    """Return any currency but the shop's."""
    return rng.choice([code for code in PER_DOLLAR if code != currency])
