"""Pauses: work that an operator stops for a while. Claims honour them; what was claimed before is finished."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sellflow.errors import NotFoundError
from sellflow.postgres.database import Connection
from sellflow.queue.routing import WAKE_UP_CHANNEL


@dataclass(frozen=True, slots=True)
class Pause:
    """What is paused: a queue, a shop, or a shop in a queue. None is all of them."""

    queue: str | None
    shop_id: int | None
    shop_domain: str | None
    reason: str
    paused_at: datetime


async def pause(connection: Connection, *, queue: str | None, shop_id: int | None, reason: str) -> None:
    """Let nobody claim messages of a queue (None: of any), of one shop alone where one is given.

    Pausing twice replaces the reason.

    Raises
    ------
    NotFoundError
        If there is no such queue.
    """
    await _check_queue(connection, queue)
    await connection.execute(
        """
        INSERT INTO pauses (queue, shop_id, reason) VALUES ($1, $2, $3)
        ON CONFLICT (queue, shop_id) DO UPDATE SET reason = EXCLUDED.reason
        """,
        queue,
        shop_id,
        reason,
    )


async def resume(connection: Connection, *, queue: str | None, shop_id: int | None) -> bool:
    """Take back the pause of exactly this queue and shop, and wake the consumers; say whether there was one.

    Raises
    ------
    NotFoundError
        If there is no such queue.
    """
    await _check_queue(connection, queue)
    resumed = await connection.fetchval(
        """
        WITH ended AS (
            DELETE FROM pauses WHERE queue IS NOT DISTINCT FROM $1 AND shop_id IS NOT DISTINCT FROM $2
            RETURNING 1
        ), told AS MATERIALIZED (
            SELECT pg_notify($3, m.queue_name::text) FROM pgmq.meta m WHERE $1 IS NULL OR m.queue_name = $1
        )
        SELECT EXISTS (SELECT FROM ended) AND (SELECT count(*) FROM told) >= 0
        """,
        queue,
        shop_id,
        WAKE_UP_CHANNEL,
    )
    return bool(resumed)


async def list_pauses(connection: Connection) -> list[Pause]:
    """Return what is paused, the longest pause first."""
    rows = await connection.fetch(
        """
        SELECT p.queue, p.shop_id, s.domain AS shop_domain, p.reason, p.paused_at
        FROM pauses p LEFT JOIN shops s USING (shop_id)
        ORDER BY p.paused_at, p.queue, p.shop_id
        """
    )
    return [Pause(**row) for row in rows]


async def _check_queue(connection: Connection, queue: str | None) -> None:
    if queue is None:
        return
    known = [row["queue_name"] for row in await connection.fetch("SELECT queue_name FROM pgmq.meta ORDER BY 1")]
    if queue not in known:
        raise NotFoundError(f"there is no queue {queue!r} (known: {', '.join(known)})")
