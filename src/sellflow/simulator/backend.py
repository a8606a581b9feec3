"""The simulated Shopify's memory: every shop, customer and order, and what can be done to them."""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from sellflow.errors import NotFoundError
from sellflow.simulator import notices, orders, refunds
from sellflow.simulator.catalogue import invent_customer, invent_shop
from sellflow.simulator.errors import RefusedError
from sellflow.simulator.ids import Ids
from sellflow.simulator.models import App, Customer, Order, RestockType, Shop
from sellflow.simulator.money import exchange
from sellflow.simulator.notices import Change
from sellflow.simulator.orders import Basket, Pick
from sellflow.simulator.totals import outstanding

FIRST_ORDER_NUMBER = 1001


class Shopify:
    """Shops and their orders, forgotten at the end of the process. `version` grows with each change.

    Every method that changes an order returns its new state and the webhooks that tell of it; it raises
    NotFoundError for an unknown shop, customer or order and RefusedError for what Shopify would refuse.
    """

    def __init__(self, ids: Ids | None = None) -> None:
        self.ids = ids or Ids()
        self.shops: dict[str, Shop] = {}
        self.version = 0
        self._customers: dict[str, dict[int, Customer]] = {}
        self._orders: dict[int, Order] = {}
        self._bought: dict[int, set[int]] = {}
        self._placed: dict[str, list[int]] = {}
        self._numbers: dict[str, int] = {}

    def register(self, domain: str, currency: str, app: App, *, products: int, customers: int, seed: int | str) -> Shop:
        """Return the shop, invented on the first call; later calls change its app only."""
        known = self.shops.get(domain)
        if known is None:
            rng = random.Random(seed)
            known = invent_shop(domain, currency, app, products=products, ids=self.ids, rng=rng)
            found = [invent_customer(self.ids, rng, self.now()) for _ in range(customers)]
            self._customers[domain] = {customer.id: customer for customer in found}
            self._numbers[domain] = FIRST_ORDER_NUMBER
            self._placed[domain] = []
        elif known.currency != currency:
            raise RefusedError(f"{domain} sells in {known.currency}: a shop cannot change its currency")
        self.shops[domain] = replace(known, app=app)
        return self.shops[domain]

    def now(self) -> datetime:
        """Return the present."""
        return datetime.now(UTC)

    def shop(self, domain: str) -> Shop:
        """Return a shop."""
        if domain not in self.shops:
            raise NotFoundError(f"no shop {domain}: register it with PUT /shops/{domain}")
        return self.shops[domain]

    def customers(self, domain: str) -> list[Customer]:
        """Return a shop's customers."""
        self.shop(domain)
        return list(self._customers[domain].values())

    def customer(self, domain: str, customer_id: int) -> Customer:
        """Return one customer of a shop."""
        self.shop(domain)
        if customer_id not in self._customers[domain]:
            raise NotFoundError(f"shop {domain} has no customer {customer_id}")
        return self._customers[domain][customer_id]

    def keep_customer(self, domain: str, customer: Customer) -> Customer:
        """Remember a new or changed customer."""
        self.shop(domain)
        self._customers[domain][customer.id] = customer
        self.version += 1
        return customer

    def order(self, order_id: int) -> Order:
        """Return an order."""
        if order_id not in self._orders:
            raise NotFoundError(f"no order {order_id}")
        return self._orders[order_id]

    def orders_of(self, domain: str, customer_id: int) -> list[Order]:
        """Return a customer's orders, the oldest first."""
        self.customer(domain, customer_id)
        return [self._orders[order_id] for order_id in sorted(self._bought.get(customer_id, ()))]

    def orders(self, domain: str) -> list[Order]:
        """Return a shop's orders, the oldest first."""
        self.shop(domain)
        return [self._orders[order_id] for order_id in self._placed[domain]]

    def place(
        self,
        domain: str,
        basket: Basket,
        *,
        customer: Customer | None = None,
        currency: str | None = None,
        paid: bool = True,
        authorized: bool = False,
    ) -> Change:
        """Place an order in the buyer's `currency`.

        It is `paid` at once, or else `authorized` for a later payment, or else pending.
        """
        shop, now = self.shop(domain), self.now()
        order = orders.place_order(
            shop,
            basket,
            number=self._numbers[domain],
            token=uuid.uuid4(),
            exchange=exchange(shop.currency, currency),
            customer=customer,
            ids=self.ids,
            now=now,
        )
        self._numbers[domain] += 1
        self._placed[domain].append(order.id)
        order = replace(order, is_authorized=authorized)
        if paid and outstanding(order).presentment > 0:
            order = orders.pay(order, ids=self.ids, now=now)
        return self._keep(notices.placed(order))

    def pay(self, order_id: int) -> Change:
        """Pay what an order owes."""
        return self._keep(notices.paid(orders.pay(self.order(order_id), ids=self.ids, now=self.now())))

    def attach(self, order_id: int, customer_id: int) -> Change:
        """Give an order its customer."""
        order = self.order(order_id)
        customer = self.customer(order.domain, customer_id)
        return self._keep(notices.updated(orders.attach_customer(order, customer, now=self.now())))

    def tag(self, order_id: int, tags: str) -> Change:
        """Give an order these tags, separated by commas, instead of those it has."""
        return self._keep(notices.updated(replace(self.order(order_id), tags=tags, updated_at=self.now())))

    def edit(self, order_id: int, *, add: Sequence[Pick], remove: Mapping[int, int]) -> Change:
        """Add lines and remove pieces, `remove` by line id."""
        if not add and not remove:
            raise RefusedError("an edit must add or remove something")
        before, now = self.order(order_id), self.now()
        order = orders.add_lines(before, add, ids=self.ids, now=now)
        if remove:
            order = refunds.remove_lines(order, remove, ids=self.ids, now=now)
        added = {line.id: line.quantity for line in order.lines[len(before.lines) :]}
        return self._keep(notices.edited(orders.note_edit(order, added=added, removed=remove, ids=self.ids, now=now)))

    def cancel(self, order_id: int, *, reason: str, refund: bool) -> Change:
        """Cancel an order, and with `refund` give back what is left of its money."""
        order = orders.cancel(self.order(order_id), reason=reason, now=self.now())
        if refund:
            order = refunds.refund_rest(order, restock=RestockType.CANCEL, ids=self.ids, now=self.now())
        return self._keep(notices.cancelled(order, with_refund=refund))

    def refund_lines(self, order_id: int, quantities: Mapping[int, int], restock: RestockType) -> Change:
        """Refund pieces, by line id."""
        order, now = self.order(order_id), self.now()
        return self._refunded(refunds.refund_lines(order, quantities, restock=restock, ids=self.ids, now=now))

    def refund_amount(self, order_id: int, amount: Decimal) -> Change:
        """Give back an amount of shop currency as goodwill."""
        order = self.order(order_id)
        return self._refunded(refunds.refund_amount(order, amount, ids=self.ids, now=self.now()))

    def refund_shipping(self, order_id: int) -> Change:
        """Refund the shipping."""
        return self._refunded(refunds.refund_shipping(self.order(order_id), ids=self.ids, now=self.now()))

    def refund_rest(self, order_id: int, restock: RestockType) -> Change:
        """Refund all that is left."""
        order, now = self.order(order_id), self.now()
        return self._refunded(refunds.refund_rest(order, restock=restock, ids=self.ids, now=now))

    def _refunded(self, order: Order) -> Change:
        return self._keep(notices.refunded(order))

    def _keep(self, change: Change) -> Change:
        order = change.order
        self._orders[order.id] = order
        if order.customer is not None:
            self._bought.setdefault(order.customer.id, set()).add(order.id)
        self.version += 1
        return change
