"""Webhooks about somebody who was erased already: delivered late, sent again, or fed by hand.

They are stored as they come, as any webhook is: ingest knows nothing of customers. A search behind it, over what came
since the last one, finds them by their tombstones. Each becomes a request of its own, and is erased as the first was.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import asyncpg

from sellflow.postgres.database import SessionConnection
from sellflow.queue import Event
from sellflow.shops.compliance import event_log, store
from sellflow.shops.compliance.models import Person
from sellflow.shops.compliance.redaction import MARK, customers_of
from sellflow.shops.compliance.tombstones import tombstone

#: Events looked at in one go.
BATCH = 100
#: Seconds that events are left alone after they came: numbers are drawn before they are committed.
LAG = 60.0
#: Shops are watched for so many days after their last erasure. Shopify may be a day late.
WATCHED_DAYS = 30


async def find_late(connection: SessionConnection, key: bytes, *, lag: float = LAG) -> int:
    """Make requests of what came about erased customers since the last search; return how many there were."""
    progress = await connection.fetchrow("SELECT day, event_id FROM compliance_progress")
    horizon = await _horizon(connection, lag)
    if progress is None or horizon is None:
        return 0
    shops = await _watched_shops(connection)
    first = progress["day"] or await _first_day(connection)
    found = 0
    if shops and first is not None:
        for day in sorted(day for day in await event_log.days(connection) if first <= day <= horizon["day"]):
            after = progress["event_id"] or 0 if day == progress["day"] else 0
            until = horizon["event_id"] if day == horizon["day"] else 2**63 - 1
            found += await _search_day(connection, key, shops, day, after=after, until=until)
    await connection.execute(
        "UPDATE compliance_progress SET day = $1, event_id = $2", horizon["day"], horizon["event_id"]
    )
    return found


async def _horizon(connection: SessionConnection, lag: float) -> asyncpg.Record | None:
    """Return the last event that may be looked at: what came before it is there."""
    return await connection.fetchrow(
        """
        SELECT day, event_id FROM events WHERE received_at <= clock_timestamp() - make_interval(secs => $1)
        ORDER BY day DESC, event_id DESC LIMIT 1
        """,
        lag,
    )


async def _watched_shops(connection: SessionConnection) -> list[int]:
    rows = await connection.fetch(
        "SELECT DISTINCT shop_id FROM tombstones WHERE created_at > clock_timestamp() - make_interval(days => $1)",
        WATCHED_DAYS,
    )
    return [row["shop_id"] for row in rows]


async def _first_day(connection: SessionConnection) -> date | None:
    """Return the day of the first erasure: where the first search begins."""
    day: date | None = await connection.fetchval("SELECT (min(created_at) AT TIME ZONE 'UTC')::date FROM tombstones")
    return day


async def _search_day(
    connection: SessionConnection, key: bytes, shops: Sequence[int], day: date, *, after: int, until: int
) -> int:
    found = 0
    while rows := await event_log.next_events(connection, shops, day, after=after, until=until, limit=BATCH):
        found += await _make_requests(connection, key, rows)
        after = rows[-1].event_id
    return found


async def _make_requests(connection: SessionConnection, key: bytes, events: Sequence[Event]) -> int:
    abouts = {event.event_id: _abouts(event) for event in events}
    hashes = {
        (event.shop_id, about): tombstone(key, event.shop_id, about)
        for event in events
        for about in abouts[event.event_id]
    }
    known = await store.find_tombstones(connection, [(shop_id, each) for (shop_id, _), each in hashes.items()])
    late = []
    for event in events:
        erased = {each for each in abouts[event.event_id] if (event.shop_id, hashes[event.shop_id, each]) in known}
        if erased:
            late += [(event, person) for person in _people(erased)]
    return await store.add_late(connection, late)


def _abouts(event: Event) -> set[str]:
    """Return what an event is about, in the words of keys; what is erased already is only told by its key."""
    named = {f"customer:{customer_id}" for customer_id in customers_of(event.topic, event.payload)}
    is_erased = f'"{MARK}":'.encode() in event.payload
    if event.key.startswith("customer:") or (event.key.startswith("order:") and not is_erased):
        named.add(event.key)
    return named


def _people(erased: set[str]) -> list[Person]:
    """Return whom to erase: customers one by one, the first together with the orders."""
    orders = frozenset(_number(each) for each in erased if each.startswith("order:"))
    customers = sorted(_number(each) for each in erased if each.startswith("customer:"))
    return [
        Person(customer_id, None, None, orders if place == 0 else frozenset())
        for place, customer_id in enumerate(customers or [None])
    ]


def _number(about: str) -> int:
    return int(about.partition(":")[2])
