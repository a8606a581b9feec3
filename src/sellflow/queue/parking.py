"""Messages that left their queue for a while, and how they come back to their old place in it."""

from __future__ import annotations

from collections.abc import Sequence

from sellflow.postgres.database import Connection, Pool, SessionConnection
from sellflow.queue.claims import Claim

#: Followers that waited this long are let go, to be sure: a claim moves them out of the way again if it must.
LONGEST_WAIT = 600.0


async def park(connection: Connection, queue: str, waits: Sequence[tuple[Claim, int, float | None]]) -> None:
    """Park messages that the transaction has taken: each with its failures so far and the seconds until it is due.

    None instead of seconds: it waits behind an elder message of its key.
    """
    if not waits:
        return
    await connection.execute(
        """
        INSERT INTO parked_messages (queue, msg_id, shop_id, key, message, headers, due_at)
        SELECT $1, msg_id, shop_id, key, event_reference(day, event_id, shop_id, key),
               jsonb_build_object('failures', failures, 'replay', replay),
               clock_timestamp() + make_interval(secs => seconds)
        FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::date[], $6::bigint[], $7::integer[], $8::integer[],
                    $9::double precision[])
            AS p (msg_id, shop_id, key, day, event_id, failures, replay, seconds)
        """,
        queue,
        [each.msg_id for each, _, _ in waits],
        [each.shop_id for each, _, _ in waits],
        [each.key for each, _, _ in waits],
        [each.day for each, _, _ in waits],
        [each.event_id for each, _, _ in waits],
        [failures for _, failures, _ in waits],
        [each.replay for each, _, _ in waits],
        [seconds for _, _, seconds in waits],
    )


async def unpark(pool: Pool, queue: str, *, quantity: int) -> int:
    """Move parked messages whose time has come back to their place in the queue; return how many."""
    moved = await pool.fetchval(
        f"""
        WITH due AS (
            DELETE FROM parked_messages
            WHERE queue = $1 AND msg_id IN (
                SELECT msg_id FROM parked_messages
                WHERE queue = $1 AND due_at <= clock_timestamp()
                ORDER BY due_at LIMIT $2
                FOR UPDATE SKIP LOCKED
            )
            RETURNING msg_id, message, headers
        ), {back_into(queue, "due")}
        SELECT count(*) FROM back
        """,
        queue,
        quantity,
    )
    return int(moved)


async def release_followers(connection: Connection, queue: str, leaders: Sequence[Claim]) -> None:
    """Let go what waits behind messages that are finished, in the transaction that finishes them.

    No claim may park another follower between the look and the commit: it would wait for nobody.
    """
    await release_lines(connection, queue, [each.line for each in leaders if each.line and each.has_history])


async def release_lines(connection: Connection, queue: str, lines: Sequence[tuple[int, str]]) -> None:
    """Let go what waits behind an elder message of any of `lines` (shop, key), in the caller's transaction.

    Claims of the queue wait from here to its end. A follower let go too early is moved out of the way again by the
    next claim.
    """
    if not lines:
        return
    await connection.execute("SELECT lock_claims($1)", queue)
    await connection.execute(
        f"""
        WITH freed AS (
            DELETE FROM parked_messages p
            USING (SELECT DISTINCT * FROM unnest($2::bigint[], $3::text[]) AS l (shop_id, key)) l
            WHERE p.queue = $1 AND p.shop_id = l.shop_id AND p.key = l.key AND p.due_at IS NULL
            RETURNING p.msg_id, p.message, p.headers
        ), {back_into(queue, "freed")}
        SELECT count(*) FROM back
        """,
        queue,
        [shop_id for shop_id, _ in lines],
        [key for _, key in lines],
    )


async def release_stranded(connection: SessionConnection, queue: str, *, waited: float = LONGEST_WAIT) -> int:
    """Let go followers that wait for nobody, as the owner; return how many. Safe at any time.

    None should be found: this mends what somebody changed by hand. A follower let go too early is moved out of
    the way again by the next claim.
    """
    moved = await connection.fetchval(
        f"""
        WITH stranded AS (
            DELETE FROM parked_messages f
            WHERE f.queue = $1 AND f.due_at IS NULL AND f.parked_at < clock_timestamp() - make_interval(secs => $2)
              AND NOT EXISTS (
                SELECT FROM parked_messages e
                WHERE e.queue = $1 AND e.shop_id = f.shop_id AND e.key = f.key AND e.msg_id < f.msg_id
                  AND e.due_at IS NOT NULL
              ) AND NOT EXISTS (
                SELECT FROM dead_letters d
                WHERE d.queue = $1 AND d.shop_id = f.shop_id AND d.key = f.key AND d.msg_id < f.msg_id
                  AND d.blocks_key AND d.state = 'waiting'
              )
            RETURNING f.msg_id, f.message, f.headers
        ), {back_into(queue, "stranded")}
        SELECT count(*) FROM back
        """,
        queue,
        waited,
    )
    return int(moved)


def back_into(queue: str, rows: str) -> str:
    """Return a WITH query `back` that puts `rows` (msg_id, message, headers) where they were in the queue."""
    return f"""back AS (
        INSERT INTO pgmq."q_{queue}" (msg_id, vt, message, headers) OVERRIDING SYSTEM VALUE
        SELECT msg_id, clock_timestamp(), message, headers FROM {rows}
        ON CONFLICT DO NOTHING
        RETURNING msg_id
    )"""
