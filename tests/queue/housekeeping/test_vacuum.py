"""Tables whose rows live shortly are vacuumed early, and watched."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from sellflow.postgres.database import Database, SessionConnection
from sellflow.queue.housekeeping.vacuum import Bloat, find_bloat, vacuum_queues
from tests.postgres.databases import connected
from tests.queue.conftest import Laboratory

job = vacuum_queues()
COUNTS = st.integers(0, 10**9)


async def bloat(owner: SessionConnection, name: str) -> Bloat:
    return {each.name: each for each in await find_bloat(owner)}[name]


async def make_dead_rows(owner: SessionConnection, rows: int) -> None:
    """Put rows into a queue and delete them, and wait until Postgres has counted them."""
    await owner.execute("ALTER TABLE pgmq.q_loyalty SET (autovacuum_enabled = false)")
    await owner.execute(
        "INSERT INTO pgmq.q_loyalty (vt, message) SELECT now(), '{}' FROM generate_series(1, $1::integer)", rows
    )
    await owner.execute("DELETE FROM pgmq.q_loyalty")
    async with asyncio.timeout(10):
        while (await bloat(owner, "q_loyalty")).dead < rows:
            await owner.execute("SELECT pg_stat_force_next_flush()")


async def test_a_queue_with_many_dead_rows_is_vacuumed(owner: SessionConnection) -> None:
    await make_dead_rows(owner, 5000)
    assert await job.run(owner) == "vacuumed q_loyalty"
    assert REGISTRY.get_sample_value("sellflow_dead_rows", {"table": "q_loyalty"}) == 5000
    assert (await bloat(owner, "q_loyalty")).dead == 0
    assert await job.run(owner) == "vacuumed nothing"
    assert REGISTRY.get_sample_value("sellflow_dead_rows", {"table": "q_loyalty"}) == 0


async def test_a_table_that_somebody_has_locked_is_passed_over(database: Database, owner: SessionConnection) -> None:
    await make_dead_rows(owner, 5000)
    async with connected(database) as other, other.transaction():
        await other.execute("LOCK TABLE pgmq.q_loyalty IN SHARE MODE")
        await owner.execute("SET statement_timeout = '10s'")
        await job.run(owner)
    assert (await bloat(owner, "q_loyalty")).dead == 5000


async def test_every_queue_and_what_belongs_to_it_is_watched(lab: Laboratory) -> None:
    names = {each.name for each in await find_bloat(lab.owner)}
    queues = {f"q_{row['queue_name']}" for row in await lab.owner.fetch("SELECT queue_name FROM pgmq.meta")}
    assert "q_lab" in queues
    assert names == {*queues, "parked_messages", "receipts", "leases", "periodic_jobs"}


async def test_autovacuum_comes_early_to_queues_and_preparing_again_locks_none(
    database: Database, lab: Laboratory
) -> None:
    options = await lab.owner.fetchval("SELECT reloptions FROM pg_class WHERE relname = 'q_lab'")
    assert {"autovacuum_vacuum_threshold=1000", "autovacuum_vacuum_scale_factor=0"} <= set(options)
    async with connected(database) as other, other.transaction():
        await other.execute("LOCK TABLE pgmq.q_lab IN SHARE UPDATE EXCLUSIVE MODE")
        await lab.owner.execute("SET statement_timeout = '10s'")
        await lab.owner.execute("CALL vacuum_often('pgmq.q_lab')")


@given(live=COUNTS, dead=COUNTS, more=COUNTS)
def test_more_dead_rows_never_make_a_vacuum_less_needed(live: int, dead: int, more: int) -> None:
    if Bloat("t", "t", live, dead).needs_vacuum:
        assert Bloat("t", "t", live, dead + more).needs_vacuum
        assert dead > 1000


@pytest.mark.parametrize(("live", "dead", "needed"), [(0, 1000, False), (0, 1001, True), (10**6, 20_000, False)])
def test_a_deep_queue_may_carry_more(live: int, dead: int, needed: bool) -> None:
    assert Bloat("t", "t", live, dead).needs_vacuum is needed
