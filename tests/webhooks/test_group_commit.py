"""Group commit: who shares a commit, who is shed, and what a fault costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from sellflow.errors import DatabaseUnavailableError, SellflowError
from sellflow.postgres.database import Pool, SessionConnection
from sellflow.queue.registry import Registry
from sellflow.webhooks.group_commit import GroupCommit, LateError, WaitingRoomFullError
from sellflow.webhooks.store import Delivery, DeliveryStore, RefusedByDatabaseError
from tests.conftest import Tenant
from tests.webhooks.deliveries import counts, order_body

PATIENCE = 20.0  # seconds that no test here lasts
Refused = Mapping[tuple[int, str, str], SellflowError]


def delivery(number: int, *, topic: str = "shopify.orders.paid", size: int = 2, app_id: int = 1) -> Delivery:
    return Delivery(
        app_id=app_id,
        shop_domain="acme.myshopify.com",
        webhook_id=f"w-{number}",
        topic=topic,
        key=f"order:{number}",
        triggered_at=None,
        payload=b"x" * size,
    )


class Shelf:
    """A store that waits at its gate, notes its batches, and fails when told to."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        self.batches: list[list[str]] = []
        self.failures: list[Exception] = []

    async def store(self, deliveries: Sequence[Delivery]) -> Refused:
        self.entered.set()
        await self.gate.wait()
        self.batches.append([each.webhook_id for each in deliveries])
        if self.failures:
            raise self.failures.pop(0)
        return {}

    @property
    def stored(self) -> list[str]:
        return sorted(webhook_id for batch in self.batches for webhook_id in batch)


@asynccontextmanager
async def committing(
    shelf: Shelf, *, committers: int = 1, batch_size: int = 10, max_waiting: int = 100, max_bytes: int = 10_000
) -> AsyncIterator[GroupCommit]:
    group = GroupCommit(
        shelf.store,
        committers=committers,
        batch_size=batch_size,
        max_waiting=max_waiting,
        max_bytes=max_bytes,
        deadline=PATIENCE,
    )
    group.start()
    try:
        yield group
    finally:
        shelf.gate.set()
        await group.stop()


def entering(group: GroupCommit, *deliveries: Delivery) -> list[asyncio.Future[None]]:
    return [group.commit(each) for each in deliveries]


async def in_flight(group: GroupCommit, shelf: Shelf) -> asyncio.Future[None]:
    """Let one delivery be at the gate: whatever comes now waits for the next commit."""
    (first,) = entering(group, delivery(0))
    async with asyncio.timeout(5):
        await shelf.entered.wait()
    return first


async def test_what_arrives_during_a_commit_shares_the_next_one() -> None:
    shelf = Shelf()
    async with committing(shelf) as group:
        first = await in_flight(group, shelf)
        others = entering(group, *(delivery(number) for number in range(1, 6)))
        shelf.gate.set()
        await asyncio.gather(first, *others)
    assert shelf.batches == [["w-0"], ["w-1", "w-2", "w-3", "w-4", "w-5"]]


async def test_a_commit_is_no_larger_than_its_limit() -> None:
    shelf = Shelf()
    async with committing(shelf, batch_size=2) as group:
        first = await in_flight(group, shelf)
        others = entering(group, *(delivery(number) for number in range(1, 6)))
        shelf.gate.set()
        await asyncio.gather(first, *others)
    assert [len(batch) for batch in shelf.batches] == [1, 2, 2, 1]


async def test_nobody_is_answered_before_the_commit() -> None:
    shelf = Shelf()
    async with committing(shelf) as group:
        first = await in_flight(group, shelf)
        assert not first.done()
        assert shelf.stored == []
        shelf.gate.set()
        await first
        assert shelf.stored == ["w-0"]


async def test_a_full_waiting_room_sheds_and_takes_in_again_when_it_has_emptied() -> None:
    shelf = Shelf()
    async with committing(shelf, max_waiting=3) as group:
        first = await in_flight(group, shelf)
        others = entering(group, delivery(1), delivery(2))
        with pytest.raises(WaitingRoomFullError):
            await group.commit(delivery(3))
        shelf.gate.set()
        await asyncio.gather(first, *others)
        await group.commit(delivery(4))
    assert shelf.stored == ["w-0", "w-1", "w-2", "w-4"]


async def test_the_waiting_room_is_bounded_in_bytes_too() -> None:
    shelf = Shelf()
    async with committing(shelf, max_bytes=100) as group:
        first = await in_flight(group, shelf)
        (fitting,) = entering(group, delivery(1, size=98))
        with pytest.raises(WaitingRoomFullError):
            await group.commit(delivery(2, size=1))
        shelf.gate.set()
        await asyncio.gather(first, fitting)
        await group.commit(delivery(3, size=100))
    assert shelf.stored == ["w-0", "w-1", "w-3"]


