"""Periodic jobs: what they are, and the table of when each is due and how its runs ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sellflow.postgres.database import SessionConnection
from sellflow.postgres.leases import Lease

#: Seconds until a job that failed is tried again, doubled with each further failure up to its own period.
FIRST_RETRY = 10.0
LONGEST_ERROR = 1000


@dataclass(frozen=True)
class Job:
    """Something to do every so many seconds, on a connection of its own (the owner's).

    `run` returns a sentence on what it did. It is given up after `timeout` seconds, is never run twice at a time, and
    must be safe to run again from the start: it may be cut off anywhere.
    """

    name: str
    every: float
    run: Callable[[SessionConnection], Awaitable[str]]
    timeout: float = 60.0

    @property
    def lease(self) -> str:
        """The name of the lease that a run of it holds."""
        return f"job:{self.name}"


@dataclass(frozen=True)
class JobState:
    """A row of the table, and whether a run is under way."""

    job: str
    every: float
    next_run_at: datetime
    last_started_at: datetime | None
    last_finished_at: datetime | None
    last_result: str | None
    last_detail: str | None
    last_error: str | None
    runs: int
    failures: int
    missed: int
    is_running: bool


def pause_after(every: float, failures_in_row: int) -> float:
    """Return the seconds from the start of a run to the next: sooner than usual after a failure, and never later."""
    if failures_in_row == 0:
        return every
    # 2**32 times the first pause is beyond any period, and keeps the power small.
    return float(min(every, FIRST_RETRY * 2 ** min(failures_in_row - 1, 32)))


async def declare(connection: SessionConnection, jobs: Sequence[Job]) -> None:
    """Bring the table in line with the code: new jobs are due now, jobs that are gone are forgotten."""
    await connection.execute(
        """
        WITH declared AS (
            SELECT * FROM unnest($1::text[], $2::double precision[]) AS d (job, every)
        ), forgotten AS (
            DELETE FROM periodic_jobs p WHERE NOT EXISTS (SELECT FROM declared d WHERE d.job = p.job)
        )
        INSERT INTO periodic_jobs AS p (job, every) SELECT job, every FROM declared
        ON CONFLICT (job) DO UPDATE
        SET every = EXCLUDED.every,
            next_run_at = LEAST(p.next_run_at, clock_timestamp() + make_interval(secs => EXCLUDED.every))
        WHERE p.every <> EXCLUDED.every
        """,
        [job.name for job in jobs],
        [job.every for job in jobs],
    )


async def due_in(connection: SessionConnection) -> dict[str, float]:
    """Return the seconds until each job is due, none or less where it is due now."""
    rows = await connection.fetch(
        """
        SELECT job, EXTRACT(epoch FROM next_run_at - clock_timestamp())::double precision AS seconds
        FROM periodic_jobs
        """
    )
    return {row["job"]: row["seconds"] for row in rows}


async def begin(connection: SessionConnection, job: Job, lease: Lease, leadership: Lease | None) -> bool:
    """Write down that a run begins; False where the job is not due, or the scheduler does not lead any more.

    Without a `leadership`, somebody wants it run now. Should nobody live to tell how it ends, it is due again when
    the `lease` of the run has ended.
    """
    begun = await connection.fetchval(
        """
        WITH leader AS MATERIALIZED (
            SELECT name FROM leases WHERE name = $4 AND epoch = $5 AND expires_at > clock_timestamp() FOR SHARE
        )
        UPDATE periodic_jobs
        SET last_started_at = clock_timestamp(), runs = runs + 1,
            missed = missed + GREATEST(0, floor(EXTRACT(epoch FROM clock_timestamp() - next_run_at) / $2))::bigint,
            next_run_at = clock_timestamp() + make_interval(secs => $3)
        WHERE job = $1 AND ($4::text IS NULL OR (next_run_at <= clock_timestamp() AND EXISTS (SELECT FROM leader)))
        RETURNING true
        """,
        job.name,
        job.every,
        lease.length,
        leadership and leadership.name,
        leadership and leadership.epoch,
    )
    return bool(begun)


async def finish(connection: SessionConnection, job: Job, *, detail: str = "", error: str = "") -> None:
    """Write down how a run ended, and when the job is due next: `error` says why it failed, where it did."""
    failures_in_row = await connection.fetchval(
        """
        UPDATE periodic_jobs
        SET last_finished_at = clock_timestamp(),
            last_result = CASE WHEN $3 = '' THEN 'done' ELSE 'failed' END,
            last_detail = CASE WHEN $3 = '' THEN $2 ELSE last_detail END, last_error = NULLIF($3, ''),
            failures = failures + ($3 <> '')::integer,
            failures_in_row = CASE WHEN $3 = '' THEN 0 ELSE failures_in_row + 1 END
        WHERE job = $1
        RETURNING failures_in_row
        """,
        job.name,
        detail,
        error.replace("\x00", "\\0")[:LONGEST_ERROR],
    )
    if failures_in_row is not None:
        await _come_round(connection, job, pause_after(job.every, failures_in_row))


async def _come_round(connection: SessionConnection, job: Job, pause: float) -> None:
    """Make the job due `pause` seconds after it was started."""
    await connection.execute(
        "UPDATE periodic_jobs SET next_run_at = last_started_at + make_interval(secs => $2) WHERE job = $1",
        job.name,
        pause,
    )


async def give_up(connection: SessionConnection, job: Job) -> None:
    """Make the job due now: its run was stopped for no fault of its own."""
    await connection.execute("UPDATE periodic_jobs SET next_run_at = clock_timestamp() WHERE job = $1", job.name)


async def list_states(connection: SessionConnection) -> list[JobState]:
    """Return every job as the table has it, by name."""
    rows = await connection.fetch(
        """
        SELECT p.job, p.every, p.next_run_at, p.last_started_at, p.last_finished_at, p.last_result, p.last_detail,
               p.last_error, p.runs, p.failures, p.missed,
               COALESCE(l.expires_at > clock_timestamp(), false) AS is_running
        FROM periodic_jobs p LEFT JOIN leases l ON l.name = 'job:' || p.job
        ORDER BY p.job
        """
    )
    return [JobState(**row) for row in rows]
