"""The scheduler: one leads, a lost lead is noticed, and a fault stops nothing but itself."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest

from sellflow.postgres.database import Database, SessionConnection
from sellflow.postgres.leases import acquire
from sellflow.queue import periodic
from sellflow.queue.job_runs import run_job
from sellflow.queue.jobs import Job, JobState, declare, list_states
from sellflow.queue.periodic import LEADERSHIP, Scheduler
from tests.edge.serving import with_settings

PATIENCE = 30
Work = Callable[[SessionConnection], Coroutine[None, None, None]]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "HELD_OFF", 0.05)


@pytest.fixture
def database(database: Database) -> Database:
    return with_settings(database, scheduler_lease=3.0, worker_grace=PATIENCE)


class Ticks:
    """A job that counts its runs and may be waited for, and held at a gate."""

    def __init__(self, name: str, *, every: float = 0.01, timeout: float = PATIENCE, work: Work | None = None) -> None:
        self.job = Job(name, every, self._run, timeout=timeout)
        self.runs = 0
        self.begun = 0
        self.at_once = 0
        self.most_at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._work = work
        self._changed = asyncio.Condition()

    async def _run(self, connection: SessionConnection) -> str:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self._count("begun")
            await self.gate.wait()
            await connection.execute("SELECT 1")
            if self._work:
                await self._work(connection)
            await self._count("runs")
        finally:
            self.at_once -= 1
        return f"run {self.runs}"

    async def _count(self, what: str) -> None:
        async with self._changed:
            setattr(self, what, getattr(self, what) + 1)
            self._changed.notify_all()

    async def more(self, runs: int = 2) -> None:
        """Wait for so many further runs."""
        wanted = self.runs + runs
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: self.runs >= wanted)

    async def begins(self) -> None:
        """Wait until a run is at the gate."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: self.at_once > 0)


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


async def until(owner: SessionConnection, condition: str, *args: object) -> None:
    """Wait until a condition of SQL holds."""
    async with asyncio.timeout(PATIENCE):
        while not await owner.fetchval(f"SELECT {condition}", *args):
            pass


async def state_of(owner: SessionConnection, job: str) -> JobState:
    return {state.job: state for state in await list_states(owner)}[job]


async def cut_off(owner: SessionConnection, application: str) -> int:
    """End the connections of a name; return how many."""
    return int(
        await owner.fetchval(
            """
            SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE application_name = $1 AND datname = current_database()
            """,
            application,
        )
    )


async def take_the_lead(owner: SessionConnection) -> None:
    """Do to the leader what happens to one that was frozen: its lease went to another meanwhile."""
    await owner.execute(
        """
        UPDATE leases SET holder = 'a test', epoch = epoch + 1, expires_at = clock_timestamp() + interval '1 hour'
        WHERE name = $1
        """,
        LEADERSHIP,
    )


async def leave_the_lead(owner: SessionConnection) -> None:
    await owner.execute("UPDATE leases SET expires_at = clock_timestamp() WHERE name = $1", LEADERSHIP)


async def test_one_of_two_leads(database: Database) -> None:
    first, second = Ticks("first"), Ticks("second")
    async with standing(database, first.job) as one:
        await leading(one)
        async with standing(database, second.job) as other:
            await first.more(20)
            assert (second.runs, other.leads.is_set()) == (0, False)


async def test_a_leader_that_lost_its_connection_stands_again(database: Database, owner: SessionConnection) -> None:
    ticks = Ticks("ticks")
    async with standing(database, ticks.job) as scheduler:
        await leading(scheduler)
        assert await cut_off(owner, "sellflow scheduler") == 1
        await ticks.more(5)


async def test_a_leader_whose_lease_was_taken_stops_and_starts_nothing_more(
    database: Database, owner: SessionConnection
) -> None:
    ticks = Ticks("ticks")
    async with standing(database, ticks.job) as scheduler:
        await ticks.more()
        await take_the_lead(owner)
        await until(owner, "NOT EXISTS (SELECT FROM leases WHERE name LIKE 'job:%' AND expires_at > clock_timestamp())")
        runs = (await state_of(owner, "ticks")).runs
        async with asyncio.timeout(PATIENCE):
            while scheduler.leads.is_set():
                await owner.fetchval("SELECT 1")
        assert (await state_of(owner, "ticks")).runs == runs
        await leave_the_lead(owner)
        await ticks.more()


async def test_a_job_in_hand_is_cut_off_when_the_lead_is_lost_and_run_by_the_next(
    database: Database, owner: SessionConnection
) -> None:
    slow = Ticks("slow", every=3600)
    slow.gate.clear()
    async with standing(database, slow.job):
        await slow.begins()
        await take_the_lead(owner)
        await until(owner, "EXISTS (SELECT FROM leases WHERE name = 'job:slow' AND expires_at <= clock_timestamp())")
        assert slow.runs == 0
        slow.gate.set()
        await leave_the_lead(owner)
        await slow.more(1)


