"""The figures of the queues are right, and cheap however deep a queue is."""

from __future__ import annotations

import pytest

from sellflow.postgres.database import Pool
from sellflow.queue.figures import QueueFigures, handled_per_second, read_figures
from sellflow.queue.pauses import pause
from tests.conftest import Tenant
from tests.queue.conftest import Laboratory


async def figures(lab: Laboratory, queue: str = "lab") -> QueueFigures:
    return next(each for each in await read_figures(lab.pool) if each.queue == queue)


async def test_each_message_is_counted_where_it_is(lab: Laboratory) -> None:
    await lab.put("fail", "follows", key="k")
    await lab.put("hopeless", "good", topic="lab.work.now")
    await lab.work()
    await lab.put("claimed")
    await lab.claim()
    await lab.put("a", "b")
    found = await figures(lab)
    assert (found.waiting, found.in_flight, found.parked, found.followers, found.dead) == (2, 1, 1, 1, 1)
    assert 0 <= found.oldest_seconds < 3600
    assert (found.paused, found.paused_shops) == (False, 0)


async def test_an_empty_queue_has_no_age(lab: Laboratory) -> None:
    assert await figures(lab, "listener") == QueueFigures("listener", 0, 0, 0, 0, 0, 0.0, False, 0)


async def test_the_oldest_is_the_one_that_came_first_also_behind_one_that_came_back(lab: Laboratory) -> None:
    await lab.put("came back", "old", "new")
    await lab.owner.execute(
        """
        UPDATE pgmq.q_lab SET enqueued_at = clock_timestamp() - interval '1 hour'
        WHERE msg_id = (SELECT min(msg_id) + 1 FROM pgmq.q_lab)
        """
    )
    assert 3600 <= (await figures(lab)).oldest_seconds < 7200


async def test_pauses_are_counted(lab: Laboratory, other_tenant: Tenant) -> None:
    await pause(lab.owner, queue=None, shop_id=lab.tenant.shop_id, reason="a test")
    await pause(lab.owner, queue="lab", shop_id=other_tenant.shop_id, reason="a test")
    assert ((await figures(lab)).paused, (await figures(lab)).paused_shops) == (False, 2)
    await pause(lab.owner, queue="lab", shop_id=None, reason="a test")
    assert ((await figures(lab)).paused, (await figures(lab, "listener")).paused) == (True, False)


async def test_a_deep_queue_is_estimated_and_never_read_from_end_to_end(lab: Laboratory) -> None:
    """Whether or not anybody has analysed it."""
    await lab.owner.execute(
        """
        INSERT INTO pgmq.q_lab (vt, message)
        SELECT clock_timestamp(), event_reference(current_date, n, 1, '') FROM generate_series(1, 60000) n
        """
    )
    for analysed in (False, True):
        if analysed:
            await lab.owner.execute("ANALYZE pgmq.q_lab")
        before = await _read(lab)
        found = await figures(lab)
        assert await _read(lab) - before < 25_000
        assert found.in_flight == 0
        assert found.waiting >= 10_000
    assert found.waiting == pytest.approx(60_000, rel=0.1)


async def _read(lab: Laboratory) -> int:
    """How many rows and index entries of the queue were read until now, whoever read them."""
    for connection in (lab.owner, lab.pool):
        await connection.execute("SELECT pg_stat_force_next_flush()")
    return int(
        await lab.owner.fetchval(
            """
            SELECT pg_stat_clear_snapshot()::text IS NOT NULL AND true, t.seq_tup_read + i.read
            FROM pg_stat_user_tables t,
                 (SELECT sum(idx_tup_read) AS read FROM pg_stat_user_indexes WHERE relname = 'q_lab') i
            WHERE t.relname = 'q_lab'
            """,
            column=1,
        )
    )


async def test_the_rate_counts_what_ended_lately(lab: Laboratory) -> None:
    await lab.put(*"abcde", "hopeless")
    await lab.work()
    assert await handled_per_second(lab.owner) == {"lab": 0.6}
    await lab.owner.execute("UPDATE outcomes SET handled_at = handled_at - interval '20 seconds'")
    assert await handled_per_second(lab.owner) == {}


async def test_web_and_worker_may_read_the_figures(lab: Laboratory, web_pool: Pool, worker_pool: Pool) -> None:
    for pool in (web_pool, worker_pool):
        assert {each.queue for each in await read_figures(pool)} >= {"lab", "listener", "outside"}
