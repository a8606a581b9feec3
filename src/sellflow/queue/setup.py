"""Makes the queues that the subscriptions need, as part of `sellflow migrate`; and makes sure that they were made."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from sellflow.errors import MigrationError
from sellflow.postgres.database import Database, Login, SessionConnection
from sellflow.queue.registry import Registry

log = structlog.get_logger(__name__)


async def prepare_queues(connection: SessionConnection, registry: Registry, *, days_ahead: int) -> None:
    """Create missing queues, bindings, grants and day partitions as the owner; safe to run again.

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
            await connection.execute("CALL open_queue_to_admin($1)", subscription.queue)
            await connection.execute(
                "CALL vacuum_often(format('pgmq.%I', 'q_' || $1::text)::regclass)", subscription.queue
            )
            for pattern in subscription.bindings:
                await connection.execute("SELECT pgmq.bind_topic($1, $2)", pattern, subscription.queue)
        await connection.execute("CALL make_day_partitions($1)", days_ahead)
    await _warn_of_unserved(connection, registry)


async def check_queues(database: Database, queues: Iterable[str]) -> None:
    """Make sure that queues exist before they are served.

    Raises
    ------
    MigrationError
        If one does not, as for a service that was not named where `sellflow migrate` ran.
    """
    connection = await database.connect(Login.WORKER, purpose="check")
    try:
        known = await connection.fetch("SELECT queue_name FROM pgmq.meta")
    finally:
        await connection.close()
    missing = set(queues) - {row["queue_name"] for row in known}
    if missing:
        raise MigrationError(
            f"the database has no queue {', '.join(sorted(missing))}: run `sellflow migrate` with the same "
            "SELLFLOW_SERVICES as here"
        )


async def _warn_of_unserved(connection: SessionConnection, registry: Registry) -> None:
    """Say which queues go on filling although nobody here knows their service."""
    rows = await connection.fetch(
        """
        SELECT queue_name, array_agg(pattern ORDER BY pattern) AS patterns FROM pgmq.topic_bindings
        WHERE queue_name <> ALL ($1::text[]) GROUP BY queue_name
        """,
        list(registry.subscriptions),
    )
    for row in rows:
        log.warning(
            "queue.unserved",
            queue=row["queue_name"],
            patterns=row["patterns"],
            meaning="it goes on filling: name its service in SELLFLOW_SERVICES, or remove its bindings with "
            "SELECT pgmq.unbind_topic(pattern, queue)",
        )