async def test_a_former_leader_cannot_begin_a_job(database: Database, owner: SessionConnection) -> None:
    ticks = Ticks("ticks")
    former = await acquire(owner, LEADERSHIP, "former", seconds=60)
    assert former
    await declare(owner, [ticks.job])
    await take_the_lead(owner)
    assert await run_job(database, ticks.job, leadership=former) == "idle"
    assert (ticks.begun, (await state_of(owner, "ticks")).runs) == (0, 0)


async def test_a_scheduler_that_stops_gives_up_the_lead_at_once(database: Database, owner: SessionConnection) -> None:
    first, second = Ticks("first"), Ticks("second")
    patient = with_settings(database, scheduler_lease=300)
    async with standing(patient, first.job):
        await first.more()
    async with standing(patient, second.job):
        await second.more()


async def test_a_stopping_scheduler_finishes_the_job_in_hand(database: Database, owner: SessionConnection) -> None:
    slow = Ticks("slow", every=3600)
    slow.gate.clear()
    async with standing(database, slow.job) as scheduler:
        await slow.begins()
        scheduler.stop()
        await until(owner, "EXISTS (SELECT FROM leases WHERE name = $1 AND expires_at <= now())", LEADERSHIP)
        slow.gate.set()
    assert (await state_of(owner, "slow")).last_detail == "run 1"


async def test_a_job_that_outlasts_the_grace_is_cut_off_and_due_again(
    database: Database, owner: SessionConnection
) -> None:
    slow, database = Ticks("slow", every=3600), with_settings(database, worker_grace=0)
    slow.gate.clear()
    async with standing(database, slow.job):
        await slow.begins()
    state = await state_of(owner, "slow")
    assert (slow.runs, state.is_running, state.last_finished_at) == (0, False, None)
    assert await owner.fetchval("SELECT next_run_at <= clock_timestamp() FROM periodic_jobs WHERE job = 'slow'")


async def test_a_job_that_fails_does_not_stop_the_others(database: Database, owner: SessionConnection) -> None:
    async def fail(connection: SessionConnection) -> None:
        await connection.execute("SELECT 1/0")

    good, bad = Ticks("good"), Ticks("bad", every=3600, work=fail)
    async with standing(database, bad.job, good.job):
        await good.more(5)
        await until(owner, "EXISTS (SELECT FROM periodic_jobs WHERE job = 'bad' AND failures = 1)")
    state = await state_of(owner, "bad")
    assert (state.last_result, state.last_error) == ("failed", "DivisionByZeroError: division by zero")
    retried_in = await owner.fetchval("SELECT next_run_at - last_started_at FROM periodic_jobs WHERE job = 'bad'")
    assert retried_in.total_seconds() == 10, "sooner than its period"


async def test_a_job_that_takes_long_delays_no_other(database: Database) -> None:
    slow, quick = Ticks("slow"), Ticks("quick")
    slow.gate.clear()
    async with standing(database, slow.job, quick.job):
        await slow.begins()
        await quick.more(20)
        assert slow.at_once == 1
        slow.gate.set()
    assert slow.most_at_once == quick.most_at_once == 1


async def test_a_job_is_given_up_after_its_time(database: Database, owner: SessionConnection) -> None:
    stuck = Ticks("stuck", timeout=0.2)
    stuck.gate.clear()
    await declare(owner, [stuck.job])
    assert await run_job(database, stuck.job) == "failed"
    state = await state_of(owner, "stuck")
    assert (state.last_result, state.is_running, state.last_error) == ("failed", False, "given up after 0 s")


async def sleep_in_a_transaction(connection: SessionConnection) -> None:
    await connection.execute("BEGIN; SELECT pg_sleep(60)")


async def end_the_connection(connection: SessionConnection) -> None:
    await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


async def fail_in_a_transaction(connection: SessionConnection) -> None:
    await connection.execute("BEGIN")
    await connection.execute("SELECT 1/0")


@pytest.mark.parametrize("work", [sleep_in_a_transaction, end_the_connection, fail_in_a_transaction])
async def test_however_a_job_leaves_its_connection_the_run_is_written_down(
    database: Database, owner: SessionConnection, work: Work
) -> None:
    wild = Ticks("wild", timeout=1, work=work)
    await declare(owner, [wild.job])
    assert await run_job(database, wild.job) == "failed"
    state = await state_of(owner, "wild")
    assert (state.failures, state.is_running, state.last_result) == (1, False, "failed")
    assert await run_job(database, wild.job) == "failed"


async def test_a_job_is_not_run_twice_at_a_time_whoever_asks(database: Database, owner: SessionConnection) -> None:
    slow = Ticks("slow")
    slow.gate.clear()
    async with standing(database, slow.job):
        await slow.begins()
        assert await run_job(database, slow.job) == "busy"
        slow.gate.set()
        await slow.more()
        outcomes = await asyncio.gather(*(run_job(database, slow.job) for _ in range(5)))
        assert set(outcomes) <= {"done", "busy"}
    assert slow.most_at_once == 1


