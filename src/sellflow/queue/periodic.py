"""Periodic work: one scheduler leads, by an advisory lock; every job is safe to run twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from prometheus_client import Counter

from sellflow.errors import DatabaseUnavailableError
from sellflow.postgres.database import UNAVAILABLE, Database, Login, SessionConnection
from sellflow.waiting import wait_at_most

log = structlog.get_logger(__name__)

runs_total = Counter("sellflow_job_runs_total", "Runs of periodic jobs.", ["job", "result"])

LEADER_LOCK = "sellflow.scheduler"
CANDIDATE_PAUSE = 5.0


@dataclass(frozen=True)
class Job:
    """Something to do every so many seconds, on the leader's connection (the owner's)."""

    name: str
    every: float
    run: Callable[[SessionConnection], Awaitable[object]]


class Scheduler:
    """Runs jobs while it leads; any number of schedulers may stand by."""

    def __init__(self, database: Database, jobs: Sequence[Job]) -> None:
        self._database = database
        self._jobs = jobs
        self._stopping = asyncio.Event()
        #: Set while this process leads.
        self.leads = asyncio.Event()

    def stop(self) -> None:
        """Return from `run` as soon as the job in hand is done."""
        self._stopping.set()

    async def run(self) -> None:
        """Lead, or wait to lead, until `stop`."""
        while not self._stopping.is_set():
            try:
                await self._stand_for_election()
            except (DatabaseUnavailableError, *UNAVAILABLE) as error:
                log.warning("scheduler.database_unavailable", error=str(error))
            self.leads.clear()
            await wait_at_most(self._stopping, CANDIDATE_PAUSE)

    async def _stand_for_election(self) -> None:
        connection = await self._database.connect(Login.OWNER, purpose="scheduler")
        try:
            while not self._stopping.is_set():
                if await connection.fetchval("SELECT pg_try_advisory_lock(hashtext($1))", LEADER_LOCK):
                    self.leads.set()
                    log.info("scheduler.leads")
                    await self._lead(connection)
                await wait_at_most(self._stopping, CANDIDATE_PAUSE)
        finally:
            if not connection.is_closed():
                await connection.close(timeout=2)

    async def _lead(self, connection: SessionConnection) -> None:
        """Run every job when it is due. The lock lives as long as the connection: losing that ends the lead."""
        due = dict.fromkeys((job.name for job in self._jobs), 0.0)
        while not self._stopping.is_set():
            for job in self._jobs:
                if time.monotonic() >= due[job.name]:
                    await _run(job, connection)
                    due[job.name] = time.monotonic() + job.every
            await wait_at_most(self._stopping, max(0.05, min(due.values()) - time.monotonic()))


async def _run(job: Job, connection: SessionConnection) -> None:
    """Run one job; its failure is logged and counted, and it comes round again."""
    try:
        await job.run(connection)
    except Exception:
        runs_total.labels(job.name, "failed").inc()
        log.exception("scheduler.job_failed", job=job.name)
        if connection.is_closed():
            raise
        return
    runs_total.labels(job.name, "done").inc()
