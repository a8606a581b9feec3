"""The event log, searched for somebody day by day, and how its events are erased with all that was written of them.

An event stays as evidence that something came, of which topic and when; what it said goes. A shop's events go whole.
Nothing here holds a transaction for longer than one day's search, or one batch's erasure, takes.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice

from sellflow.postgres.database import Connection, SessionConnection
from sellflow.postgres.personal_data import OF_EVENTS, EventRefs, Inventory, Subject
from sellflow.queue import Event
from sellflow.shops.compliance.models import Scope
from sellflow.shops.compliance.payloads import KINDS
from sellflow.shops.compliance.redaction import MARK, Traits, is_about, strip

#: Events erased in one transaction, and deleted.
ERASED_TOGETHER = 200
DELETED_TOGETHER = 1000
QUEUE = "compliance"

#: A request that its handler has not seen yet is not erased: it would not be fulfilled. Its own end erases it.
_NOT_A_NEW_REQUEST = f"""
    NOT (e.topic = ANY (ARRAY[{", ".join(f"'{topic}'" for topic in KINDS)}]) AND NOT EXISTS (
        SELECT FROM outcomes o WHERE o.day = e.day AND o.event_id = e.event_id AND o.queue = '{QUEUE}'
    ))
"""


@dataclass(frozen=True, slots=True)
class Erased:
    """What became of a batch: rows by table, and the keys of events that tell of its own."""

    counts: dict[str, int]
    linked: set[str]


async def days(connection: SessionConnection) -> list[date]:
    """Return the days that the log holds anything of, newest first: what is asked of most lies there."""
    rows = await connection.fetch("SELECT day FROM log_days() ORDER BY day DESC")
    return [row["day"] for row in rows]


async def search(
    connection: SessionConnection,
    scope: Scope,
    day: date,
    *,
    keys: Sequence[str],
    traits: Traits | None = None,
    request_id: int | None = None,
) -> list[int]:
    """Return the ids of a day's events that have one of `keys`, or mention somebody.

    Postgres looks for the bytes of ids and addresses, Python makes sure of what it finds. Events that the request
    erased before are found as well: something may have been written of them since.
    """
    mark = b"" if request_id is None else f'"{MARK}":{request_id}'.encode()
    needles = [*(traits.needles if traits else ()), *([mark] if mark else ())]
    mentions = "EXISTS (SELECT FROM unnest($5::bytea[]) AS n (needle) WHERE position(n.needle IN e.payload) > 0)"
    matches = f"(e.key = ANY ($4::text[]) OR {mentions})" if needles else "e.key = ANY ($4::text[])"
    found = []
    async with connection.transaction(readonly=True):
        for condition, arguments in _both_halves(scope):
            cursor = connection.cursor(
                f"""
                SELECT e.event_id, e.topic, CASE WHEN e.key = ANY ($4::text[]) THEN NULL ELSE e.payload END AS payload
                FROM events e WHERE e.day = $1 AND {condition} AND {matches} AND {_NOT_A_NEW_REQUEST}
                """,
                day,
                *arguments,
                list(keys),
                *([needles] if needles else ()),
                prefetch=20,
            )
            async for row in cursor:
                payload = row["payload"]
                if (
                    payload is None
                    or (mark and mark in payload)
                    or (traits and is_about(row["topic"], payload, traits))
                ):
                    found.append(row["event_id"])
    return found


def _both_halves(scope: Scope) -> Iterator[tuple[str, tuple[object, object]]]:
    """Yield conditions that together find all events of a shop, each by the index that serves it."""
    if scope.shop_id is None:
        yield "e.shop_id IS NULL AND e.app_id = $2::integer AND e.shop_domain = $3::text", (scope.app_id, scope.domain)
        return
    for half in ("e.key <> ''", "e.key = ''"):
        yield f"e.shop_id = $2::bigint AND $3::text IS NULL AND {half}", (scope.shop_id, None)


async def erase_events(
    connection: SessionConnection,
    inventory: Inventory,
    scope: Scope,
    day: date,
    *,
    event_ids: Sequence[int],
    subject: Subject,
    mark: int,
) -> Erased:
    """Strip events and erase what was written of them, in the caller's transaction."""
    rows = await connection.fetch(
        """
        SELECT event_id, topic, key, webhook_id, payload FROM events
        WHERE day = $1 AND event_id = ANY ($2::bigint[]) ORDER BY event_id FOR UPDATE
        """,
        day,
        list(event_ids),
    )
    fed = _fed_by_id(subject.customer_id)
    personal_ids = [row["webhook_id"] for row in rows if row["webhook_id"] and fed and fed.search(row["webhook_id"])]
    changed = await connection.execute(
        """
        UPDATE events e SET payload = n.payload, key = n.key, webhook_id = n.webhook_id
        FROM unnest($2::bigint[], $3::bytea[], $4::text[], $5::text[]) AS n (event_id, payload, key, webhook_id)
        WHERE e.day = $1 AND e.event_id = n.event_id
          AND (e.payload, e.key, e.webhook_id) IS DISTINCT FROM (n.payload, n.key, n.webhook_id)
        """,
        day,
        [row["event_id"] for row in rows],
        [
            strip(
                row["topic"],
                row["payload"],
                keeps=inventory.keeps,
                customer_id=subject.customer_id,
                anonymous_id=subject.anonymous_id,
                mark=mark,
            )
            for row in rows
        ],
        [_anonymous_key(row["key"], subject) for row in rows],
        [None if row["webhook_id"] in personal_ids else row["webhook_id"] for row in rows],
    )
    counts = {"events": int(changed.split()[-1]), "receipts": await _forget_receipts(connection, scope, personal_ids)}
    refs = EventRefs(scope.shop_id, day, tuple(row["event_id"] for row in rows))
    for table in inventory.tables():
        if table.erase_events:
            tag = await connection.execute(OF_EVENTS + table.erase_events, *refs.arguments)
            counts[table.name] = int(tag.split()[-1])
    return Erased(counts, await _linked(connection, inventory, refs))