async def test_who_gave_up_before_the_commit_is_not_stored_and_leaves_the_room() -> None:
    shelf = Shelf()
    async with committing(shelf, max_waiting=2) as group:
        first = await in_flight(group, shelf)
        (impatient,) = entering(group, delivery(1))
        impatient.cancel()
        shelf.gate.set()
        await first
        await asyncio.gather(impatient, return_exceptions=True)
        await asyncio.gather(*entering(group, delivery(2), delivery(3)))
    assert shelf.stored == ["w-0", "w-2", "w-3"]


async def test_who_gives_up_during_the_commit_disturbs_nobody_else_in_it() -> None:
    shelf = Shelf()
    async with committing(shelf) as group:
        tasks = entering(group, delivery(1), delivery(2))
        async with asyncio.timeout(5):
            await shelf.entered.wait()
        tasks[0].cancel()
        shelf.gate.set()
        await tasks[1]
        await group.commit(delivery(3))
    assert shelf.stored == ["w-1", "w-2", "w-3"]


@pytest.mark.parametrize("fault", [RuntimeError("a bug"), DatabaseUnavailableError("away")])
async def test_a_store_that_raises_fails_its_batch_and_the_next_one_is_stored(fault: Exception) -> None:
    shelf = Shelf()
    shelf.failures = [fault]
    shelf.gate.set()
    async with committing(shelf) as group:
        outcomes = await asyncio.gather(*entering(group, delivery(1), delivery(2)), return_exceptions=True)
        assert [type(each) for each in outcomes] == [DatabaseUnavailableError, DatabaseUnavailableError]
        async with asyncio.timeout(5):
            await group.commit(delivery(3))


async def test_stopping_commits_what_waits_and_what_is_in_flight() -> None:
    shelf = Shelf()
    async with committing(shelf, batch_size=2) as group:
        first = await in_flight(group, shelf)
        waiting = entering(group, *(delivery(number) for number in range(1, 9)))
        stopping = asyncio.create_task(group.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
        shelf.gate.set()
        async with asyncio.timeout(5):
            await asyncio.gather(stopping, first, *waiting)
    assert shelf.stored == [f"w-{number}" for number in range(9)]


async def test_a_delivery_whose_commit_takes_too_long_is_given_up_and_the_next_one_is_stored() -> None:
    shelf = Shelf()
    group = GroupCommit(shelf.store, committers=1, batch_size=1, max_waiting=100, max_bytes=10_000, deadline=0.05)
    group.start()
    outcomes = await asyncio.gather(*entering(group, delivery(1), delivery(2)), return_exceptions=True)
    assert [type(each) for each in outcomes] == [LateError, LateError]
    shelf.gate.set()
    await group.commit(delivery(3))
    await group.stop()
    assert shelf.stored == ["w-1", "w-3"]


@pytest.fixture
async def store(ingest_pool: Pool, registry: Registry) -> DeliveryStore:
    return DeliveryStore(ingest_pool, registry)


async def test_one_delivery_that_postgres_refuses_never_fails_its_batch(
    store: DeliveryStore, owner: SessionConnection, tenant: Tenant
) -> None:
    group = GroupCommit(store.store, committers=1, batch_size=10, max_waiting=100, max_bytes=10_000, deadline=PATIENCE)
    group.start()
    bad = delivery(2, topic="shopify.orders\x00paid")
    tasks = entering(group, delivery(1), bad, delivery(3), delivery(1))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    await group.stop()
    assert [type(each) for each in outcomes] == [type(None), RefusedByDatabaseError, type(None), type(None)]
    assert await counts(owner) == (2, 2, 2)


async def test_two_processes_with_the_same_deliveries_store_each_once(
    store: DeliveryStore, ingest_pool: Pool, registry: Registry, owner: SessionConnection, tenant: Tenant
) -> None:
    other = DeliveryStore(ingest_pool, registry)
    batches = [[delivery(number) for number in range(start, start + 30)] for start in range(0, 100, 10)]
    await asyncio.gather(*(each.store(batch[::step]) for batch in batches for each, step in ((store, 1), (other, -1))))
    assert await counts(owner) == (120, 120, 120)


async def test_a_stored_payload_is_the_one_that_was_sent(
    store: DeliveryStore, owner: SessionConnection, tenant: Tenant
) -> None:
    body = bytes(range(256)) + order_body()
    await store.store([Delivery(1, "acme.myshopify.com", "w", "shopify.orders.paid", "", None, body)])
    assert await owner.fetchval("SELECT payload FROM events") == body


async def test_stopping_leaves_a_commit_behind_that_hangs_and_cannot_be_cancelled() -> None:
    released = asyncio.Event()

    async def hang(_deliveries: Sequence[Delivery]) -> Refused:
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()
        return {}

    group = GroupCommit(hang, committers=1, batch_size=10, max_waiting=100, max_bytes=10_000, deadline=0.1)
    group.start()
    future = group.commit(delivery(1))
    async with asyncio.timeout(PATIENCE):
        await group.stop()
    with pytest.raises(LateError):
        await future
    released.set()
