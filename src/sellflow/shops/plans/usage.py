"""What shops use: orders by the day that they were made on, counted afterwards from the orders themselves.

Nothing is written where orders come in. A summary of the table's blocks finds those of the last days; once a day, and
after a pause, the whole month is counted again, since an order may become known late, and customers are.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sellflow.postgres.database import Connection, SessionConnection
from sellflow.queue.jobs import Job
from sellflow.shops.plans.models import Usage
from sellflow.shops.plans.rules import month_of

#: Days that are counted at every run.
RECENT = timedelta(days=2)
KEPT_MONTHS = 25


def count_usage() -> Job:
    """Return the job that counts."""

    async def run(connection: SessionConnection) -> str:
        now = datetime.now(UTC)
        since, is_first = await _since(connection, now)
        async with connection.transaction():
            days = await _count(connection, since)
            if is_first:
                await _count_customers(connection)
            await connection.execute(
                "DELETE FROM plan_usage WHERE day < (now() AT TIME ZONE 'UTC')::date - make_interval(months => $1)",
                KEPT_MONTHS,
            )
        return f"orders of {days} shops' days counted, those since {since:%Y-%m-%d}"

    return Job("count_usage", 900, run, timeout=300.0)


async def _since(connection: SessionConnection, now: datetime) -> tuple[datetime, bool]:
    """Return the day from which to count, and whether this is the first run of a day: then it is the month's first."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    counted: datetime | None = await connection.fetchval("SELECT max(counted_at) FROM plan_usage")
    recent = midnight - RECENT
    is_first = counted is None or counted < midnight
    return month_of(recent) if is_first else recent, is_first


async def _count(connection: SessionConnection, since: datetime) -> int:
    tag = await connection.execute(
        """
        WITH counted AS (
            SELECT shop_id, (ordered_at AT TIME ZONE 'UTC')::date AS day, count(*)::integer AS orders
            FROM orders WHERE ordered_at >= $1 AND ordered_at < now() + interval '1 day'
            GROUP BY 1, 2
        )
        INSERT INTO plan_usage AS u (shop_id, day, orders) SELECT shop_id, day, orders FROM counted
        ON CONFLICT (shop_id, day) DO UPDATE SET orders = EXCLUDED.orders, counted_at = clock_timestamp()
        """,
        since,
    )
    return int(tag.rsplit(" ", 1)[-1])


async def _count_customers(connection: SessionConnection) -> None:
    await connection.execute(
        """
        INSERT INTO plan_usage AS u (shop_id, day, customers)
        SELECT shop_id, (now() AT TIME ZONE 'UTC')::date, count(*)::integer FROM customers GROUP BY shop_id
        ON CONFLICT (shop_id, day) DO UPDATE SET customers = EXCLUDED.customers, counted_at = clock_timestamp()
        """
    )


async def usage_of(connection: Connection, shop_id: int) -> Usage:
    """Return what a shop used this month; for logins that see its endpoints."""
    since = month_of(datetime.now(UTC))
    row = await connection.fetchrow(
        """
        SELECT COALESCE(sum(orders), 0)::integer AS orders, max(counted_at) AS counted_at,
               COALESCE((SELECT l.customers FROM plan_usage l WHERE l.shop_id = $1 AND l.customers IS NOT NULL
                         ORDER BY l.day DESC LIMIT 1), 0) AS customers,
               (SELECT count(*) FROM endpoints e WHERE e.shop_id = $1 AND e.state <> 'removed')::integer AS endpoints
        FROM plan_usage WHERE shop_id = $1 AND day >= $2
        """,
        shop_id,
        since.date(),
    )
    assert row is not None
    return Usage(since=since, **row)
