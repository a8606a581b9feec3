"""Invented histories of orders: what Shopify would send of them, and by plain arithmetic what they are worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from hypothesis import strategies as st

from tests.loyalty.orders import Payload, at, cents, order, refund

#: A topic as Shopify writes it, and the resource it carries.
News = tuple[str, Payload]
#: Points for each 1.00, by the number of the shop.
RATES = (Fraction(1), Fraction(5, 2))


@dataclass(frozen=True)
class Change:
    """Something that happens to an order, in the same second as what happened before it or in the next."""

    kind: Literal["pay", "edit", "refund", "cancel", "name"]
    amount: int = 0
    is_later: bool = True


@dataclass(frozen=True)
class OrderStory:
    """An order of one of two shops, from checkout on. Its customer may be named by a later change only."""

    shop: int
    order_id: int
    customer: int
    amount: int
    is_guest: bool
    changes: tuple[Change, ...]


@dataclass
class _Life:
    """An order while its story is told; amounts in cents."""

    story: OrderStory
    amount: int
    customer: int | None
    second: int = 0
    is_paid: bool = False
    cancelled_at: int | None = None
    lines: int = 1
    refunds: list[Payload] = field(default_factory=list)
    refunded: int = 0

    def status(self) -> str:
        if not self.is_paid:
            return "pending"
        if not self.refunded:
            return "paid"
        return "refunded" if self.refunded == self.amount else "partially_refunded"

    def snapshot(self) -> Payload:
        order_id = self.story.order_id
        return order(
            order_id,
            subtotal=cents(self.amount),
            customer=self.customer,
            financial_status=self.status(),
            updated_at=at(self.second),
            cancelled_at=None if self.cancelled_at is None else at(self.cancelled_at),
            line_items=[
                {"id": order_id * 10 + line, "quantity": 1, "price": cents(self.amount)} for line in range(self.lines)
            ],
            refunds=list(self.refunds),
        )

    def tell(self, change: Change) -> list[News]:
        """Let a change happen, if it can, and return what is sent of it."""
        self.second += change.is_later
        if change.kind == "pay" and not self.is_paid:
            self.is_paid = True
            return self._sent("orders/paid")
        if change.kind == "edit" and self.cancelled_at is None:
            self.amount += change.amount
            self.lines += 1
            edit = {"order_edit": {"id": self.lines, "order_id": self.story.order_id}}
            return [("orders/edited", edit), *self._sent()]
        if change.kind == "refund" and self.is_paid and self.refunded < self.amount:
            return self._give_back(min(change.amount, self.amount - self.refunded))
        if change.kind == "cancel" and self.cancelled_at is None:
            self.cancelled_at = self.second
            return self._sent("orders/cancelled")
        if change.kind == "name" and self.customer is None:
            self.customer = self.story.customer
            self.second += 1  # a name is no growth of the order: two snapshots of a second would not tell
            return self._sent()
        return []

    def _give_back(self, amount: int) -> list[News]:
        self.refunded += amount
        number = self.story.order_id * 100 + len(self.refunds)
        self.refunds.append(refund(number, self.story.order_id, amount=cents(amount)))
        return [("refunds/create", self.refunds[-1]), *self._sent()]

    def _sent(self, topic: str | None = None) -> list[News]:
        """Return a snapshot under `topic`, and again as the update that Shopify sends of every change."""
        return [(each, self.snapshot()) for each in (topic, "orders/updated") if each]


def told(story: OrderStory) -> tuple[list[News], int]:
    """Return everything that is sent of an order, in its order, and the points that it is worth in the end."""
    life = _Life(story, story.amount, None if story.is_guest else story.customer)
    news: list[News] = [("orders/create", life.snapshot())]
    for change in story.changes:
        news += life.tell(change)
    if life.customer is None or not life.is_paid or life.cancelled_at is not None:
        return news, 0
    earned = Fraction(life.amount, 100) * RATES[story.shop] // 1
    return news, int(earned - min(earned, Fraction(life.refunded, 100) * RATES[story.shop] // 1))


def worth(stories: Sequence[OrderStory]) -> Counter[tuple[int, int, int]]:
    """Return the points that there should be in the end, by shop, order and customer."""
    return Counter({(each.shop, each.order_id, each.customer): told(each)[1] for each in stories})


_changes = st.builds(
    Change,
    st.sampled_from(["pay", "pay", "edit", "refund", "refund", "cancel", "name"]),
    st.integers(1, 9999),
    st.booleans(),
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[OrderStory, ...]:
    """One to four orders of two customers and two shops; most of them are paid for at once."""
    return tuple(
        OrderStory(
            shop=draw(st.sampled_from([0, 0, 1])),
            order_id=1001 + number,
            customer=draw(st.sampled_from([1, 1, 2])),
            amount=draw(st.integers(1, 9999)),
            is_guest=draw(st.integers(0, 4)) == 4,
            changes=(Change("pay"),) * draw(st.integers(0, 1)) + tuple(draw(st.lists(_changes, max_size=5))),
        )
        for number in range(draw(st.integers(1, 4)))
    )
