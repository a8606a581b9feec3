"""The event log's day partitions: made ahead, made once, and made late without losing a row."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta

import pytest

from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.postgres.transactions import shop_transaction
from tests.conftest import Tenant
from tests.postgres.databases import connected

PARENTS = ["events", "outcomes"]


def today() -> date:
    return datetime.now(UTC).date()


def partition(parent: str, day: date) -> str:
    return f"{parent}_{day:%Y%m%d}"


async def partitions(owner: SessionConnection, parent: str) -> set[str]:
    rows = await owner.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = $1::text::regclass", parent
    )
    return {row["name"] for row in rows}


async def store_event(connection: SessionConnection | Pool, tenant: Tenant, day: date, event_id: int) -> None:
    await connection.execute(
        """
        INSERT INTO events (day, event_id, app_id, shop_id, shop_domain, topic, key, payload)
        VALUES ($1, $2, $3, $4, $5, 'shopify.orders.paid', 'order:1', '{}')
        """,
        day,
        event_id,
        tenant.app.app_id,
        tenant.shop_id,
        tenant.shop.domain,
    )


async def where_events_lie(owner: SessionConnection) -> dict[int, str]:
    rows = await owner.fetch("SELECT event_id, tableoid::regclass::text AS name FROM events")
    return {row["event_id"]: row["name"] for row in rows}


@pytest.mark.parametrize("parent", PARENTS)
async def test_partitions_are_made_for_today_and_the_days_ahead(
    owner: SessionConnection, database: Database, parent: str
) -> None:
    ahead = database.settings.event_partitions_ahead
    days = [today() + timedelta(days=number) for number in range(ahead + 1)]
    made = await partitions(owner, parent)
    assert made >= {f"{parent}_default", *(partition(parent, day) for day in days[1:])}
    await owner.execute("CALL make_day_partitions($1)", ahead)
    again = await partitions(owner, parent)
    assert again >= made
    await owner.execute("CALL make_day_partitions($1)", ahead)
    assert await partitions(owner, parent) == again


async def test_two_schedulers_make_the_same_partitions_at_once(database: Database, owner: SessionConnection) -> None:
    async with connected(database) as one, connected(database) as other:
        await asyncio.gather(*(each.execute("CALL make_day_partitions(12)") for each in (one, other)))
    for parent in PARENTS:
        assert partition(parent, today() + timedelta(days=12)) in await partitions(owner, parent)


async def test_an_event_lies_in_its_days_partition_or_in_the_default_one(
    owner: SessionConnection, ingest_pool: Pool, web_pool: Pool, tenant: Tenant
) -> None:
    soon, later = today() + timedelta(days=1), today() + timedelta(days=40)
    await store_event(ingest_pool, tenant, soon, 1)
    await store_event(ingest_pool, tenant, later, 2)
    assert await where_events_lie(owner) == {1: partition("events", soon), 2: "events_default"}
    async with shop_transaction(web_pool, tenant.shop_id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM events") == 2


async def test_events_move_out_of_the_default_partition_when_their_day_is_made(
    owner: SessionConnection, ingest_pool: Pool, web_pool: Pool, tenant: Tenant, other_tenant: Tenant
) -> None:
    day = today() + timedelta(days=10)
    await store_event(ingest_pool, tenant, day, 1)
    await store_event(ingest_pool, other_tenant, day, 2)
    await store_event(ingest_pool, tenant, day + timedelta(days=30), 3)
    await owner.execute("CALL make_day_partitions(10)")
    assert await where_events_lie(owner) == {
        1: partition("events", day),
        2: partition("events", day),
        3: "events_default",
    }
    # They are found by their key, and are as protected as they were.
    async with shop_transaction(web_pool, tenant.shop_id) as connection:
        found = await connection.fetch("SELECT event_id FROM events WHERE key = 'order:1' ORDER BY 1")
        assert [row["event_id"] for row in found] == [1, 3]


async def test_a_partition_made_later_has_the_keys_of_the_others(owner: SessionConnection) -> None:
    await owner.execute("CALL make_day_partitions(9)")
    day = today() + timedelta(days=9)
    for parent in PARENTS:
        assert await indexes(owner, partition(parent, day)) == await indexes(owner, f"{parent}_default")


async def indexes(owner: SessionConnection, table: str) -> list[str]:
    rows = await owner.fetch(
        """
        SELECT regexp_replace(pg_get_indexdef(indexrelid), '^.* USING ', '') AS definition
        FROM pg_index WHERE indrelid = $1::text::regclass ORDER BY 1
        """,
        table,
    )
    assert rows
    return [row["definition"] for row in rows]


async def test_making_partitions_waits_for_nobody_who_stores_events(
    database: Database, owner: SessionConnection, tenant: Tenant
) -> None:
    async with connected(database) as ingest, ingest.transaction():
        await store_event(ingest, tenant, today() + timedelta(days=1), 1)
        await owner.execute("SET lock_timeout = '2s'")
        await owner.execute("CALL make_day_partitions(9)")
    assert partition("events", today() + timedelta(days=9)) in await partitions(owner, "events")


async def test_a_partition_made_late_takes_in_what_is_being_stored_meanwhile(
    database: Database, owner: SessionConnection, tenant: Tenant
) -> None:
    day = today() + timedelta(days=database.settings.event_partitions_ahead + 1)
    await store_event(owner, tenant, day, 1)
    async with connected(database) as ingest, connected(database) as scheduler:
        storing = ingest.transaction()
        await storing.start()
        await store_event(ingest, tenant, day, 2)
        making = asyncio.create_task(scheduler.execute("CALL make_day_partition('events', $1)", day))
        await waits_for_a_lock(owner, scheduler.get_server_pid())
        await storing.commit()
        await making
    assert await where_events_lie(owner) == {1: partition("events", day), 2: partition("events", day)}


async def waits_for_a_lock(owner: SessionConnection, pid: int) -> None:
    """Return once the server process waits for somebody else's lock."""
    async with asyncio.timeout(10):
        while not await owner.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", pid):
            pass
