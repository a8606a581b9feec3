"""Consumers that a test drives by hand."""

from __future__ import annotations

from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.queue.consumer import Consumer
from sellflow.queue.registry import Registry
from sellflow.queue.wakeups import WakeUps


def make_consumer(database: Database, pool: Pool, registry: Registry, queue: str) -> Consumer:
    """A consumer of `queue` under the database's settings."""
    return Consumer(
        subscription=registry.subscriptions[queue],
        registry=registry,
        pool=pool,
        wake_ups=WakeUps(database),
        settings=database.settings,
    )


async def drain(database: Database, pool: Pool, registry: Registry, *queues: str) -> None:
    """Handle everything that waits in `queues` (all, when none is named)."""
    for queue in queues or tuple(registry.subscriptions):
        consumer = make_consumer(database, pool, registry, queue)
        while await consumer.run_once():
            pass


async def let_claims_expire(connection: SessionConnection | Pool, queue: str) -> None:
    """Move time on: no claim on a message of `queue` is valid any more.

    A message that a transaction has taken is waited for, also where its worker is gone: the server may not have
    noticed yet. Locks are taken in the order of the ids, as consumers do, so that nobody deadlocks.
    """
    await connection.execute(
        f"""
        UPDATE pgmq."q_{queue}" SET vt = clock_timestamp()
        WHERE msg_id IN (SELECT msg_id FROM pgmq."q_{queue}" ORDER BY msg_id FOR UPDATE)
        """
    )
