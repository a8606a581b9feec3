"""`sellflow jobs`: what is shown of periodic work, and running it by hand."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from rich.console import Console

from sellflow.cli.jobs import _result, _span, _table
from sellflow.postgres.database import Database, Login, SessionConnection
from sellflow.postgres.embedded import SUPERUSER, EmbeddedPostgres
from sellflow.queue.jobs import JobState, declare, list_states
from sellflow.roles import periodic_jobs
from tests.cli.commands import CommandLine, environment, logging_undone
from tests.conftest import FAST

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    with logging_undone():
        yield CommandLine(monkeypatch, capsys)


def test_jobs_are_listed_and_run_by_hand(line: CommandLine, folder: Path) -> None:
    env = environment(folder / "jobs")
    with EmbeddedPostgres(folder / "jobs", extra=FAST).running() as url:
        empty = line.run("jobs", env=env)
        assert (empty.code, empty.out.startswith("No scheduler has run yet")) == (0, True), empty.err

        for _ in range(2):
            done = line.run("jobs", "run", "prune_receipts", env=env)
            assert (done.code, done.out.startswith("prune_receipts: 0 receipts pruned (")) == (0, True), done.err

        listed = line.run("jobs", env=env).out
        assert "watch_transactions" in listed
        assert "0 receipts pruned" in listed

        told = {each["job"]: each for each in map(json.loads, line.run("jobs", "--json", env=env).out.splitlines())}
        assert (told["prune_receipts"]["runs"], told["prune_receipts"]["last_result"]) == (2, "done")
        assert told["drop_expired_days"]["last_started_at"] is None

        with psycopg.connect(url, user=SUPERUSER) as other:
            other.execute(
                "INSERT INTO leases VALUES ('job:vacuum_queues', 'a scheduler', 1, now() + interval '1 hour')"
            )
            other.commit()
            busy = line.run("jobs", "run", "vacuum_queues", env=env)
            assert (busy.code, "is being run just now" in busy.err) == (1, True)

            other.execute("DROP TABLE receipts")
            other.commit()
        failed = line.run("jobs", "run", "prune_receipts", env=env)
        assert failed.code == 1
        assert "prune_receipts failed: UndefinedTableError" in failed.err


async def test_every_job_may_be_run_twice_and_by_two_at_a_time(database: Database, owner: SessionConnection) -> None:
    jobs = periodic_jobs(database.settings)
    await declare(owner, jobs)
    for job in jobs:
        first = await job.run(owner)
        assert await job.run(owner) == first
        connections = [await database.connect(Login.OWNER, purpose="test") for _ in range(2)]
        try:
            await asyncio.gather(*(job.run(each) for each in connections))
        finally:
            await asyncio.gather(*(each.close() for each in connections))
    assert {state.job for state in await list_states(owner)} == {job.name for job in jobs}


def state(**changes: object) -> JobState:
    made: dict[str, object] = {
        "job": "tidy",
        "every": 3600.0,
        "next_run_at": NOW + timedelta(minutes=30),
        "last_started_at": NOW - timedelta(minutes=30),
        "last_finished_at": NOW - timedelta(minutes=29),
        "last_result": "done",
        "last_detail": "3 days dropped",
        "last_error": None,
        "runs": 7,
        "failures": 2,
        "missed": 4,
        "is_running": False,
    }
    return JobState(**(made | changes))  # type: ignore[arg-type]


def row(shown: JobState) -> list[str]:
    return ["".join(str(cell) for cell in column.cells) for column in _table([shown], NOW, wide=True).columns]


def test_a_job_is_shown_with_its_last_and_next_run() -> None:
    assert row(state()) == ["tidy", "60 min", "30 min ago", "60.00 s", "done", "in 30 min", "4", "3 days dropped"]


def test_a_narrow_terminal_shows_the_names_of_jobs_whole() -> None:
    screen = io.StringIO()
    Console(width=70, file=screen).print(_table([state(job="a_name_that_somebody_copies")], NOW, wide=False))
    shown = screen.getvalue()
    assert "a_name_that_somebody_copies" in shown
    assert "…" not in shown


@pytest.mark.parametrize(
    ("shown", "result"),
    [
        (state(), "done"),
        (state(last_result="failed"), "failed (2 of 7)"),
        (state(is_running=True), "running"),
        (state(last_started_at=NOW), "cut off"),
        (state(last_result=None, last_started_at=None, last_finished_at=None), ""),
    ],
)
def test_the_result_says_how_the_last_run_ended(shown: JobState, result: str) -> None:
    assert _result(shown) == result


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (86400, "24 h"), (400000, "4 days")],
)
def test_spans_are_said_as_people_do(seconds: float, said: str) -> None:
    assert _span(seconds) == said
