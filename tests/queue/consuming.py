"""Consumers that a test drives by hand."""

from __future__ import annotations

from sellflow.postgres.database import Database, Pool
from sellflow.queue.consumer import Consumer
from sellflow.queue.topics import Registry
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
