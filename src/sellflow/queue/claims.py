"""A worker's hold on messages: claiming them, taking them inside a transaction, parking and handing back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

import asyncpg
import orjson

from sellflow.postgres.database import Connection, Pool
from sellflow.queue.event_log import WAKE_UP_CHANNEL
from sellflow.queue.topics import Event


@dataclass(frozen=True, slots=True)
class Claim:
    """One claimed message. `read_ct` fences it: whoever claims it later raises the count."""

    msg_id: int
    read_ct: int
    day: date
    event_id: int
    shop_id: int
    failures: int


async def claim(pool: Pool, queue: str, *, visibility_timeout: int, quantity: int) -> list[Claim]:
    """Claim up to `quantity` visible messages for `visibility_timeout` seconds, eldest first."""
    rows = await pool.fetch(
        "SELECT msg_id, read_ct, message, headers FROM pgmq.read($1, $2, $3)",
        queue,
        visibility_timeout,
        quantity,
    )
    return sorted((_claim(row["msg_id"], row["read_ct"], row["message"], row["headers"]) for row in rows), key=_by_id)


def _claim(msg_id: int, read_ct: int, message: str, headers: str | None) -> Claim:
    reference = orjson.loads(message)
    return Claim(
        msg_id=msg_id,
        read_ct=read_ct,
        day=date.fromisoformat(reference["day"]),
        event_id=reference["event_id"],
        shop_id=reference["shop_id"],
        failures=orjson.loads(headers)["failures"] if headers else 0,
    )


def _by_id(each: Claim) -> int:
    return each.msg_id


async def take(connection: Connection, queue: str, claims: Sequence[Claim]) -> list[tuple[Claim, Event]]:
    """Acknowledge the claims that are still ours and return them with their events.

    The first statement of a consumer's transaction. pgmq deletes by id alone, so a worker whose visibility
    timeout ran out could acknowledge what another holds by now; the read count in the condition prevents it.
    Rows are locked in id order, so two workers with overlapping claims wait for each other instead of deadlocking.
    """
    rows = await connection.fetch(
        f"""
        WITH held AS (
            SELECT q.msg_id
            FROM pgmq."q_{queue}" q
            JOIN unnest($1::bigint[], $2::integer[]) AS c (msg_id, read_ct) USING (msg_id, read_ct)
            ORDER BY q.msg_id
            FOR UPDATE OF q
        ), taken AS (
            DELETE FROM pgmq."q_{queue}" q USING held WHERE q.msg_id = held.msg_id RETURNING q.msg_id
        )
        SELECT t.msg_id, e.topic, e.key, e.payload, e.received_at
        FROM taken t
        JOIN unnest($1::bigint[], $3::date[], $4::bigint[]) AS c (msg_id, day, event_id) USING (msg_id)
        LEFT JOIN events e ON e.day = c.day AND e.event_id = c.event_id
        """,
        [each.msg_id for each in claims],
        [each.read_ct for each in claims],
        [each.day for each in claims],
        [each.event_id for each in claims],
    )
    by_id = {each.msg_id: each for each in claims}
    return [
        (by_id[row["msg_id"]], _event(by_id[row["msg_id"]], row)) for row in sorted(rows, key=lambda r: r["msg_id"])
    ]


def _event(held: Claim, row: asyncpg.Record) -> Event:
    """Return the event of a claim; one that is gone from the log has no topic."""
    return Event(
        day=held.day,
        event_id=held.event_id,
        shop_id=held.shop_id,
        topic=row["topic"] or "",
        key=row["key"] or "",
        payload=row["payload"] or b"",
        received_at=row["received_at"] or datetime.combine(held.day, time.min, UTC),
    )


async def unpark(pool: Pool, queue: str, *, quantity: int) -> int:
    """Move parked messages whose time has come back into their queue; return how many."""
    moved = await pool.fetchval(
        """
        WITH due AS (
            DELETE FROM parked_messages
            WHERE parked_id IN (
                SELECT parked_id FROM parked_messages
                WHERE queue = $1 AND due_at <= clock_timestamp()
                ORDER BY due_at LIMIT $2
                FOR UPDATE SKIP LOCKED
            )
            RETURNING message, failures
        ), gathered AS (
            SELECT array_agg(message) AS messages, array_agg(jsonb_build_object('failures', failures)) AS headers
            FROM due HAVING count(*) > 0
        )
        SELECT count(*) FROM gathered g, LATERAL pgmq.send_batch($1, g.messages, g.headers) sent
        """,
        queue,
        quantity,
    )
    return int(moved)


async def hand_back(pool: Pool, queue: str, claims: Sequence[Claim]) -> None:
    """Make claims visible again at once, those that are still ours: their work was given up, not failed.

    The read is taken back with the claim, since reads without an outcome tell of workers that died. Whoever held the
    message before under the lowered count may take it while nobody else holds it; nobody can who gave it up.
    """
    await pool.execute(
        f"""
        WITH held AS (
            SELECT q.msg_id FROM pgmq."q_{queue}" q
            JOIN unnest($1::bigint[], $2::integer[]) AS c (msg_id, read_ct) USING (msg_id, read_ct)
            ORDER BY q.msg_id
            FOR UPDATE OF q SKIP LOCKED
        ), freed AS (
            UPDATE pgmq."q_{queue}" q SET vt = clock_timestamp(), read_ct = read_ct - 1
            FROM held WHERE q.msg_id = held.msg_id
        )
        SELECT pg_notify($3, $4)
        """,
        [each.msg_id for each in claims],
        [each.read_ct for each in claims],
        WAKE_UP_CHANNEL,
        queue,
    )
