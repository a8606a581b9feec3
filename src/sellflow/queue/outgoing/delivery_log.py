"""What was sent to an endpoint, and what it answered: the log behind `sellflow endpoints deliveries`."""

from __future__ import annotations

from sellflow.postgres.database import Connection
from sellflow.queue.outgoing.models import Delivery, DeliveryState, LoggedAttempt


async def list_deliveries(
    connection: Connection,
    endpoint_id: int,
    *,
    state: DeliveryState | None = None,
    limit: int = 50,
    before: int | None = None,
) -> list[Delivery]:
    """Return the newest deliveries of an endpoint, those in one state and before one where they are given."""
    rows = await connection.fetch(
        """
        SELECT delivery_id, shop_id, endpoint_id, day, event_id, topic, state, attempts, last_status, last_error,
               created_at, delivered_at
        FROM endpoint_deliveries
        WHERE endpoint_id = $1 AND ($2::text IS NULL OR state = $2) AND delivery_id < $4
        ORDER BY delivery_id DESC LIMIT $3
        """,
        endpoint_id,
        state,
        limit,
        2**63 - 1 if before is None else before,
    )
    return [Delivery(**{**row, "state": DeliveryState(row["state"])}) for row in rows]


async def count_by_state(connection: Connection, endpoint_id: int) -> dict[str, int]:
    """Return how many deliveries of an endpoint stand where."""
    rows = await connection.fetch(
        "SELECT state, count(*) AS deliveries FROM endpoint_deliveries WHERE endpoint_id = $1 GROUP BY state",
        endpoint_id,
    )
    return {row["state"]: row["deliveries"] for row in rows}


async def list_attempts(connection: Connection, endpoint_id: int, delivery_id: int) -> list[LoggedAttempt]:
    """Return the attempts at one delivery of an endpoint, eldest first."""
    rows = await connection.fetch(
        """
        SELECT a.attempted_at, a.duration_ms, a.status, a.error_code, a.error_message, a.excerpt
        FROM endpoint_attempts a JOIN endpoint_deliveries d USING (delivery_id)
        WHERE d.endpoint_id = $1 AND d.delivery_id = $2
        ORDER BY a.attempt_id
        """,
        endpoint_id,
        delivery_id,
    )
    return [LoggedAttempt(**row) for row in rows]


async def test_result(connection: Connection, endpoint_id: int, *, shop_id: int, key: str) -> LoggedAttempt | None:
    """Return the attempt at a test event, by what `send_test` returned, or None as long as there is none."""
    row = await connection.fetchrow(
        """
        SELECT a.attempted_at, a.duration_ms, a.status, a.error_code, a.error_message, a.excerpt
        FROM events e
        JOIN endpoint_deliveries d ON d.endpoint_id = $1 AND d.day = e.day AND d.event_id = e.event_id
        JOIN endpoint_attempts a USING (delivery_id)
        WHERE e.shop_id = $2 AND e.key = $3 AND e.key <> ''
        ORDER BY a.attempt_id LIMIT 1
        """,
        endpoint_id,
        shop_id,
        key,
    )
    return LoggedAttempt(**row) if row else None
