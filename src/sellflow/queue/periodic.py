"""The scheduler: of several processes one leads, by a lease, and starts each job when it is due.

The lease is Postgres's word on who leads (docs/decisions/0009). A leader that could not renew it stops before it
ends; what a frozen one would begin afterwards is refused by the lease's epoch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import structlog
from prometheus_client import Gauge

from sellflow.errors import DatabaseUnavailableError
from sellflow.postgres.database import UNAVAILABLE, Database, Login, SessionConnection, close_connection
from sellflow.postgres.leases import Lease, LeaseLostError, acquire, holder_name, release, renew
from sellflow.queue.job_runs import run_job
from sellflow.queue.jobs import Job, declare, due_in
from sellflow.waiting import wait_at_most

log = structlog.get_logger(__name__)

leading = Gauge("sellflow_scheduler_leads", "1 while this process is the scheduler that leads.")

LEADERSHIP = "scheduler"
#: Seconds until a job that could not be started is tried again: somebody else runs it, or no connection was free.
HELD_OFF = 2.0
SHORTEST_PAUSE = 0.01


class Scheduler:
    """Runs jobs while it leads; any number of schedulers may stand by."""

    def __init__(self, database: Database, jobs: Sequence[Job]) -> None:
        self._database = database
        self._jobs = {job.name: job for job in jobs}
        self._length = database.settings.scheduler_lease
        self._holder = holder_name()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._held_off: dict[str, float] = {}
        self._stopping = asyncio.Event()
        self._woken = asyncio.Event()
        #: Set while this process leads.
        self.leads = asyncio.Event()

    def stop(self) -> None:
        """Give up the lead, finish the jobs in hand, then return from `run`."""
        self._stopping.set()
        self._woken.set()

    async def run(self) -> None:
        """Lead, or wait to lead, until `stop`; jobs that take longer than the grace are cut off then."""
        try:
            while not self._stopping.is_set():
                try:
                    await self._stand_for_election()
                except (LeaseLostError, DatabaseUnavailableError, *UNAVAILABLE) as error:
                    log.warning("scheduler.does_not_lead", error=str(error) or type(error).__name__)
                    await wait_at_most(self._stopping, self._length / 5)
            await self._end_jobs(self._database.settings.worker_grace)
        finally:
            await self._end_jobs(0)

    async def _stand_for_election(self) -> None:
        connection = await self._database.connect(Login.OWNER, purpose="scheduler")
        try:
            while not self._stopping.is_set():
                # Once in five: whoever stands by leads within little more than the length of a lease.
                async with asyncio.timeout(self._length):
                    lease = await acquire(connection, LEADERSHIP, self._holder, seconds=self._length)
                if lease:
                    await self._lead(connection, lease)
                await wait_at_most(self._stopping, self._length / 5)
        finally:
            await close_connection(connection)

    async def _lead(self, connection: SessionConnection, lease: Lease) -> None:
        log.info("scheduler.leads", epoch=lease.epoch)
        self.leads.set()
        leading.set(1)
        try:
            await declare(connection, list(self._jobs.values()))
            while not self._stopping.is_set():
                async with asyncio.timeout(lease.usable_until - time.monotonic()):
                    lease = await self._keep(connection, lease)
            async with asyncio.timeout(lease.usable_until - time.monotonic()):
                await release(connection, lease)
        except TimeoutError as error:
            raise LeaseLostError("the lead could not be renewed in time, so it was given up") from error
        finally:
            self.leads.clear()
            leading.set(0)
            if not self._stopping.is_set():
                await self._end_jobs(0)

    async def _keep(self, connection: SessionConnection, lease: Lease) -> Lease:
        """Renew the lead, start what is due, and wait until something else is or the lead has to be renewed."""
        self._woken.clear()
        lease = await renew(connection, lease)
        now = time.monotonic()
        due_at = {
            name: max(now + seconds, self._held_off.get(name, now)) for name, seconds in await self._due(connection)
        }
        for name, moment in due_at.items():
            if moment <= now:
                self._start(self._jobs[name], lease)
        next_at = min((moment for moment in due_at.values() if moment > now), default=now + self._length)
        await wait_at_most(self._woken, max(SHORTEST_PAUSE, min(next_at - now, self._length / 3)))
        return lease

    async def _due(self, connection: SessionConnection) -> list[tuple[str, float]]:
        """Return the seconds until each job is due that this process is not running already."""
        due = await due_in(connection)
        return [(name, due[name]) for name in self._jobs if name in due and name not in self._running]

    def _start(self, job: Job, lease: Lease) -> None:
        self._running[job.name] = asyncio.create_task(self._attempt(job, lease), name=job.name)

    async def _attempt(self, job: Job, lease: Lease) -> None:
        """Run one job beside the others."""
        try:
            outcome = await run_job(self._database, job, leadership=lease)
        except (LeaseLostError, DatabaseUnavailableError, *UNAVAILABLE) as error:
            log.warning("scheduler.job_not_run", job=job.name, error=str(error) or type(error).__name__)
            outcome = "busy"
        except Exception:
            # Not the job's own fault, which is written down, but a fault in how it is run.
            log.exception("scheduler.job_not_run", job=job.name)
            outcome = "busy"
        finally:
            del self._running[job.name]
            self._woken.set()
        if outcome == "busy":
            self._held_off[job.name] = time.monotonic() + HELD_OFF

    async def _end_jobs(self, grace: float) -> None:
        """Wait for the jobs in hand, and cut off what takes longer; they may be run again from the start."""
        tasks = list(self._running.values())
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
