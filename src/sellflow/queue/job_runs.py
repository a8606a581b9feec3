"""One run of a periodic job: never two at a time, given up in time, and written down however it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import structlog
from prometheus_client import Counter, Gauge, Histogram

from sellflow.errors import DatabaseUnavailableError, SellflowError
from sellflow.postgres.database import UNAVAILABLE, Database, Login, SessionConnection, close_connection
from sellflow.postgres.leases import Lease, LeaseLostError, acquire, holder_name, release, renew
from sellflow.postgres.transactions import is_lost
from sellflow.queue.jobs import Job, begin, finish, give_up

log = structlog.get_logger(__name__)

runs_total = Counter("sellflow_job_runs_total", "Runs of periodic jobs.", ["job", "result"])
run_seconds = Histogram(
    "sellflow_job_seconds", "Seconds that a run took.", ["job"], buckets=(0.01, 0.05, 0.25, 1, 5, 30, 120, 600)
)
last_success = Gauge("sellflow_job_last_success_timestamp_seconds", "When a run was last done.", ["job"])

#: What became of an attempt to run a job: `busy` where another run is under way, `idle` where it is not due.
Outcome = Literal["done", "failed", "busy", "idle"]
#: Seconds for which a run that is stopped may take to say so.
GOODBYE = 2.0


async def run_job(database: Database, job: Job, *, leadership: Lease | None = None) -> Outcome:
    """Run a job if it is due under the scheduler's `leadership`, or now where there is none.

    What it raises is logged, counted and written down.

    Raises
    ------
    LeaseLostError
        If this process was frozen, or cut off from the server, and the run was given up: another may have begun.
    DatabaseUnavailableError
        If the server cannot be reached; other UNAVAILABLE errors, if it is lost on the way.
    """
    async with _connected(database, job) as connection:
        lease = await acquire(connection, job.lease, holder_name(), seconds=database.settings.scheduler_lease)
        if lease is None:
            return "busy"
        try:
            outcome: Outcome = "idle"
            if await begin(connection, job, lease, leadership):
                outcome = await _run_kept(database, connection, job, lease)
            async with _still_connected(database, job, connection) as usable:
                await release(usable, lease)
        except asyncio.CancelledError:
            await _stopped(database, job, lease, connection)
            raise
        return outcome


async def _run_kept(database: Database, connection: SessionConnection, job: Job, lease: Lease) -> Outcome:
    """Run a job that is begun while its lease is kept, and no longer."""
    work = asyncio.create_task(_run(database, connection, job))
    keeper = asyncio.create_task(_keep(database, job, lease))
    try:
        await asyncio.wait([work, keeper], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            runs_total.labels(job.name, "lost").inc()
            await keeper  # raises
        return await work
    finally:
        for task in (work, keeper):
            task.cancel()
        await asyncio.wait([work, keeper])


async def _keep(database: Database, job: Job, lease: Lease) -> None:
    """Renew the lease of a run until cancelled, on a connection that is opened for those that last.

    Raises
    ------
    LeaseLostError
        If it could not be renewed in time.
    """
    await asyncio.sleep(lease.length / 3)
    try:
        async with asyncio.timeout(lease.usable_until - time.monotonic()):
            connection = await database.connect(Login.OWNER, purpose=f"scheduler {job.name} lease")
        try:
            while True:
                async with asyncio.timeout(lease.usable_until - time.monotonic()):
                    lease = await renew(connection, lease)
                await asyncio.sleep(lease.length / 3)
        finally:
            await close_connection(connection, within=GOODBYE)
    except (DatabaseUnavailableError, *UNAVAILABLE) as error:
        raise LeaseLostError(f"the lease of the job {job.name} could not be renewed: {error!r}") from error


async def _run(database: Database, connection: SessionConnection, job: Job) -> Outcome:
    started = time.perf_counter()
    detail, error = "", ""
    try:
        async with asyncio.timeout(job.timeout):
            # The server's own limit holds where this process is frozen and watches no clock.
            await connection.execute(f"SET statement_timeout = {round(job.timeout * 1000)}")
            detail = await job.run(connection)
    except TimeoutError:
        error = f"given up after {job.timeout:.0f} s"
        log.warning("scheduler.job_given_up", job=job.name, after=job.timeout)
    except Exception as raised:
        error = _in_words(raised)
        log.exception("scheduler.job_failed", job=job.name)
    run_seconds.labels(job.name).observe(time.perf_counter() - started)
    runs_total.labels(job.name, "failed" if error else "done").inc()
    async with _still_connected(database, job, connection) as usable:
        await finish(usable, job, detail=detail, error=error)
    if error:
        return "failed"
    last_success.labels(job.name).set_to_current_time()
    log.debug("scheduler.job_done", job=job.name, detail=detail)
    return "done"


def _in_words(error: Exception) -> str:
    name = error.code if isinstance(error, SellflowError) else type(error).__name__
    return f"{name}: {error}"


async def _stopped(database: Database, job: Job, lease: Lease, connection: SessionConnection) -> None:
    """Let another process run the job at once, since this one stops: not before its last statement has ended."""
    runs_total.labels(job.name, "stopped").inc()
    log.info("scheduler.job_stopped", job=job.name)
    try:
        async with asyncio.timeout(GOODBYE):
            await connection.close()
            async with _connected(database, job) as another:
                await give_up(another, job)
                await release(another, lease)
    except (DatabaseUnavailableError, *UNAVAILABLE) as error:  # the lease runs out instead
        log.warning("scheduler.job_not_given_back", job=job.name, error=str(error))


@asynccontextmanager
async def _connected(database: Database, job: Job) -> AsyncIterator[SessionConnection]:
    connection = await database.connect(Login.OWNER, purpose=f"scheduler {job.name}")
    try:
        yield connection
    finally:
        await close_connection(connection, within=GOODBYE)


@asynccontextmanager
async def _still_connected(
    database: Database, job: Job, connection: SessionConnection
) -> AsyncIterator[SessionConnection]:
    """Yield the connection that the job left behind, outside any transaction, or another where it lost it."""
    if is_lost(connection):
        async with _connected(database, job) as another:
            yield another
        return
    # Not asked whether it is in one: the driver does not know yet while a statement is being cancelled.
    await connection.execute("ROLLBACK; RESET ALL")
    yield connection
