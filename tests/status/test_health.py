"""Alive and ready are two things, and each is said truly; metrics never fail because the database does."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from sellflow.app import WebApplication
from sellflow.errors import DatabaseUnavailableError
from sellflow.postgres.database import Database, SessionConnection
from sellflow.queue.figures import QueueFigures
from sellflow.roles import build_registry
from sellflow.status import probe, queue_metrics
from sellflow.status.health import Health
from sellflow.status.queue_metrics import QueueMetrics
from tests.edge.outage import relayed
from tests.edge.serving import serving

FIGURES = QueueFigures("lab", 3, 2, 4, 5, 6, 7.5, True, 8)


@dataclass
class Round:
    """A loop that last got a step further so many seconds ago."""

    ago: float
    name: str = "a consumer of lab"

    @property
    def progressed_at(self) -> float:
        return time.monotonic() - self.ago

    @progressed_at.setter
    def progressed_at(self, value: float) -> None:
        raise NotImplementedError


async def answers() -> None:
    """A database that is well."""


async def is_away() -> None:
    raise DatabaseUnavailableError("nobody is there")


async def hangs() -> None:
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PATIENCE", 0.05)


async def test_a_loop_without_progress_is_dead_only_while_the_database_answers() -> None:
    for check, ago, is_dead in ((answers, 61, True), (answers, 59, False), (is_away, 61, False), (hangs, 61, False)):
        health = Health(check, stop=asyncio.Event(), loops=[Round(0), Round(ago)], stuck_after=60)
        reason = await health.why_dead()
        assert (reason is not None) == is_dead, (check, ago)
    assert await Health(answers, stop=asyncio.Event()).why_dead() is None


async def test_a_loop_is_not_blamed_for_the_time_in_which_the_database_was_away() -> None:
    is_back = False

    async def check() -> None:
        if not is_back:
            await is_away()

    health = Health(check, stop=asyncio.Event(), loops=[Round(61)], stuck_after=60)
    assert await health.why_dead() is None
    is_back = True
    assert await health.why_dead() is None


async def test_ready_is_who_has_a_database_and_was_not_told_to_stop() -> None:
    stop = asyncio.Event()
    assert await Health(answers, stop=stop).why_not_ready() is None
    assert await Health(is_away, stop=stop).why_not_ready() == "nobody is there"
    assert "did not answer within" in str(await Health(hangs, stop=stop).why_not_ready())
    stop.set()
    assert await Health(answers, stop=stop).why_not_ready() == "it is stopping"


async def test_a_question_that_hangs_is_not_asked_again_beside_itself() -> None:
    asked = 0
    free = asyncio.Event()

    async def ask() -> int:
        nonlocal asked
        asked += 1
        await free.wait()
        return asked

    question = probe.Probe(ask)
    for _ in range(3):
        with pytest.raises(DatabaseUnavailableError):
            await question.answer()
    assert asked == 1
    free.set()
    assert await question.answer() == 1
    assert await question.answer() == 2


async def test_web_is_not_ready_with_an_older_schema_and_goes_on_with_a_newer_one(
    database: Database, owner: SessionConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "PATIENCE", 5)
    async with serving(database) as client:
        for revision, status in (("0003_queue", 503), ("9999_later", 200)):
            await owner.execute("UPDATE schema_version SET version_num = $1", revision)
            answer = await client.get("/readyz")
            assert answer.status_code == status
            assert (await client.get("/healthz")).status_code == 200
        await owner.execute("UPDATE schema_version SET version_num = '0003_queue'")
        assert "run `sellflow migrate`" in (await client.get("/readyz")).json()["reason"]


async def test_web_is_not_ready_while_its_database_hangs_and_says_so_at_once(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with relayed(database, tmp_path) as (distant, relay), serving(distant) as client:
        monkeypatch.setattr(probe, "PATIENCE", 5)
        assert (await client.get("/readyz")).status_code == 200
        monkeypatch.setattr(probe, "PATIENCE", 0.05)
        relay.passing.clear()
        for _ in range(20):  # more often than there are connections
            answer = await client.get("/readyz")
            assert (answer.status_code, answer.json()["status"]) == (503, "not ready")
            assert (await client.get("/healthz")).status_code == 200
        relay.passing.set()
        monkeypatch.setattr(probe, "PATIENCE", 5)
        assert (await client.get("/readyz")).status_code == 200


async def test_web_is_not_ready_from_the_moment_it_is_told_to_stop(database: Database) -> None:
    app = WebApplication(database, build_registry(database.settings))
    app.api.state.stopping.set()
    assert await app.health.why_not_ready() == "it is stopping"
    assert await app.health.why_dead() is None


async def test_the_figures_are_gauges_labelled_by_queue_alone() -> None:
    async def read() -> Sequence[QueueFigures]:
        return [FIGURES]

    text = (await QueueMetrics(read).exposition()).decode()
    found = dict(re.findall(r"^sellflow_queue_(\w+)\{queue=\"lab\"\} (\S+)$", text, re.MULTILINE))
    assert {name: float(value) for name, value in found.items()} == {
        "depth": 5,
        "in_flight": 2,
        "parked": 4,
        "followers": 5,
        "dead_letters": 6,
        "oldest_waiting_seconds": 7.5,
        "paused": 1,
        "paused_shops": 8,
    }
    assert "sellflow_queue_figures_up 1.0" in text


@pytest.mark.parametrize("fault", [is_away, hangs])
async def test_a_scrape_succeeds_without_the_database_and_tells_nothing_old(
    fault: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_metrics, "MAX_AGE", 0.0)
    is_well = True

    async def read() -> Sequence[QueueFigures]:
        if not is_well:
            await fault()  # type: ignore[operator]
        return [FIGURES]

    metrics = QueueMetrics(read)
    assert "sellflow_queue_depth{" in (await metrics.exposition()).decode()
    is_well = False
    text = (await metrics.exposition()).decode()
    assert "sellflow_queue_depth{" not in text
    assert "sellflow_queue_figures_up 0.0" in text
    assert "python_info" in text


async def test_however_often_it_is_scraped_the_database_is_asked_once_in_a_while() -> None:
    asked = 0

    async def read() -> Sequence[QueueFigures]:
        nonlocal asked
        asked += 1
        return [FIGURES]

    metrics = QueueMetrics(read)
    await asyncio.gather(*(metrics.exposition() for _ in range(50)))
    assert asked == 1
