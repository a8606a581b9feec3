"""Makes the event log's day partitions ahead of time."""

from __future__ import annotations

from sellflow.postgres.database import SessionConnection
from sellflow.queue.jobs import Job


def make_day_partitions(days_ahead: int) -> Job:
    """Return the job. A day that comes before its partition is made goes to the default one, and moves later."""

    async def run(connection: SessionConnection) -> str:
        async with connection.transaction():
            # Whoever stores events waits behind the locks that this waits for.
            await connection.execute("SET LOCAL lock_timeout = '1s'")
            await connection.execute("CALL make_day_partitions($1)", days_ahead)
        return f"partitions stand for {days_ahead} days ahead"

    return Job("make_day_partitions", 3600, run)
