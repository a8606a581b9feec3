"""Pauses stop what is named, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from sellflow.errors import NotFoundError
from sellflow.queue.pauses import list_pauses, pause, resume
from sellflow.queue.wakeups import WakeUps
from tests.conftest import Tenant
from tests.queue.conftest import Laboratory
from tests.queue.test_consumer import PATIENCE


async def test_a_pause_lasts_until_it_is_taken_back_as_it_was_made(lab: Laboratory, other_tenant: Tenant) -> None:
    for queue, shop_id, left in (
        ("lab", None, []),
        (None, None, []),
        (None, other_tenant.shop_id, ["mine"]),
        ("lab", lab.tenant.shop_id, ["theirs"]),
        ("listener", None, ["mine", "theirs"]),
    ):
        await lab.put("mine")
        await lab.put("theirs", shop_id=other_tenant.shop_id)
        await pause(lab.owner, queue=queue, shop_id=shop_id, reason="a test")
        assert [each.key for each in await lab.claim()] == left, (queue, shop_id)
        assert not await resume(lab.owner, queue="outside", shop_id=None)
        assert await resume(lab.owner, queue=queue, shop_id=shop_id)
        await lab.let_claims_expire()
        assert len(await lab.claim()) == 2
        await lab.owner.execute("TRUNCATE pgmq.q_lab")


async def test_pausing_twice_keeps_the_newer_reason(lab: Laboratory) -> None:
    await pause(lab.owner, queue="lab", shop_id=lab.tenant.shop_id, reason="one")
    await pause(lab.owner, queue="lab", shop_id=lab.tenant.shop_id, reason="another")
    await pause(lab.owner, queue=None, shop_id=None, reason="everything")
    listed = [(each.queue, each.shop_domain, each.reason) for each in await list_pauses(lab.owner)]
    assert listed == [("lab", "acme.myshopify.com", "another"), (None, None, "everything")]


async def test_a_queue_that_does_not_exist_is_not_paused(lab: Laboratory) -> None:
    with pytest.raises(NotFoundError, match=r"no queue 'lap' \(known: .*lab"):
        await pause(lab.owner, queue="lap", shop_id=None, reason="a test")
    with pytest.raises(NotFoundError, match="no queue 'lap'"):
        await resume(lab.owner, queue="lap", shop_id=None)


async def test_what_was_claimed_before_the_pause_is_finished(lab: Laboratory) -> None:
    await lab.put("slow", topic="lab.ask")
    working = asyncio.create_task(lab.consumer(queue="outside").run_once())
    async with lab.called:
        await lab.called.wait_for(lambda: lab.calls)
    await pause(lab.owner, queue="outside", shop_id=None, reason="a test")
    await lab.put("later", topic="lab.ask")
    await working
    await lab.work(queue="outside")
    assert (await lab.effects(), await lab.waiting("outside")) == (["answer to slow"], 1)


async def test_resuming_wakes_the_consumers(lab: Laboratory) -> None:
    wake_ups = WakeUps(lab.database)
    listening = asyncio.create_task(wake_ups.listen())
    woken = wake_ups.event("lab")
    async with asyncio.timeout(PATIENCE):
        await woken.wait()  # said to everybody when the listener begins
    woken.clear()
    await pause(lab.owner, queue="lab", shop_id=None, reason="a test")
    await resume(lab.owner, queue="lab", shop_id=None)
    async with asyncio.timeout(PATIENCE):
        await woken.wait()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_paused_shops_take_nobodys_place_in_the_round(lab: Laboratory) -> None:
    """Three hundred paused shops stand before the only one that is not; a claim of one must find it at once."""
    await lab.owner.execute(
        """
        INSERT INTO pgmq.q_lab (vt, message)
        SELECT clock_timestamp(), event_reference(current_date, n, 1000000 + n % 300, 'k' || n)
        FROM generate_series(1, 3000) n
        """
    )
    await lab.owner.execute(
        "INSERT INTO pauses (queue, shop_id, reason) SELECT 'lab', 1000000 + n, 'a test' FROM generate_series(0, 299) n"
    )
    last = 2_000_000
    await lab.owner.execute(
        "INSERT INTO pgmq.q_lab (vt, message) VALUES (clock_timestamp(), event_reference(current_date, 1, $1, 'k'))",
        last,
    )
    assert [each.shop_id for each in await lab.claim(1)] == [last]


async def test_a_paused_shops_backlog_is_not_read_by_the_claims_of_others(lab: Laboratory) -> None:
    await lab.put("mine")
    await lab.owner.execute(
        """
        INSERT INTO pgmq.q_lab (vt, message)
        SELECT clock_timestamp(), event_reference(current_date, n, 1000000, 'k' || n) FROM generate_series(1, 20000) n
        """
    )
    await pause(lab.owner, queue=None, shop_id=1_000_000, reason="a test")
    read = (
        "SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot(), "
        "seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'q_lab'"
    )
    async with lab.pool.acquire() as connection:
        before = (await connection.fetchrow(read) or [0] * 3)[2]
        rows = await connection.fetch("SELECT * FROM claim_lab(30, 200, 0)")
        await connection.execute("SELECT pg_stat_force_next_flush()")
        after = (await connection.fetchrow(read) or [0] * 3)[2]
    assert len(rows) == 1
    assert after - before < 100
