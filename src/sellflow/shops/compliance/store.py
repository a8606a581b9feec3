"""The SQL of requests, their exports, and tombstones. Handlers insert requests; everything else is the owner's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

import asyncpg
import orjson

from sellflow.errors import NotFoundError
from sellflow.postgres.database import Connection, SessionConnection
from sellflow.postgres.rows import json_rows
from sellflow.queue import Event
from sellflow.shops.compliance.models import DUE_WITHIN, Kind, Notice, Person, Request, Scope, State

#: The reason of requests that a late webhook makes.
LATE = "something came about a customer who was erased"

_REQUEST = """
    r.request_id, r.app_id, r.shop_id, r.shop_domain, r.kind, r.subject, r.external_id, r.source_day,
    r.source_event_id, r.received_at, r.due_at, r.state, r.reason, r.confirmed, r.attempts, r.last_error,
    r.fence::text AS fence, r.finished_at, r.record, r.touched, r.expires_at,
    r.since_day
"""


async def add_requests(connection: Connection, batch: Sequence[tuple[Event, Notice]]) -> None:
    """Write down what webhooks ask for, each once however often it is handled."""
    await connection.execute(
        """
        INSERT INTO compliance_requests
            (app_id, shop_id, shop_domain, kind, subject, external_id, source_day, source_event_id, received_at, due_at)
        SELECT s.app_id, s.shop_id, s.domain, n.kind, n.subject, n.external_id, n.source_day, n.source_event_id,
               n.received_at, n.due_at
        FROM json_to_recordset($1::json) AS n (
            shop_id bigint, kind text, subject jsonb, external_id bigint, source_day date, source_event_id bigint,
            received_at timestamptz, due_at timestamptz
        ) JOIN shops s USING (shop_id)
        ON CONFLICT (source_day, source_event_id) DO NOTHING
        """,
        json_rows(
            {
                "shop_id": event.shop_id,
                "kind": notice.kind.value,
                "subject": _fields(notice.person),
                "external_id": notice.external_id,
                "source_day": event.day,
                "source_event_id": event.event_id,
                "received_at": event.received_at,
                "due_at": event.received_at + DUE_WITHIN,
            }
            for event, notice in batch
        ),
    )


async def add_unknown(
    connection: Connection, scope: Scope, event: Event, notice: Notice | None, *, kind: Kind, refused: str
) -> None:
    """Write down what the webhook of an unknown shop asks for; `refused` says why nothing is done about it."""
    await connection.execute(
        """
        INSERT INTO compliance_requests
            (app_id, shop_domain, kind, subject, external_id, source_day, source_event_id, received_at, due_at, state,
             reason, finished_at)
        VALUES ($1, $2, $3, $4::jsonb, $5, $6, $7, $8, $9, CASE WHEN $10 = '' THEN 'open' ELSE 'refused' END, $10,
                CASE WHEN $10 = '' THEN NULL ELSE clock_timestamp() END)
        ON CONFLICT (source_day, source_event_id) DO NOTHING
        """,
        scope.app_id,
        scope.domain,
        kind.value,
        None if refused else _subject(notice.person if notice else None),
        notice.external_id if notice and not refused else None,
        event.day,
        event.event_id,
        event.received_at,
        event.received_at + DUE_WITHIN,
        refused,
    )


async def add_late(connection: Connection, late: Sequence[tuple[Event, Person]]) -> int:
    """Have customers erased once more, about whom something came; return how many requests that makes.

    One that waits for its second pass already will find it.
    """
    added = 0
    for event, person in late:
        tag = await connection.execute(
            """
            INSERT INTO compliance_requests
                (app_id, shop_id, shop_domain, kind, subject, source_day, source_event_id, received_at, due_at, reason,
                 since_day)
            SELECT s.app_id, s.shop_id, s.domain, 'customer_redact', $2::jsonb, $3, $4, $5, $6, $7, $3
            FROM shops s WHERE s.shop_id = $1 AND NOT EXISTS (
                SELECT FROM compliance_requests r
                WHERE r.shop_id = s.shop_id AND r.kind = 'customer_redact' AND r.finished_at IS NULL
                  AND r.subject @> $2::jsonb
            )
            ON CONFLICT (source_day, source_event_id) DO NOTHING
            """,
            event.shop_id,
            _subject(person),
            event.day,
            event.event_id,
            event.received_at,
            event.received_at + DUE_WITHIN,
            LATE,
        )
        added += tag == "INSERT 0 1"
    return added


def _fields(person: Person | None) -> dict[str, object] | None:
    if person is None:
        return None
    return {
        "customer_id": person.customer_id,
        "email": person.email,
        "phone": person.phone,
        "order_ids": sorted(person.order_ids),
    }


def _subject(person: Person | None) -> str | None:
    return None if person is None else orjson.dumps(_fields(person)).decode()


async def list_requests(
    connection: Connection,
    *,
    shop_id: int | None = None,
    unfinished: bool = False,
    before: int | None = None,
    limit: int = 50,
) -> list[Request]:
    """Return the newest requests; of one shop, not finished, or from before one, where it is asked for."""
    rows = await connection.fetch(
        f"""
        SELECT {_REQUEST} FROM compliance_requests r
        WHERE ($1::bigint IS NULL OR r.shop_id = $1) AND (NOT $2 OR r.finished_at IS NULL)
          AND ($3::bigint IS NULL OR r.request_id < $3)
        ORDER BY r.request_id DESC LIMIT $4
        """,
        shop_id,
        unfinished,
        before,
        limit,
    )
    return [_request(row) for row in rows]


async def find_request(connection: Connection, request_id: int) -> Request:
    """Return a request, as far as the login sees it.

    Raises
    ------
    NotFoundError
        If there is none with this id.
    """
    row = await connection.fetchrow(f"SELECT {_REQUEST} FROM compliance_requests r WHERE r.request_id = $1", request_id)
    if row is None:
        raise NotFoundError(f"there is no request {request_id}; `sellflow compliance list` shows those there are")
    return _request(row)


async def due_requests(connection: SessionConnection) -> list[Request]:
    """Return the requests that something can be done about now, those due soonest first."""
    rows = await connection.fetch(
        f"""
        SELECT {_REQUEST} FROM compliance_requests r
        WHERE r.state IN ('open', 'settling') AND r.next_at <= clock_timestamp()
        ORDER BY r.due_at, r.request_id
        """
    )
    return [_request(row) for row in rows]


async def shops_erased_since(connection: SessionConnection, moment: datetime) -> list[Request]:
    """Return the requests by which shops were erased lately."""
    rows = await connection.fetch(
        f"""
        SELECT {_REQUEST} FROM compliance_requests r
        WHERE r.kind = 'shop_redact' AND r.state = 'done' AND r.shop_id IS NOT NULL AND r.finished_at > $1
        ORDER BY r.request_id
        """,
        moment,
    )
    return [_request(row) for row in rows]


def _request(row: asyncpg.Record) -> Request:
    facts = dict(row)
    subject = facts.pop("subject")
    person = None
    if subject is not None:
        fields = orjson.loads(subject)
        person = Person(fields["customer_id"], fields["email"], fields["phone"], frozenset(fields["order_ids"]))
    facts["kind"], facts["state"] = Kind(facts["kind"]), State(facts["state"])
    facts["record"], facts["touched"] = orjson.loads(facts["record"]), tuple(facts["touched"])
    return Request(person=person, **facts)


async def save_record(
    connection: Connection, request_id: int, record: dict[str, int], touched: Collection[str]
) -> None:
    """Write down what was erased so far, in the transaction that erases it."""
    await connection.execute(
        "UPDATE compliance_requests SET record = $2::jsonb, touched = $3 WHERE request_id = $1",
        request_id,
        orjson.dumps(record).decode(),
        sorted(touched),
    )


async def settle(connection: Connection, request_id: int, *, seconds: float) -> None:
    """Have a request gone through once more after some seconds, when all that is under way now has ended."""
    await connection.execute(
        """
        UPDATE compliance_requests
        SET state = 'settling', fence = pg_snapshot_xmax(pg_current_snapshot()), last_error = '',
            next_at = clock_timestamp() + make_interval(secs => $2)
        WHERE request_id = $1
        """,
        request_id,
        seconds,
    )


async def is_past(connection: Connection, fence: str) -> bool:
    """Say whether every transaction from before `fence` has ended."""
    return bool(await connection.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8", fence))


async def finish(connection: Connection, request_id: int, *, expires_at: datetime | None = None) -> None:
    """Note that a request is done."""
    await connection.execute(
        """
        UPDATE compliance_requests
        SET state = 'done', finished_at = clock_timestamp(), last_error = '', expires_at = $2, reason = ''
        WHERE request_id = $1
        """,
        request_id,
        expires_at,
    )


async def hold(connection: Connection, request_id: int, reason: str) -> None:
    """Leave a request until an operator confirms it."""
    await connection.execute(
        "UPDATE compliance_requests SET state = 'held', reason = $2 WHERE request_id = $1", request_id, reason
    )


async def confirm(connection: Connection, request_id: int) -> bool:
    """Have a held request done all the same; False where it is not held."""
    tag = await connection.execute(
        """
        UPDATE compliance_requests SET state = 'open', confirmed = true, reason = '', next_at = clock_timestamp()
        WHERE request_id = $1 AND state = 'held'
        """,
        request_id,
    )
    return tag == "UPDATE 1"


async def hurry(connection: Connection) -> None:
    """Have every unfinished request tried now."""
    await connection.execute(
        "UPDATE compliance_requests SET next_at = clock_timestamp() WHERE state IN ('open', 'settling')"
    )


async def postpone(connection: Connection, request_id: int, *, seconds: float, error: str, is_failure: bool) -> None:
    """Have a request tried again after some seconds."""
    await connection.execute(
        """
        UPDATE compliance_requests
        SET next_at = clock_timestamp() + make_interval(secs => $2), last_error = $3, attempts = attempts + $4
        WHERE request_id = $1
        """,
        request_id,
        seconds,
        error,
        int(is_failure),
    )


async def forget_person(connection: Connection, request: Request) -> int:
    """Take a customer out of every request about them, together with what was exported of them."""
    assert request.person is not None
    rows = await connection.fetch(
        """
        UPDATE compliance_requests r SET subject = NULL
        WHERE r.request_id = $1 OR (
            r.app_id = $2 AND r.shop_id IS NOT DISTINCT FROM $3 AND r.shop_domain = $4 AND r.subject IS NOT NULL
            AND (r.finished_at IS NOT NULL OR r.kind = 'data_request') AND (
                r.subject ->> 'customer_id' = $5 OR r.subject ->> 'email' = $6 OR r.subject ->> 'phone' = $7
            )
        )
        RETURNING r.request_id
        """,
        request.request_id,
        request.app_id,
        request.shop_id,
        request.shop_domain,
        None if request.person.customer_id is None else str(request.person.customer_id),
        request.person.email,
        request.person.phone,
    )
    ids = [row["request_id"] for row in rows]
    await connection.execute(
        """
        UPDATE compliance_requests
        SET state = 'done', finished_at = clock_timestamp(), reason = 'the customer was erased meanwhile'
        WHERE request_id = ANY ($1::bigint[]) AND kind = 'data_request' AND finished_at IS NULL
        """,
        ids,
    )
    tag = await connection.execute("DELETE FROM compliance_exports WHERE request_id = ANY ($1::bigint[])", ids)
    return int(tag.removeprefix("DELETE "))


async def forget_domain(connection: Connection, request: Request) -> int:
    """Take a shop and its customers out of every request about them; what was not done yet is done with the shop.

    Returns how many parts of exports went with it.
    """
    rows = await connection.fetch(
        """
        WITH about AS (
            SELECT r.request_id, r.finished_at IS NULL AND r.kind <> 'shop_redact' AS is_moot
            FROM compliance_requests r
            WHERE r.request_id = $1 OR r.shop_id = $2
               OR (r.shop_id IS NULL AND r.app_id = $3 AND r.shop_domain = $4 AND r.received_at <= $5)
        )
        UPDATE compliance_requests r
        SET subject = NULL, shop_domain = NULL, expires_at = NULL,
            state = CASE WHEN a.is_moot THEN 'done' ELSE r.state END,
            reason = CASE WHEN a.is_moot THEN 'the shop was erased meanwhile' ELSE r.reason END,
            finished_at = CASE WHEN a.is_moot THEN clock_timestamp() ELSE r.finished_at END
        FROM about a WHERE r.request_id = a.request_id
        RETURNING r.request_id
        """,
        request.request_id,
        request.shop_id,
        request.app_id,
        request.shop_domain,
        request.received_at,
    )
    tag = await connection.execute(
        "DELETE FROM compliance_exports WHERE request_id = ANY ($1::bigint[])", [row["request_id"] for row in rows]
    )
    return int(tag.removeprefix("DELETE "))


async def add_tombstones(connection: Connection, shop_id: int, hashes: Iterable[bytes]) -> None:
    """Remember who was erased."""
    await connection.execute(
        """
        INSERT INTO tombstones (shop_id, hash) SELECT $1, hash FROM unnest($2::bytea[]) AS h (hash) ORDER BY hash
        ON CONFLICT (shop_id, hash) DO NOTHING
        """,
        shop_id,
        list(hashes),
    )


async def find_tombstones(connection: Connection, keys: Sequence[tuple[int, bytes]]) -> set[tuple[int, bytes]]:
    """Return those of (shop, hash) that are remembered."""
    rows = await connection.fetch(
        """
        SELECT t.shop_id, t.hash
        FROM tombstones t JOIN unnest($1::bigint[], $2::bytea[]) AS k (shop_id, hash) USING (shop_id, hash)
        """,
        [shop_id for shop_id, _ in keys],
        [key_hash for _, key_hash in keys],
    )
    return {(row["shop_id"], row["hash"]) for row in rows}


async def count_unfinished(connection: Connection) -> dict[tuple[Kind, str], int]:
    """Return how many requests are open, held, settling and overdue, by kind."""
    rows = await connection.fetch(
        """
        SELECT kind, state, count(*) AS requests, count(*) FILTER (WHERE due_at < clock_timestamp()) AS overdue
        FROM compliance_requests WHERE finished_at IS NULL GROUP BY kind, state
        """
    )
    found: dict[tuple[Kind, str], int] = {}
    for row in rows:
        kind = Kind(row["kind"])
        found[kind, row["state"]] = row["requests"]
        found[kind, "overdue"] = found.get((kind, "overdue"), 0) + row["overdue"]
    return found
