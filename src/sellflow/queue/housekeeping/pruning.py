"""Deletes what was written down beside events of days that the log does not hold any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date

from prometheus_client import Counter

from sellflow.postgres.database import SessionConnection
from sellflow.queue.jobs import Job

pruned_total = Counter("sellflow_rows_pruned_total", "Rows deleted after their retention.", ["table"])

BATCH = 5_000

#: Deletes rows of days before the given one, but for the days listed, which are held; returns how many.
Delete = Callable[[SessionConnection, date, Sequence[date]], Awaitable[int]]


@dataclass(frozen=True)
class PruneStep:
    """What of one table goes with the log. `delete` commits in batches, and is safe to run again."""

    table: str
    delete: Delete


def rows_by_day(table: str, condition: str = "true") -> PruneStep:
    """Return the step for a table with a column `day`, of which rows go where `condition` holds."""

    async def delete(connection: SessionConnection, before: date, held: Sequence[date]) -> int:
        total, deleted = 0, BATCH
        while deleted == BATCH:
            deleted = await _delete_some(connection, table, condition, before, held)
            total += deleted
        return total

    return PruneStep(table, delete)


async def _delete_some(
    connection: SessionConnection, table: str, condition: str, before: date, held: Sequence[date]
) -> int:
    tag = await connection.execute(
        f"""
        DELETE FROM {table} WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {table} WHERE day < $1 AND day <> ALL ($2::date[]) AND {condition} LIMIT $3
        )) AND {condition}
        """,
        before,
        held,
        BATCH,
    )
    return int(tag.removeprefix("DELETE "))


#: The queue's own; another room adds its step where the job is declared. Attempts at deliveries go with these.
STEPS = (
    rows_by_day("failed_attempts"),
    rows_by_day("dead_letters", "state <> 'waiting'"),
    rows_by_day("endpoint_deliveries"),
)


def prune_log(retention_days: int, steps: Sequence[PruneStep] = STEPS) -> Job:
    """Return the job."""

    async def run(connection: SessionConnection) -> str:
        before = await connection.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date - $1::integer", retention_days)
        held = [row["day"] for row in await connection.fetch("SELECT day FROM log_days() WHERE day < $1", before)]
        told = []
        for step in steps:
            deleted = await step.delete(connection, before, held)
            pruned_total.labels(step.table).inc(deleted)
            told.append(f"{deleted} {step.table}")
        return f"{', '.join(told)} pruned"

    return Job("prune_log", 6 * 3600, run, timeout=1800)
