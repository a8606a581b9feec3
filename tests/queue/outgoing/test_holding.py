"""A delivery that is about to be held while its endpoint is resumed is not forgotten."""

from __future__ import annotations

import asyncio

from sellflow.postgres.database import Login
from sellflow.postgres.transactions import batch_transaction
from sellflow.queue.outgoing import endpoints, store
from sellflow.queue.outgoing.models import DeliveryState, Endpoint, NewDelivery
from tests.postgres.databases import connected
from tests.queue.outgoing.conftest import EARNED, Outgoing
from tests.queue.outgoing.receiver import PATIENCE, Receiver


async def until_somebody_waits(outgoing: Outgoing) -> None:
    """Wait until a session of this database waits for another's lock."""
    waits = """
        SELECT EXISTS (
            SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
            WHERE NOT l.granted AND a.datname = current_database()
        )
    """
    async with asyncio.timeout(PATIENCE):
        while not await outgoing.pool.fetchval(waits):
            pass


async def resume(outgoing: Outgoing, endpoint: Endpoint) -> int:
    async with connected(outgoing.database, Login.OWNER) as connection:
        return await endpoints.resume_endpoint(connection, outgoing.registry, endpoint.endpoint_id)


async def test_a_resumption_waits_for_a_fan_out_that_saw_the_endpoint_paused(
    outgoing: Outgoing, receiver: Receiver
) -> None:
    endpoint, _ = await outgoing.add(receiver.url)
    await endpoints.pause_endpoint(outgoing.owner, endpoint.endpoint_id, reason="maintenance")
    await outgoing.emit("hello")
    event = await outgoing.owner.fetchrow("SELECT day, event_id FROM events WHERE topic = $1", EARNED)
    assert event is not None
    shop_id = outgoing.tenant.shop_id
    async with outgoing.pool.acquire() as connection:
        async with batch_transaction(connection, [shop_id]):
            (listener,) = await store.listeners(connection)
            assert listener.is_paused
            resuming = asyncio.create_task(resume(outgoing, endpoint))
            await until_somebody_waits(outgoing)
            new = NewDelivery(
                endpoint_id=listener.endpoint_id,
                shop_id=shop_id,
                day=event["day"],
                event_id=event["event_id"],
                topic=EARNED,
                state=DeliveryState.HELD,
            )
            await store.add_deliveries(connection, [new])
        assert await resuming == 1
    await outgoing.deliver()
    assert await outgoing.states() == ["delivered"]


async def test_a_resumption_waits_for_a_delivery_that_is_being_held(outgoing: Outgoing, receiver: Receiver) -> None:
    endpoint, _ = await outgoing.add(receiver.url)
    await outgoing.emit("hello")
    await outgoing.deliver("outgoing")
    await endpoints.pause_endpoint(outgoing.owner, endpoint.endpoint_id, reason="maintenance")
    async with outgoing.pool.acquire() as connection:
        async with batch_transaction(connection, [outgoing.tenant.shop_id]):
            assert await store.hold(connection, [1]) == {1}
            resuming = asyncio.create_task(resume(outgoing, endpoint))
            await until_somebody_waits(outgoing)
        assert await resuming == 1
    await outgoing.deliver()
    assert await outgoing.states() == ["delivered"]


async def test_nothing_is_held_for_an_endpoint_that_was_just_resumed(outgoing: Outgoing, receiver: Receiver) -> None:
    endpoint, _ = await outgoing.add(receiver.url)
    await outgoing.emit("hello")
    await outgoing.deliver("outgoing")
    await endpoints.pause_endpoint(outgoing.owner, endpoint.endpoint_id, reason="maintenance")
    async with (
        connected(outgoing.database, Login.OWNER) as operator,
        outgoing.pool.acquire() as connection,
        batch_transaction(connection, [outgoing.tenant.shop_id]),
    ):
        async with operator.transaction():
            await endpoints.resume_endpoint(operator, outgoing.registry, endpoint.endpoint_id)
            holding = asyncio.create_task(store.hold(connection, [1]))
            await until_somebody_waits(outgoing)
        assert await holding == set()
    await outgoing.deliver()
    assert await outgoing.states() == ["delivered"]
