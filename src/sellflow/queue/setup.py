"""Makes the queues that the subscriptions need; part of `sellflow migrate`, safe to run again."""

from __future__ import annotations

from sellflow.postgres.database import SessionConnection
from sellflow.queue.registry import Registry


async def prepare_queues(connection: SessionConnection, registry: Registry, *, days_ahead: int) -> None:
    """Create missing queues, bindings, grants and day partitions as the owner.

    A binding that no subscription declares any more is left in place: removing it would drop events that an
    older worker, still running, counts on.
    """
    async with connection.transaction():
        # Several commands may start at once; grants and bindings made by two at a time would collide.
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('sellflow.prepare_queues'))")
        for subscription in registry.subscriptions.values():
            known = await connection.fetchval("SELECT true FROM pgmq.meta WHERE queue_name = $1", subscription.queue)
            if not known:
                await connection.execute("SELECT pgmq.create($1)", subscription.queue)
            await connection.execute("CALL prepare_queue($1)", subscription.queue)
            patterns = sorted({pattern for handler in subscription.handlers for pattern in handler.patterns})
            for pattern in patterns:
                await connection.execute("SELECT pgmq.bind_topic($1, $2)", pattern, subscription.queue)
        await connection.execute("CALL make_day_partitions($1)", days_ahead)