async def test_due_times_survive_a_restart(database: Database, owner: SessionConnection) -> None:
    rare, often = Ticks("rare", every=3600), Ticks("often")
    for _ in range(3):
        async with standing(database, rare.job, often.job):
            await often.more()
    assert rare.runs == 1
    assert (await state_of(owner, "rare")).runs == 1


async def test_a_job_that_was_due_several_times_runs_once_and_tells_how_many_it_missed(
    database: Database, owner: SessionConnection
) -> None:
    rare = Ticks("rare", every=3600)
    await declare(owner, [rare.job])
    await owner.execute("UPDATE periodic_jobs SET next_run_at = clock_timestamp() - interval '3 hours 30 minutes'")
    async with standing(database, rare.job):
        await rare.more(1)
        await until(owner, "EXISTS (SELECT FROM periodic_jobs WHERE last_result = 'done')")
    state = await state_of(owner, "rare")
    assert (rare.runs, state.runs, state.missed) == (1, 1, 3)
    pause = await owner.fetchval("SELECT next_run_at - last_started_at FROM periodic_jobs")
    assert pause.total_seconds() == 3600


async def test_jobs_that_are_gone_from_the_code_are_forgotten_and_changed_ones_come_round_in_time(
    owner: SessionConnection,
) -> None:
    await declare(owner, [Ticks("old").job, Ticks("kept", every=3600).job])
    await owner.execute("UPDATE periodic_jobs SET next_run_at = clock_timestamp() + interval '1 hour', runs = 7")
    await declare(owner, [Ticks("kept", every=60).job, Ticks("new").job])
    states = {state.job: state for state in await list_states(owner)}
    assert set(states) == {"kept", "new"}
    assert (states["kept"].runs, states["kept"].every) == (7, 60)
    assert await owner.fetchval(
        "SELECT next_run_at < clock_timestamp() + interval '61 seconds' FROM periodic_jobs WHERE job = 'kept'"
    )


async def test_schedulers_that_come_and_go_never_run_a_job_twice_at_a_time(
    database: Database, owner: SessionConnection
) -> None:
    ticks, chance = Ticks("ticks"), random.Random(7)
    database = with_settings(database, worker_grace=0)

    async def come_and_go() -> None:
        for _ in range(6):
            async with standing(database, ticks.job) as scheduler:
                for _ in range(chance.randrange(40)):
                    await asyncio.sleep(0)
                if scheduler.leads.is_set() and chance.random() < 0.5:
                    await cut_off(owner, "sellflow scheduler")

    await asyncio.gather(come_and_go(), return_exceptions=False)
    before = ticks.runs
    async with (
        standing(database, ticks.job),
        standing(database, ticks.job),
        standing(database, ticks.job),
    ):
        await ticks.more(20)
        await cut_off(owner, "sellflow scheduler")
        await ticks.more(20)
    assert ticks.runs >= before + 40
    assert ticks.most_at_once == 1


_PROCESS = """
import asyncio, sys
from pathlib import Path
from sellflow.logs import configure_logging
from sellflow.postgres.database import Database
from sellflow.queue.jobs import Job
from sellflow.queue.periodic import Scheduler
from sellflow.settings import load_settings

async def tick(connection):
    await connection.execute("INSERT INTO ticks (pid) VALUES ($1)", int(sys.argv[3]))
    return "ticked"

async def main():
    settings = load_settings(
        environment="test", data_dir=Path("/nonexistent"), database_owner=sys.argv[2], scheduler_lease=3.0
    )
    configure_logging(settings)
    url = sys.argv[1]
    await Scheduler(Database(url, url, settings), [Job("tick", 0.05, tick)]).run()

asyncio.run(main())
"""


@asynccontextmanager
async def scheduler_process(database: Database, number: int) -> AsyncIterator[Process]:
    """A scheduler in a process of its own, whose ticks carry its number."""
    owner = database.settings.database_owner
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROCESS, database.session_url, owner, str(number), stdout=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
async def test_another_process_leads_when_the_leader_is_frozen_or_killed(
    database: Database, owner: SessionConnection, number: signal.Signals
) -> None:
    await owner.execute("CREATE TABLE ticks (tick bigint GENERATED ALWAYS AS IDENTITY, pid integer)")
    async with scheduler_process(database, 1) as first:
        await until(owner, "count(*) > 3 FROM ticks WHERE pid = 1")
        async with scheduler_process(database, 2):
            os.kill(first.pid, number)
            await until(owner, "count(*) > 3 FROM ticks WHERE pid = 2")
            if number is signal.SIGSTOP:
                os.kill(first.pid, signal.SIGCONT)
            # It notices, and ticks no more while the other leads.
            await owner.execute("TRUNCATE ticks")
            await until(owner, "count(*) > 20 FROM ticks WHERE pid = 2")
            assert await owner.fetchval("SELECT count(*) FROM ticks WHERE pid = 1") <= 1