def _fed_by_id(customer_id: int | None) -> re.Pattern[str] | None:
    """Return what finds ids of deliveries that name the customer: what was fed by us, not Shopify's own."""
    return None if customer_id is None else re.compile(rf"customers?[/:]{customer_id}(?!\d)")


def _anonymous_key(key: str, subject: Subject) -> str:
    """Return the key without the customer in it. Whose else it is (a late find by order, say) is left alone."""
    return f"customer:{subject.anonymous_id}" if key == f"customer:{subject.customer_id}" else key


async def _forget_receipts(connection: Connection, scope: Scope, webhook_ids: Sequence[str]) -> int:
    if not webhook_ids:
        return 0
    tag = await connection.execute(
        """
        DELETE FROM receipts r USING unnest($2::text[]) AS w (webhook_id)
        WHERE r.app_id = $1 AND r.shop_domain = $3 AND r.webhook_id = w.webhook_id
        """,
        scope.app_id,
        list(webhook_ids),
        scope.domain,
    )
    return int(tag.removeprefix("DELETE "))


async def _linked(connection: Connection, inventory: Inventory, refs: EventRefs) -> set[str]:
    keys: set[str] = set()
    for room in inventory.rooms:
        if room.find_linked:
            rows = await connection.fetch(OF_EVENTS + room.find_linked, *refs.arguments)
            keys |= {row["key"] for row in rows}
    return keys


async def delete_events(connection: SessionConnection, inventory: Inventory, scope: Scope, day: date) -> dict[str, int]:
    """Delete a batch of a shop's events of one day with what hangs on them, in the caller's transaction."""
    ids: list[int] = []
    for condition, arguments in _both_halves(scope):
        rows = await connection.fetch(
            f"SELECT e.event_id FROM events e WHERE e.day = $1 AND {condition} LIMIT $4",
            day,
            *arguments,
            DELETED_TOGETHER - len(ids),
        )
        ids += [row["event_id"] for row in rows]
    if not ids:
        return {}
    counts = {}
    refs = EventRefs(scope.shop_id, day, tuple(ids))
    for table in inventory.tables():
        if table.delete_events:
            tag = await connection.execute(OF_EVENTS + table.delete_events, *refs.arguments)
            counts[table.name] = int(tag.removeprefix("DELETE "))
    tag = await connection.execute("DELETE FROM events WHERE day = $1 AND event_id = ANY ($2::bigint[])", day, ids)
    return counts | {"events": int(tag.removeprefix("DELETE "))}


async def hand_over(connection: SessionConnection, shop_id: int) -> None:
    """Let events under a former id of a shop be adopted by the one that it has now, where it has one."""
    for half in ("e.key <> ''", "e.key = ''"):
        await connection.execute(
            f"""
            WITH handed AS (
                UPDATE events e SET shop_id = NULL
                WHERE e.shop_id = $1 AND {half}
                  AND EXISTS (SELECT FROM shops s WHERE s.app_id = e.app_id AND s.domain = e.shop_domain)
                RETURNING e.day, e.event_id
            )
            DELETE FROM outcomes o USING handed h WHERE o.day = h.day AND o.event_id = h.event_id
            """,
            shop_id,
        )


async def delete_receipts(connection: SessionConnection, scope: Scope) -> int:
    """Delete a batch of the receipts under a shop's domain, in the caller's transaction."""
    tag = await connection.execute(
        """
        DELETE FROM receipts WHERE (app_id, shop_domain, webhook_id) IN (
            SELECT app_id, shop_domain, webhook_id FROM receipts WHERE app_id = $1 AND shop_domain = $2 LIMIT $3
        )
        """,
        scope.app_id,
        scope.domain,
        DELETED_TOGETHER,
    )
    return int(tag.removeprefix("DELETE "))


async def next_events(
    connection: SessionConnection, shops: Sequence[int], day: date, *, after: int, until: int, limit: int
) -> list[Event]:
    """Return the next events of a day that are some shops', in the order of their numbers."""
    rows = await connection.fetch(
        f"""
        SELECT e.day, e.event_id, e.shop_id, e.topic, e.key, e.payload, e.received_at FROM events e
        WHERE e.day = $1 AND e.event_id > $2 AND e.event_id <= $3 AND e.shop_id = ANY ($4::bigint[])
          AND {_NOT_A_NEW_REQUEST}
        ORDER BY e.event_id LIMIT $5
        """,
        day,
        after,
        until,
        list(shops),
        limit,
    )
    return [Event(**row) for row in rows]


def batches(ids: Iterable[int], size: int = ERASED_TOGETHER) -> Iterator[list[int]]:
    """Cut ids into lists of `size`."""
    left = iter(ids)
    while batch := list(islice(left, size)):
        yield batch


async def read_events(
    connection: SessionConnection, found: Sequence[tuple[date, Sequence[int]]]
) -> AsyncIterator[tuple[date, list[int], list[dict[str, object]]]]:
    """Yield events as they are, batch by batch."""
    for day, ids in found:
        for batch in batches(ids):
            rows = await connection.fetch(
                """
                SELECT event_id, topic, key, triggered_at, received_at, payload FROM events
                WHERE day = $1 AND event_id = ANY ($2::bigint[]) ORDER BY event_id
                """,
                day,
                batch,
            )
            yield day, batch, [dict(row) for row in rows]
