"""Orders and refunds through the database: whatever the order of arrival, the points are those of the facts."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from itertools import count, pairwise
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sellflow.loyalty.models import Rounding
from sellflow.loyalty.program_store import set_spend_rule, start_earning
from sellflow.postgres.database import Database, Login, close_pool
from tests.conftest import Tenant
from tests.loyalty.conftest import News, Store
from tests.loyalty.orders import MORNING, at, cents, order, refund

CREATED, PAID, UPDATED = "orders/create", "orders/paid", "orders/updated"

_ids = count(1_000)


@dataclass
class History:
    """What happened to one order, as the facts are and as Shopify tells them."""

    order_id: int = field(default_factory=lambda: next(_ids))
    subtotal: int = 0
    refunds: list[int] = field(default_factory=list)
    customer: int | None = None
    paid: bool = False
    cancelled: bool = False
    news: list[News] = field(default_factory=list)

    def points(self) -> int:
        """One point for each whole dollar paid, less one for each whole dollar given back: from the facts alone."""
        if not self.paid or self.cancelled:
            return 0
        return self.subtotal // 100 - min(sum(self.refunds), self.subtotal) // 100

    def tell(self, topic: str) -> None:
        """Add a snapshot of how things are now."""
        second = len(self.news) + 1
        status = "partially_refunded" if self.paid and self.refunds else "paid" if self.paid else "pending"
        snapshot = order(
            self.order_id,
            subtotal=cents(self.subtotal),
            customer=self.customer,
            financial_status=status,
            updated_at=at(second),
            cancelled_at=at(second) if self.cancelled else None,
            refunds=[self._refund(number) for number in range(len(self.refunds))],
        )
        self.news.append((topic, snapshot))

    def give_back(self, amount: int, *, inside_order: bool) -> None:
        """Refund an amount; Shopify tells of it by itself and may tell of it inside the order too."""
        self.refunds.append(amount)
        self.news.append(("refunds/create", self._refund(len(self.refunds) - 1)))
        if inside_order:
            self.tell("orders/updated")

    def edit(self, more: int) -> None:
        """Add something to the order."""
        self.subtotal += more
        self.news.append(("orders/edited", {"order_edit": {"id": next(_ids), "order_id": self.order_id}}))
        self.tell("orders/updated")

    def _refund(self, number: int) -> dict[str, object]:
        return refund(self.order_id * 100 + number, self.order_id, amount=cents(self.refunds[number]))


@st.composite
def histories(draw: st.DrawFn) -> History:
    told = History(
        subtotal=draw(st.integers(0, 20_000)),
        customer=draw(st.sampled_from([1, 2, None])),
    )
    told.tell("orders/create")
    steps = st.sampled_from(["refund", "refund", "pay", "edit", "customer", "touch", "cancel"])
    for step in (
        ["pay", *draw(st.lists(steps, max_size=6))] if draw(st.booleans()) else draw(st.lists(steps, max_size=6))
    ):
        if step == "pay" and not told.paid:
            told.paid = True
            told.tell("orders/paid")
        elif step == "edit":
            told.edit(draw(st.integers(1, 5_000)))
        elif step == "refund":
            told.give_back(draw(st.integers(0, 12_000)), inside_order=draw(st.booleans()))
        elif step == "customer":
            told.customer = draw(st.sampled_from([1, 2, 3]))
            told.tell("orders/updated")
        elif step == "cancel":
            told.cancelled = True
            told.tell("orders/cancelled")
        else:
            told.tell("orders/updated")
    return told


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    told=st.lists(histories(), min_size=1, max_size=4),
    chance=st.randoms(use_true_random=False),
    cuts=st.lists(st.floats(0, 1), max_size=3),
    batch_size=st.sampled_from([1, 3, 200]),
)
async def test_any_arrival_in_any_batches_ends_with_the_points_of_the_facts(  # noqa: PLR0917 - drawn, never called
    store: Store, tenant: Tenant, told: list[History], chance: Random, cuts: list[float], batch_size: int
) -> None:
    # The shop's customers live through all examples; each example only adds orders of its own.
    before = {customer: await store.balance(tenant, customer) for customer in (1, 2, 3)}
    news = [each for history in told for each in history.news]
    news += chance.sample(news, k=len(news) // 3)
    chance.shuffle(news)
    bounds = [0, *sorted(int(cut * len(news)) for cut in cuts), len(news)]
    for start, end in pairwise(bounds):
        await store.receive(tenant, *news[start:end])
        await store.work(batch_size=batch_size)

    expected = Counter(before)
    for history in told:
        net: Counter[int] = Counter()
        for _, customer, points in await store.postings(history.order_id):
            net[customer] += points
        facts = {history.customer: history.points()} if history.customer and history.points() else {}
        assert {customer: points for customer, points in net.items() if points} == facts
        expected.update({key: points for key, points in facts.items() if key is not None})
    for customer in (1, 2, 3):
        assert await store.balance(tenant, customer) == expected[customer]
    assert await store.letters() == []
    await store.check_books()


async def test_an_order_told_of_many_times_is_posted_once(store: Store, tenant: Tenant) -> None:
    for topic in (CREATED, PAID, UPDATED, PAID):
        await store.hear(tenant, (topic, order()))
    assert await store.postings(1001) == [("earn", 7, 25)]


async def test_a_refund_that_came_first_is_taken_off_when_its_order_comes(store: Store, tenant: Tenant) -> None:
    await store.hear(tenant, ("refunds/create", refund()))
    assert await store.postings(1001) == []
    detail = "SELECT detail FROM outcomes ORDER BY event_id DESC LIMIT 1"
    assert await store.owner.fetchval(detail) == "kept: the order itself has not arrived yet"
    await store.hear(tenant, (PAID, order()))
    assert await store.postings(1001) == [("earn", 7, 15)]


async def test_a_refund_after_the_points_were_spent_or_never_there_leaves_a_debt(store: Store, tenant: Tenant) -> None:
    await store.hear(tenant, (PAID, order(1, subtotal="10.00")))
    later = order(1, subtotal="10.00", customer=8, updated_at=at(9))
    # Nothing spends points yet: as if the customer had.
    await store.owner.execute("UPDATE lots SET remaining = 0; UPDATE accounts SET balance = 0 WHERE balance > 0")
    await store.hear(tenant, (UPDATED, later))
    assert (await store.balance(tenant, 7), await store.balance(tenant, 8)) == (-10, 10)
    await store.hear(tenant, (PAID, order(2, subtotal="4.00")))
    assert await store.balance(tenant, 7) == -6
    assert await store.owner.fetchval("SELECT remaining FROM shortfalls") == 6


async def test_what_is_taken_back_follows_the_rule_that_gave_it(store: Store, tenant: Tenant) -> None:
    await store.hear(tenant, (PAID, order(1, subtotal="100.00")))
    await set_spend_rule(store.owner, tenant.shop_id, points_per_unit=Decimal(2), rounding=Rounding.DOWN)
    await store.hear(tenant, ("refunds/create", refund(1, 1, amount="40.00")), (PAID, order(2, subtotal="100.00")))
    assert await store.postings(1) == [("earn", 7, 100), ("clawback", 7, -40)]
    assert await store.postings(2) == [("earn", 7, 200)]
    await store.hear(tenant, ("orders/edited", {"order_edit": {"id": 1, "order_id": 1}}))
    assert len(await store.postings(1)) == 2
    rates = await store.owner.fetch("SELECT snapshot ->> 'points_per_unit' AS rate FROM transfers ORDER BY transfer_id")
    assert [row["rate"] for row in rates] == ["1", "1", "2"]


async def test_orders_from_before_earning_began_bring_nothing_and_later_ones_do(store: Store, tenant: Tenant) -> None:
    await start_earning(store.owner, tenant.shop_id, MORNING + timedelta(seconds=5))
    await store.hear(tenant, (PAID, order(1, created_at=at(4))), (PAID, order(2, created_at=at(5))))
    assert await store.postings(1) == []
    assert await store.postings(2) == [("earn", 7, 25)]


async def test_an_order_that_earned_keeps_its_points_when_earning_is_said_to_begin_later(
    store: Store, tenant: Tenant
) -> None:
    await store.hear(tenant, (PAID, order(1, created_at=at(4))))
    await start_earning(store.owner, tenant.shop_id, MORNING + timedelta(seconds=5))
    await store.hear(tenant, (UPDATED, order(1, created_at=at(4), updated_at=at(9))))
    assert await store.postings(1) == [("earn", 7, 25)]


async def test_an_order_without_customer_is_kept_until_there_is_one(store: Store, tenant: Tenant) -> None:
    await store.hear(tenant, (PAID, order(customer=None)))
    assert await store.postings(1001) == []
    await store.hear(tenant, (UPDATED, order(updated_at=at(5))))
    assert await store.postings(1001) == [("earn", 7, 25)]


async def test_an_order_that_moves_to_another_customer_takes_its_points_along(store: Store, tenant: Tenant) -> None:
    await store.hear(tenant, (PAID, order()))
    await store.hear(tenant, (UPDATED, order(customer=8, updated_at=at(5))))
    assert await store.postings(1001) == [("earn", 7, 25), ("clawback", 7, -25), ("earn", 8, 25)]
    await store.hear(tenant, (PAID, order()))  # the old news once more
    assert (await store.balance(tenant, 7), await store.balance(tenant, 8)) == (0, 25)
    await store.check_books()


async def test_points_come_from_shop_money(store: Store, tenant: Tenant) -> None:
    both = {
        "shop_money": {"amount": "30.00", "currency_code": "USD"},
        "presentment_money": {"amount": "27.00", "currency_code": "EUR"},
    }
    in_euro = order(currency="USD", presentment_currency="EUR", subtotal_price="27.00", subtotal_price_set=both)
    back = refund(
        refund_line_items=[],
        transactions=[{"kind": "refund", "status": "success", "amount": "9.00", "currency": "EUR"}],
    )
    await store.hear(tenant, (PAID, in_euro), ("refunds/create", back))
    assert await store.balance(tenant, 7) == 20


async def test_an_order_of_another_shop_of_the_app_is_refused_and_gives_nobody_points(
    store: Store, tenant: Tenant, other_tenant: Tenant
) -> None:
    await store.hear(tenant, (PAID, order()))
    await store.hear(other_tenant, (PAID, order(2000)), (UPDATED, order(customer=66, updated_at=at(9))))
    letters = await store.letters()
    assert [(each["error_class"], each["error_code"]) for each in letters] == [
        ("ForeignOrderError", "loyalty.foreign_order")
    ]
    assert await store.postings(1001) == [("earn", 7, 25)]
    assert await store.balance(other_tenant, 66) == 0
    assert await store.balance(other_tenant, 7) == 25  # its own order, from the same batch
    await store.hear(other_tenant, ("refunds/create", refund()))
    assert len(await store.letters()) == 2
    assert await store.balance(tenant, 7) == 25


async def test_absurd_amounts_are_dead_letters_without_effect(store: Store, tenant: Tenant) -> None:
    await store.hear(
        tenant,
        (PAID, order(1, subtotal="-5.00")),
        (PAID, order(2, subtotal="1e30")),
        (PAID, order(3, subtotal="10.00")),
        ("refunds/create", refund(1, 3, amount="-10.00")),
    )
    assert [each["error_class"] for each in await store.letters()] == ["InvalidPayloadError"] * 3
    assert await store.balance(tenant, 7) == 10
    assert await store.owner.fetchval("SELECT count(*) FROM orders") == 1


async def test_more_points_than_can_be_counted_are_a_dead_letter(store: Store, tenant: Tenant) -> None:
    await set_spend_rule(store.owner, tenant.shop_id, points_per_unit=Decimal(10**6), rounding=Rounding.DOWN)
    await store.hear(tenant, (PAID, order(1, subtotal="9999999999.00")), (PAID, order(2, subtotal="1.00")))
    assert [each["error_code"] for each in await store.letters()] == ["loyalty.absurd_points"]
    assert await store.balance(tenant, 7) == 10**6


async def test_a_shop_without_rule_keeps_its_orders(store: Store, tenant: Tenant, other_tenant: Tenant) -> None:
    await store.owner.execute("DELETE FROM programs WHERE shop_id = $1", other_tenant.shop_id)
    await store.hear(other_tenant, (PAID, order()))
    assert await store.owner.fetchval("SELECT detail FROM outcomes") == "kept: the shop has no earning rule"
    await set_spend_rule(store.owner, other_tenant.shop_id, points_per_unit=Decimal(1), rounding=Rounding.DOWN)
    await store.hear(other_tenant, (UPDATED, order(updated_at=at(3))))
    assert await store.balance(other_tenant, 7) == 25


async def test_two_workers_on_the_same_orders_never_post_twice(
    store: Store, tenant: Tenant, database: Database
) -> None:
    random = Random(11)
    told = []
    for number in range(8):
        history = History(subtotal=5_000 + number, customer=1 + number % 2)
        history.tell("orders/create")
        history.paid = True
        history.tell("orders/paid")
        for _ in range(4):
            history.give_back(random.randrange(100, 1500), inside_order=True)
        told.append(history)
    news = [each for history in told for each in history.news] * 2
    random.shuffle(news)
    await store.receive(tenant, *news)

    pools = [await database.pool(Login.WORKER, purpose=f"test {number}", size=2) for number in (1, 2)]
    await asyncio.gather(*(store.work(batch_size=7, pool=pool) for pool in pools))
    await asyncio.gather(*(close_pool(pool) for pool in pools))

    for history in told:
        assert sum(points for *_, points in await store.postings(history.order_id)) == history.points()
    expected = {customer: sum(h.points() for h in told if h.customer == customer) for customer in (1, 2)}
    assert {customer: await store.balance(tenant, customer) for customer in (1, 2)} == expected
    assert await store.letters() == []
    assert await store.owner.fetchval("SELECT count(*) FROM failed_attempts") == 0
    await store.check_books()


async def test_every_movement_is_announced(store: Store, tenant: Tenant) -> None:
    await store.hear(tenant, (PAID, order()))
    await store.hear(tenant, ("refunds/create", refund()))
    rows = await store.owner.fetch(
        """
        SELECT topic, key, convert_from(payload, 'utf8')::jsonb ->> 'points' AS points FROM events
        WHERE topic LIKE 'loyalty.%' ORDER BY event_id
        """
    )
    assert [tuple(row) for row in rows] == [
        ("loyalty.points.earned", "customer:7", "25"),
        ("loyalty.points.clawed_back", "customer:7", "-10"),
    ]
