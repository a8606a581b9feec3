"""What happened to the events about one thing, such as an order: the SQL behind `sellflow explain`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sellflow.postgres.database import SessionConnection


@dataclass(frozen=True)
class ToldEvent:
    """An event, and what each queue did with it."""

    event_id: int
    topic: str
    webhook_id: str | None
    received_at: datetime
    shop_id: int | None
    shop_domain: str
    queue: str | None
    outcome: str | None
    handler: str | None
    detail: str | None
    attempts: int | None
    handled_at: datetime | None


@dataclass(frozen=True)
class ToldAttempt:
    """A failed attempt at an event."""

    event_id: int
    queue: str
    attempt: int
    error_class: str
    error_message: str
    failed_at: datetime
    retry_at: datetime | None


@dataclass(frozen=True)
class ToldMessage:
    """A message about an event that is still on its way."""

    event_id: int
    queue: str
    state: str
    due_at: datetime


@dataclass(frozen=True)
class ToldLetter:
    """A dead letter: an event that a queue set aside after its last attempt, and what somebody decided."""

    dead_letter_id: int
    event_id: int
    queue: str
    state: str
    attempts: int
    error_message: str
    failed_at: datetime
    replays: int
    blocks_key: bool
    resolved_at: datetime | None
    resolved_by: str
    reason: str


async def events_about(connection: SessionConnection, shop_id: int | None, key: str) -> list[ToldEvent]:
    """Return the events about `key` in the order they arrived, those of shops not yet known among them."""
    rows = await connection.fetch(
        """
        SELECT e.event_id, e.topic, e.webhook_id, e.received_at, e.shop_id, e.shop_domain,
               o.queue, o.outcome, o.handler, o.detail, o.attempts, o.handled_at
        FROM events e LEFT JOIN outcomes o ON o.day = e.day AND o.event_id = e.event_id
        WHERE e.key = $2 AND e.key <> '' AND ($1::bigint IS NULL OR e.shop_id = $1 OR e.shop_id IS NULL)
        ORDER BY e.received_at, e.event_id
        """,
        shop_id,
        key,
    )
    return [ToldEvent(**row) for row in rows]


async def attempts_at(connection: SessionConnection, event_ids: list[int]) -> list[ToldAttempt]:
    """Return the failed attempts at events."""
    rows = await connection.fetch(
        """
        SELECT event_id, queue, attempt, error_class, error_message, failed_at, retry_at
        FROM failed_attempts WHERE event_id = ANY ($1::bigint[])
        ORDER BY event_id, attempt
        """,
        event_ids,
    )
    return [ToldAttempt(**row) for row in rows]


async def letters_about(connection: SessionConnection, shop_id: int | None, key: str) -> list[ToldLetter]:
    """Return the dead letters about `key`, in the order in which they first failed."""
    rows = await connection.fetch(
        """
        SELECT d.dead_letter_id, d.event_id, d.queue, d.state, d.attempts, d.error_message, d.failed_at, d.replays,
               d.blocks_key, d.resolved_at, d.resolved_by, d.reason
        FROM events e JOIN dead_letters d ON d.shop_id = e.shop_id AND d.day = e.day AND d.event_id = e.event_id
        WHERE e.key = $2 AND e.key <> '' AND ($1::bigint IS NULL OR e.shop_id = $1)
        ORDER BY d.dead_letter_id
        """,
        shop_id,
        key,
    )
    return [ToldLetter(**row) for row in rows]


async def messages_of(connection: SessionConnection, event_ids: list[int]) -> list[ToldMessage]:
    """Return the messages of events that are waiting, claimed or parked; reads through the queues."""
    rows = await connection.fetch(
        """
        SELECT (message ->> 'event_id')::bigint AS event_id, queue,
               CASE WHEN due_at IS NULL THEN 'waits behind an elder message' ELSE 'waits for its next attempt' END
                   AS state,
               COALESCE(due_at, parked_at) AS due_at
        FROM parked_messages WHERE (message ->> 'event_id')::bigint = ANY ($1::bigint[])
        """,
        event_ids,
    )
    found = [ToldMessage(**row) for row in rows]
    for queue in await connection.fetch("SELECT queue_name FROM pgmq.meta ORDER BY queue_name"):
        rows = await connection.fetch(
            f"""
            SELECT (message ->> 'event_id')::bigint AS event_id, $2::text AS queue,
                   CASE WHEN vt > clock_timestamp() THEN 'is held by a worker' ELSE 'waits for a worker' END AS state,
                   vt AS due_at
            FROM pgmq."q_{queue["queue_name"]}" WHERE (message ->> 'event_id')::bigint = ANY ($1::bigint[])
            """,
            event_ids,
            queue["queue_name"],
        )
        found += [ToldMessage(**row) for row in rows]
    return found
