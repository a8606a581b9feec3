"""Deletes what the edge need not know any more: answers of a day ago, refresh tokens that have run out."""

from __future__ import annotations

from sellflow.postgres.database import SessionConnection
from sellflow.queue.jobs import Job

#: Hours for which an answer is stored.
KEPT_HOURS = 24
BATCH = 5_000


def prune_edge() -> Job:
    """Return the job."""

    async def run(connection: SessionConnection) -> str:
        keys = await _delete(
            connection, "idempotency_keys", f"created_at < clock_timestamp() - interval '{KEPT_HOURS} hours'"
        )
        tokens = await _delete(connection, "refresh_tokens", "expires_at < clock_timestamp()")
        sessions = await _delete(
            connection,
            "customer_sessions",
            "NOT EXISTS (SELECT FROM refresh_tokens t WHERE t.session_id = customer_sessions.session_id)"
            " AND created_at < clock_timestamp() - interval '1 hour'",
        )
        return f"{keys} idempotency keys, {tokens} refresh tokens and {sessions} customers' sessions pruned"

    return Job("prune_edge", 3600, run, timeout=600)


async def _delete(connection: SessionConnection, table: str, condition: str) -> int:
    """Delete rows in batches, each a transaction of its own."""
    total, deleted = 0, BATCH
    while deleted == BATCH:
        tag = await connection.execute(
            f"DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE {condition} LIMIT $1))", BATCH
        )
        deleted = int(tag.removeprefix("DELETE "))
        total += deleted
    return total
