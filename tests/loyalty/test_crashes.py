"""A worker that dies between any two statements leaves a ledger that ends the same."""

from __future__ import annotations

import asyncio
import random
from itertools import count

import pytest

from sellflow.postgres.database import UNAVAILABLE, Database
from tests.conftest import Tenant
from tests.edge.serving import with_settings
from tests.loyalty.conftest import News, Store
from tests.loyalty.orders import order, refund
from tests.queue.consuming import let_claims_expire, make_consumer
from tests.queue.mortality import Fate, When, mortal_pool


def story(order_id: int, customer: int) -> list[News]:
    """News of one order, some of it told twice and out of order."""
    back = refund(order_id, order_id, amount="10.00")
    return [
        ("refunds/create", back),
        ("orders/paid", order(order_id, customer=customer)),
        ("orders/updated", order(order_id, customer=customer, refunds=[back])),
        ("orders/paid", order(order_id, customer=customer)),
    ]


async def recover(store: Store) -> None:
    """Let the dead worker's claims run out, and work on with a new one."""
    await let_claims_expire(store.owner, "loyalty")
    await store.owner.execute("UPDATE parked_messages SET due_at = clock_timestamp()")
    await store.work()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_worker_that_dies_at_any_statement_changes_nothing_in_the_end(
    store: Store, tenant: Tenant, database: Database, when: When
) -> None:
    for statement in count(1):
        order_id, customer = 1000 + statement, 1 + statement
        await store.receive(tenant, *story(order_id, customer))
        fate = Fate(statement, when)
        async with mortal_pool(database, fate) as pool:
            consumer = make_consumer(database, pool, store.registry, "loyalty")
            try:
                while await consumer.run_once():
                    pass
            except UNAVAILABLE:
                assert fate.is_dead
        await recover(store)
        assert sum(points for *_, points in await store.postings(order_id)) == 15, (statement, fate)
        assert await store.balance(tenant, customer) == 15
        if not fate.is_dead:
            break
    assert statement > 10, "fewer statements than a batch is known to have"
    assert await store.letters() == []
    await store.check_books()


@pytest.mark.parametrize("seed", range(2))
async def test_workers_that_die_at_random_beside_each_other_change_nothing_in_the_end(
    store: Store, tenant: Tenant, database: Database, seed: int
) -> None:
    rng = random.Random(seed)
    patient = with_settings(database, worker_batch_size=9, retry_attempts=1000)
    news = [each for number in range(20) for each in story(2000 + number, 1 + number % 7)]
    rng.shuffle(news)
    await store.receive(tenant, *news)

    async def die_again_and_again() -> None:
        while await store.pool.fetchval("SELECT EXISTS (SELECT FROM pgmq.q_loyalty)"):
            async with mortal_pool(patient, Fate(rng.randrange(1, 60), rng.choice(["before", "after"]))) as pool:
                consumer = make_consumer(patient, pool, store.registry, "loyalty")
                try:
                    while await consumer.run_once():
                        pass
                except UNAVAILABLE:
                    continue

    async def move_time_on() -> None:
        while await store.pool.fetchval("SELECT EXISTS (SELECT FROM pgmq.q_loyalty)"):
            await asyncio.sleep(0.02)
            await let_claims_expire(store.pool, "loyalty")

    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(die_again_and_again())
        group.create_task(move_time_on())

    await recover(store)
    for number in range(20):
        assert sum(points for *_, points in await store.postings(2000 + number)) == 15
    for customer in range(1, 8):
        mine = sum(1 for number in range(20) if 1 + number % 7 == customer)
        assert await store.balance(tenant, customer) == 15 * mine
    assert await store.letters() == []
    await store.check_books()
