"""Periodic jobs: one scheduler leads, and a fault stops nothing but itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sellflow.postgres.database import Database, SessionConnection
from sellflow.queue import periodic
from sellflow.queue.periodic import Job, Scheduler

PATIENCE = 10


@pytest.fixture(autouse=True)
def _short_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "CANDIDATE_PAUSE", 0.05)


class Ticks:
    """A job that counts its runs and may be waited for."""

    def __init__(self, name: str, *, fails: bool = False) -> None:
        self.job = Job(name, 0.01, self._run)
        self.runs = 0
        self._fails = fails
        self.gate = asyncio.Event()
        self.gate.set()
        self._changed = asyncio.Condition()

    async def _run(self, connection: SessionConnection) -> None:
        await self.gate.wait()
        await connection.execute("SELECT 1/0" if self._fails else "SELECT 1")
        await self._count()

    async def _count(self) -> None:
        async with self._changed:
            self.runs += 1
            self._changed.notify_all()

    async def more(self, runs: int = 2) -> None:
        """Wait for so many further runs."""
        wanted = self.runs + runs
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: self.runs >= wanted)


@asynccontextmanager
async def standing(database: Database, *jobs: Job) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(database, jobs)
    task = asyncio.create_task(scheduler.run())
    try:
        yield scheduler
    finally:
        scheduler.stop()
        async with asyncio.timeout(PATIENCE):
            await task


async def leading(scheduler: Scheduler) -> None:
    async with asyncio.timeout(PATIENCE):
        await scheduler.leads.wait()


async def test_one_of_two_leads_and_the_other_takes_over_when_its_connection_is_lost(
    database: Database, owner: SessionConnection
) -> None:
    first, second = Ticks("first"), Ticks("second")
    async with standing(database, first.job) as one:
        await leading(one)
        async with standing(database, second.job) as other:
            await first.more(20)
            assert (second.runs, other.leads.is_set()) == (0, False)

            first.gate.clear()  # it is busy when it loses its connection, so it cannot stand again at once
            ended = await owner.fetchval(
                """
                SELECT count(pg_terminate_backend(pid)) FROM pg_locks
                WHERE locktype = 'advisory' AND granted
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                """
            )
            assert ended == 1
            await leading(other)
            await second.more()
            first.gate.set()
            before = first.runs
            await second.more(20)
            assert first.runs <= before + 1


async def test_a_leader_that_lost_its_connection_stands_again(database: Database, owner: SessionConnection) -> None:
    ticks = Ticks("ticks")
    async with standing(database, ticks.job) as scheduler:
        await leading(scheduler)
        await owner.execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name = 'sellflow scheduler' AND datname = current_database()
            """
        )
        await ticks.more(5)


async def test_a_job_that_fails_does_not_stop_the_others(database: Database) -> None:
    good, bad = Ticks("good"), Ticks("bad", fails=True)
    async with standing(database, bad.job, good.job):
        await good.more(5)
    assert bad.runs == 0


async def test_a_scheduler_that_stops_gives_up_the_lead(database: Database) -> None:
    first, second = Ticks("first"), Ticks("second")
    async with standing(database, first.job):
        await first.more()
    async with standing(database, second.job):
        await second.more()
