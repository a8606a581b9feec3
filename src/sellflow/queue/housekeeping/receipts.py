"""Deletes receipts that no retry can ask for any more.

Shopify retries a failed delivery for four hours, and its own outages have brought deliveries a day late; the retention
is far beyond both. There is no index on the time: each would cost every webhook, and this looks once a day
(docs/decisions/0010). It goes through the table page by page instead, a few megabytes a transaction.
"""

from __future__ import annotations

from prometheus_client import Counter

from sellflow.postgres.database import SessionConnection
from sellflow.queue.jobs import Job

pruned_total = Counter("sellflow_receipts_pruned_total", "Receipts deleted after their retention.")

EVERY = 24 * 3600.0
#: Pages (of 8 kB) that one transaction goes through: some 80,000 receipts.
PAGES = 1000


def prune_receipts(retention_days: int) -> Job:
    """Return the job."""

    async def run(connection: SessionConnection) -> str:
        pages = await connection.fetchval(
            "SELECT pg_relation_size('receipts') / current_setting('block_size')::integer"
        )
        total = 0
        for first in range(0, pages, PAGES):
            deleted = await delete_between(connection, first, first + PAGES, retention_days)
            pruned_total.inc(deleted)
            total += deleted
        return f"{total} receipts pruned"

    return Job("prune_receipts", EVERY, run, timeout=3600)


async def delete_between(connection: SessionConnection, first: int, end: int, retention_days: int) -> int:
    """Delete the expired receipts of the pages from `first` to before `end`; return how many there were."""
    tag = await connection.execute(
        """
        DELETE FROM receipts
        WHERE ctid >= $1::tid AND ctid < $2::tid AND received_at < now() - make_interval(days => $3)
        """,
        (first, 0),
        (end, 0),
        retention_days,
    )
    return int(tag.removeprefix("DELETE "))
