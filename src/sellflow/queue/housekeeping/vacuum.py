"""Vacuums the tables whose rows live shortly, and watches how many dead rows they carry.

Autovacuum does most of it, by the thresholds that vacuum_often() sets. But it looks once a minute where a server is
not told otherwise, and a busy queue leaves a hundred thousand dead rows behind in that time.
"""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from sellflow.postgres.database import SessionConnection
from sellflow.queue.jobs import Job

dead_rows = Gauge("sellflow_dead_rows", "Dead rows that wait for a vacuum, as Postgres estimates them.", ["table"])
vacuums_total = Counter("sellflow_vacuums_total", "Vacuums begun by housekeeping.", ["table"])

EVERY = 10.0
#: A table is vacuumed with this many dead rows, and a fiftieth of its live ones besides.
THRESHOLD = 1000
SHARE = 0.02


@dataclass(frozen=True)
class Bloat:
    """A table and how many rows of it are live and dead, as Postgres estimates them."""

    table: str
    name: str
    live: int
    dead: int

    @property
    def needs_vacuum(self) -> bool:
        """Whether a vacuum is worth it."""
        return self.dead > THRESHOLD + SHARE * self.live


def vacuum_queues() -> Job:
    """Return the job."""

    async def run(connection: SessionConnection) -> str:
        tables = await find_bloat(connection)
        dead_rows.clear()  # a queue may be gone
        for table in tables:
            dead_rows.labels(table.name).set(table.dead)
        chosen = [table for table in tables if table.needs_vacuum]
        for table in chosen:
            await vacuum(connection, table)
            vacuums_total.labels(table.name).inc()
        return f"vacuumed {', '.join(table.name for table in chosen) or 'nothing'}"

    return Job("vacuum_queues", EVERY, run, timeout=300)


async def find_bloat(connection: SessionConnection) -> list[Bloat]:
    """Return the tables whose rows are deleted or rewritten all the time: queues, and what belongs to them."""
    rows = await connection.fetch(
        """
        SELECT format('%I.%I', s.schemaname, s.relname) AS table, s.relname AS name,
               s.n_live_tup AS live, s.n_dead_tup AS dead
        FROM pg_stat_user_tables s
        WHERE (s.schemaname = 'pgmq' AND s.relname IN (SELECT 'q_' || queue_name FROM pgmq.meta))
           OR (s.schemaname = 'public' AND s.relname IN ('parked_messages', 'receipts', 'leases', 'periodic_jobs'))
        ORDER BY s.n_dead_tup DESC
        """
    )
    return [Bloat(**row) for row in rows]


async def vacuum(connection: SessionConnection, table: Bloat) -> None:
    """Vacuum one table. One that autovacuum works on is passed over, and no lock on it is waited for.

    It is not truncated: that would keep claims out, and a queue's table needs its pages again.
    """
    await connection.execute(f"VACUUM (SKIP_LOCKED, TRUNCATE false) {table.table}")
