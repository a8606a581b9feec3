"""A worker's hold on messages: claiming them, taking them inside a transaction, extending and handing back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

import asyncpg
from pydantic import BaseModel, Field, ValidationError

from sellflow.postgres.database import Connection, Pool
from sellflow.queue.routing import WAKE_UP_CHANNEL
from sellflow.queue.topics import Event

LARGEST_ID = 2**63 - 1

#: A shop and a key of its: messages of the same line keep their order.
Line = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Claim:
    """One claimed message. `read_ct` fences it: whoever claims it later raises the count.

    `failures` counts the failed attempts of this round, `replay` the rounds that began with a replay.
    """

    msg_id: int
    read_ct: int
    day: date
    event_id: int
    shop_id: int
    key: str
    failures: int = 0
    replay: int = 0
    #: Whether it was parked or replayed, so that others may wait behind it.
    has_history: bool = False

    @property
    def line(self) -> Line | None:
        """Its shop and key, or None where no order matters."""
        return (self.shop_id, self.key) if self.key else None


class _Reference(BaseModel):
    """What a message says: where its event lies."""

    day: date
    event_id: int = Field(ge=0, le=LARGEST_ID)
    shop_id: int = Field(ge=0, le=LARGEST_ID)
    key: str


class _History(BaseModel):
    """What the headers of a message say: how often it failed already."""

    failures: int = Field(default=0, ge=0)
    replay: int = Field(default=0, ge=0)


_NO_HISTORY = _History()


@dataclass(frozen=True, slots=True)
class Claimed:
    """What one claim brought: messages to work on, and how many were moved out of the way."""

    claims: list[Claim]
    moved: int
    #: The shop to go on after in the next round.
    last_shop: int


async def claim(pool: Pool, queue: str, *, visibility_timeout: float, quantity: int, after_shop: int) -> Claimed:
    """Claim up to `quantity` messages for `visibility_timeout` seconds, in turn from every shop, eldest first.

    No message is claimed while an elder one of its shop and key is in flight, parked, or a dead letter that blocks
    (see prepare_queue() in the migrations).
    """
    rows = await pool.fetch(
        f'SELECT msg_id, read_ct, message, headers, place FROM "claim_{queue}"($1, $2, $3)',
        visibility_timeout,
        quantity,
        after_shop,
    )
    held = [row for row in rows if row["read_ct"] is not None]
    claims = {row["msg_id"]: _claim(row["msg_id"], row["read_ct"], row["message"], row["headers"]) for row in held}
    last = max(held, key=lambda row: row["place"], default=None)
    return Claimed(
        claims=[claims[msg_id] for msg_id in sorted(claims)],
        moved=len(rows) - len(held),
        last_shop=claims[last["msg_id"]].shop_id if last else 0,
    )


def _claim(msg_id: int, read_ct: int, message: str | None, headers: str | None) -> Claim:
    """Read a message; one that is no reference to an event becomes a claim on an event that cannot be."""
    try:
        reference = _Reference.model_validate_json(message or "")
        history = _History.model_validate_json(headers) if headers else _NO_HISTORY
    except ValidationError:
        return Claim(msg_id, read_ct, day=datetime.now(UTC).date(), event_id=-msg_id, shop_id=0, key="")
    return Claim(
        msg_id,
        read_ct,
        reference.day,
        reference.event_id,
        reference.shop_id,
        reference.key,
        history.failures,
        history.replay,
        has_history=headers is not None,
    )


async def take(connection: Connection, queue: str, claims: Sequence[Claim]) -> list[tuple[Claim, Event]]:
    """Acknowledge the claims that are still ours and return them with their events, eldest first.

    The first statement of a consumer's transaction. pgmq deletes by id alone, so a worker whose visibility
    timeout ran out could acknowledge what another holds by now; the read count in the condition prevents it.
    Where somebody else holds a message by now, the later ones of its key are left as well.
    Rows are locked in id order, so two workers with overlapping claims wait for each other instead of deadlocking.
    """
    rows = await connection.fetch(
        f"""
        WITH wanted AS (
            SELECT * FROM unnest($1::bigint[], $2::integer[], $3::date[], $4::bigint[], $5::bigint[], $6::text[])
                AS w (msg_id, read_ct, day, event_id, shop_id, key)
        ), held AS MATERIALIZED (
            SELECT q.msg_id, w.day, w.event_id, w.shop_id, w.key
            FROM pgmq."q_{queue}" q JOIN wanted w USING (msg_id, read_ct)
            ORDER BY q.msg_id
            FOR UPDATE OF q
        ), lost AS MATERIALIZED (
            SELECT msg_id, shop_id, key FROM wanted WHERE key <> ''
            EXCEPT SELECT msg_id, shop_id, key FROM held
        ), taken AS (
            DELETE FROM pgmq."q_{queue}" q USING held h
            WHERE q.msg_id = h.msg_id AND NOT EXISTS (
                SELECT FROM lost l WHERE l.shop_id = h.shop_id AND l.key = h.key AND l.msg_id < h.msg_id
            )
            RETURNING h.msg_id, h.day, h.event_id
        )
        SELECT t.msg_id, e.topic, e.key, e.payload, e.received_at
        FROM taken t LEFT JOIN events e ON e.day = t.day AND e.event_id = t.event_id
        """,
        *_columns(claims),
    )
    return _with_events(claims, rows)


async def look(connection: Connection, queue: str, claims: Sequence[Claim]) -> list[tuple[Claim, Event]]:
    """Return the claims that are still ours with their events, and leave both as they are."""
    rows = await connection.fetch(
        f"""
        SELECT w.msg_id, e.topic, e.key, e.payload, e.received_at
        FROM unnest($1::bigint[], $2::integer[], $3::date[], $4::bigint[]) AS w (msg_id, read_ct, day, event_id)
        JOIN pgmq."q_{queue}" q USING (msg_id, read_ct)
        LEFT JOIN events e ON e.day = w.day AND e.event_id = w.event_id
        """,
        *_columns(claims)[:4],
    )
    return _with_events(claims, rows)


def _columns(claims: Sequence[Claim]) -> tuple[list[int], list[int], list[date], list[int], list[int], list[str]]:
    return (
        [each.msg_id for each in claims],
        [each.read_ct for each in claims],
        [each.day for each in claims],
        [each.event_id for each in claims],
        [each.shop_id for each in claims],
        [each.key for each in claims],
    )


def _with_events(claims: Sequence[Claim], rows: Sequence[asyncpg.Record]) -> list[tuple[Claim, Event]]:
    found = {row["msg_id"]: row for row in rows}
    held = sorted((each for each in claims if each.msg_id in found), key=lambda each: each.msg_id)
    return [(each, _event(each, found[each.msg_id])) for each in held]


def _event(held: Claim, row: asyncpg.Record) -> Event:
    """Return the event of a claim; one that is gone from the log has no topic."""
    return Event(
        day=held.day,
        event_id=held.event_id,
        shop_id=held.shop_id,
        topic=row["topic"] or "",
        key=row["key"] or "",
        payload=row["payload"] or b"",
        received_at=row["received_at"] or datetime.combine(held.day, time.min, UTC),
    )


async def extend(pool: Pool, queue: str, claims: Sequence[Claim], *, visibility_timeout: float) -> None:
    """Hide claims that are still ours for `visibility_timeout` seconds from now: their work takes long.

    What a transaction has taken already is passed over: nobody can claim it while that lasts.
    """
    await pool.execute(
        f"""
        WITH held AS (
            SELECT q.msg_id FROM pgmq."q_{queue}" q
            JOIN unnest($1::bigint[], $2::integer[]) AS c (msg_id, read_ct) USING (msg_id, read_ct)
            ORDER BY q.msg_id
            FOR UPDATE OF q SKIP LOCKED
        )
        UPDATE pgmq."q_{queue}" q SET vt = clock_timestamp() + make_interval(secs => $3)
        FROM held WHERE q.msg_id = held.msg_id
        """,
        *_columns(claims)[:2],
        visibility_timeout,
    )


async def hand_back(pool: Pool, queue: str, claims: Sequence[Claim], *, were_tried: bool = False) -> None:
    """Make claims visible again at once, those that are still ours: their work was given up, not failed.

    The read is taken back with the claim, since reads without an outcome tell of workers that died; unless they
    `were_tried`, and one of them may be what went wrong. Whoever held the message before under the lowered count may
    take it while nobody else holds it; nobody can who gave it up.
    """
    await pool.execute(
        f"""
        WITH held AS (
            SELECT q.msg_id FROM pgmq."q_{queue}" q
            JOIN unnest($1::bigint[], $2::integer[]) AS c (msg_id, read_ct) USING (msg_id, read_ct)
            ORDER BY q.msg_id
            FOR UPDATE OF q SKIP LOCKED
        ), freed AS (
            UPDATE pgmq."q_{queue}" q SET vt = clock_timestamp(), read_ct = read_ct - $5
            FROM held WHERE q.msg_id = held.msg_id
        )
        SELECT pg_notify($3, $4)
        """,
        *_columns(claims)[:2],
        WAKE_UP_CHANNEL,
        queue,
        0 if were_tried else 1,
    )
