"""What was written down beside events goes with their day, and receipts after their own time."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest
from prometheus_client import REGISTRY

from sellflow.postgres.database import Database, SessionConnection
from sellflow.queue.housekeeping import pruning, receipts
from sellflow.queue.housekeeping.pruning import STEPS, PruneStep, prune_log
from sellflow.queue.housekeeping.receipts import prune_receipts
from tests.postgres.databases import connected
from tests.queue.housekeeping.conftest import RETENTION, OldDays


async def days_of(owner: SessionConnection, table: str) -> list[date]:
    return [row["day"] for row in await owner.fetch(f"SELECT DISTINCT day FROM {table} ORDER BY day")]


async def test_attempts_and_resolved_dead_letters_go_with_their_day_and_not_before(old_days: OldDays) -> None:
    young, gone = await old_days.make(RETENTION), old_days.day(RETENTION + 2)
    held = await old_days.make(RETENTION + 1)
    for day in (young, held):
        await old_days.failed_attempt(day, await old_days.dead_letter(day, state="discarded"))
    await old_days.make(RETENTION + 2)
    await old_days.failed_attempt(gone, await old_days.dead_letter(gone, state="replayed"))
    waiting = old_days.day(RETENTION + 3)
    await old_days.make(RETENTION + 3)
    await old_days.dead_letter(waiting)
    for day in (gone, waiting):
        await old_days.owner.execute(f"DROP TABLE events_{day:%Y%m%d}, outcomes_{day:%Y%m%d}")

    assert (
        await prune_log(RETENTION).run(old_days.owner)
        == "1 failed_attempts, 1 dead_letters, 0 endpoint_deliveries pruned"
    )
    assert await days_of(old_days.owner, "failed_attempts") == [held, young]
    assert await days_of(old_days.owner, "dead_letters") == [waiting, held, young], "a waiting letter is never lost"
    assert (
        await prune_log(RETENTION).run(old_days.owner)
        == "0 failed_attempts, 0 dead_letters, 0 endpoint_deliveries pruned"
    )


async def test_pruning_goes_on_until_nothing_is_left(old_days: OldDays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BATCH", 2)
    for number in range(5):
        await old_days.failed_attempt(old_days.day(RETENTION + 1), number)
    before = REGISTRY.get_sample_value("sellflow_rows_pruned_total", {"table": "failed_attempts"}) or 0
    await prune_log(RETENTION).run(old_days.owner)
    assert await days_of(old_days.owner, "failed_attempts") == []
    assert REGISTRY.get_sample_value("sellflow_rows_pruned_total", {"table": "failed_attempts"}) == before + 5


async def test_another_room_adds_a_step_of_its_own(old_days: OldDays) -> None:
    asked = []

    async def delete(_connection: SessionConnection, before: date, held: object) -> int:
        asked.append((before, held))
        return 3

    held = await old_days.make(RETENTION + 1)
    job = prune_log(RETENTION, [*STEPS, PruneStep("deliveries", delete)])
    assert (await job.run(old_days.owner)).endswith("3 deliveries pruned")
    assert asked == [(old_days.day(RETENTION), [held])]


async def add_receipts(owner: SessionConnection, *ages: float) -> None:
    await owner.executemany(
        """
        INSERT INTO receipts (app_id, shop_domain, webhook_id, received_at)
        VALUES (1, 'acme.myshopify.com', gen_random_uuid()::text, now() - make_interval(secs => $1))
        """,
        [(age * 86400,) for age in ages],
    )


async def test_receipts_past_their_retention_are_pruned_page_by_page(
    owner: SessionConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "PAGES", 2)
    await add_receipts(owner, *[30.01, 29.99, 400, 0] * 300)
    assert await owner.fetchval("SELECT pg_relation_size('receipts') / 8192") > 4, "it takes several rounds"
    assert await prune_receipts(30).run(owner) == "600 receipts pruned"
    assert await owner.fetchval("SELECT count(*) FROM receipts WHERE received_at < now() - interval '30 days'") == 0
    assert await owner.fetchval("SELECT count(*) FROM receipts") == 600
    assert await prune_receipts(30).run(owner) == "0 receipts pruned"


async def test_receipts_of_a_page_range_are_found_without_reading_the_table(owner: SessionConnection) -> None:
    await add_receipts(owner, *[1] * 500)
    plan = await owner.fetchval(
        "EXPLAIN (FORMAT JSON) DELETE FROM receipts WHERE ctid >= '(2,0)'::tid AND ctid < '(4,0)'::tid "
        "AND received_at < now()"
    )
    assert '"Tid Range Scan"' in plan


async def test_two_prune_the_same_receipts_at_once_while_webhooks_come(
    database: Database, owner: SessionConnection
) -> None:
    await add_receipts(owner, *[40] * 2000)
    async with connected(database) as one, connected(database) as other:
        told, also_told, _ = await asyncio.gather(
            prune_receipts(30).run(one), prune_receipts(30).run(other), add_receipts(owner, *[0] * 200)
        )
    assert sum(int(each.split()[0]) for each in (told, also_told)) == 2000
    assert await owner.fetchval("SELECT count(*) FROM receipts") == 200
