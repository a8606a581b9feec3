"""Resolving dead letters: putting them back into their queue, or giving them up; a few, or many at a rate."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from sellflow.postgres.database import Connection, SessionConnection
from sellflow.queue.dead_letters import LetterFilter, ids_after
from sellflow.queue.parking import back_into, release_lines
from sellflow.queue.routing import WAKE_UP_CHANNEL
from sellflow.waiting import wait_at_most

#: Most letters resolved in one transaction.
MOST_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a dead letter was left as it is: a stable code, and words."""

    dead_letter_id: int
    code: str
    message: str


@dataclass(slots=True)
class Resolution:
    """Which dead letters were resolved, and which were not."""

    resolved: list[int] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Decision:
    """Who resolves dead letters, and why: kept with them."""

    by: str
    reason: str = ""


#: Resolves the dead letters with these ids, inside the caller's transaction.
Resolve = Callable[[Connection, Sequence[int], Decision], Awaitable[Resolution]]


async def replay(connection: Connection, ids: Sequence[int], decision: Decision) -> Resolution:
    """Put dead letters back to their old place in their queue, with a new round of attempts.

    Inside the caller's transaction. Only letters that wait are moved, so nothing is replayed twice, whoever else
    replays them at this moment. What waits behind one goes on waiting until its message is finished. What the queue
    did with the event is no longer an outcome: the message has not come to its end.
    """
    resolution = Resolution()
    for queue in await _queues_of(connection, ids):
        rows = await connection.fetch(
            f"""
            WITH wanted AS MATERIALIZED (
                SELECT dead_letter_id, msg_id, shop_id, day, event_id, key, replays FROM dead_letters
                WHERE dead_letter_id = ANY ($1::bigint[]) AND queue = $2 AND state = 'waiting'
                ORDER BY dead_letter_id
                FOR UPDATE
            ), present AS (
                SELECT w.msg_id, event_reference(w.day, w.event_id, w.shop_id, w.key) AS message,
                       jsonb_build_object('failures', 0, 'replay', w.replays + 1) AS headers
                FROM wanted w
                JOIN events e ON e.day = w.day AND e.event_id = w.event_id AND e.shop_id = w.shop_id
            ), {back_into(queue, "present")}, resolved AS (
                UPDATE dead_letters d
                SET state = 'replayed', replays = d.replays + 1, resolved_at = clock_timestamp(), resolved_by = $3,
                    reason = $4
                FROM wanted w JOIN back b USING (msg_id) WHERE d.dead_letter_id = w.dead_letter_id
                RETURNING d.dead_letter_id, d.day, d.event_id
            ), reopened AS (
                DELETE FROM outcomes o USING resolved r
                WHERE o.day = r.day AND o.event_id = r.event_id AND o.queue = $2
            )
            SELECT dead_letter_id FROM resolved ORDER BY dead_letter_id
            """,
            list(ids),
            queue,
            decision.by,
            decision.reason,
        )
        if rows:
            resolution.resolved += [row["dead_letter_id"] for row in rows]
            await _announce(connection, queue)
    resolution.refused = await _refusals(connection, ids, resolution.resolved)
    return resolution


async def discard(connection: Connection, ids: Sequence[int], decision: Decision) -> Resolution:
    """Give dead letters up, and let go what waits behind them; inside the caller's transaction.

    The letter, its attempts and its outcome stay as the record. Only letters that wait are discarded.
    """
    rows = await connection.fetch(
        """
        WITH wanted AS MATERIALIZED (
            SELECT dead_letter_id FROM dead_letters
            WHERE dead_letter_id = ANY ($1::bigint[]) AND state = 'waiting'
            ORDER BY dead_letter_id
            FOR UPDATE
        )
        UPDATE dead_letters d
        SET state = 'discarded', resolved_at = clock_timestamp(), resolved_by = $2, reason = $3
        FROM wanted w WHERE d.dead_letter_id = w.dead_letter_id
        RETURNING d.dead_letter_id, d.queue, d.shop_id, d.key, d.blocks_key
        """,
        list(ids),
        decision.by,
        decision.reason,
    )
    lines: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for row in rows:
        if row["blocks_key"] and row["key"]:
            lines[row["queue"]].append((row["shop_id"], row["key"]))
    # Always in the same order: two that discard at once must not wait for each other.
    for queue in sorted(lines):
        await release_lines(connection, queue, lines[queue])
        await _announce(connection, queue)
    resolved = sorted(row["dead_letter_id"] for row in rows)
    return Resolution(resolved, await _refusals(connection, ids, resolved))


async def _queues_of(connection: Connection, ids: Sequence[int]) -> list[str]:
    """Return the queues of waiting letters, those that exist."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT d.queue FROM dead_letters d JOIN pgmq.meta m ON m.queue_name = d.queue
        WHERE d.dead_letter_id = ANY ($1::bigint[]) AND d.state = 'waiting'
        ORDER BY d.queue
        """,
        list(ids),
    )
    return [row["queue"] for row in rows]


async def _announce(connection: Connection, queue: str) -> None:
    await connection.execute("SELECT pg_notify($1, $2)", WAKE_UP_CHANNEL, queue)


async def _refusals(connection: Connection, ids: Sequence[int], resolved: Sequence[int]) -> list[Refusal]:
    """Say why the others of `ids` were left as they are."""
    left = sorted(set(ids) - set(resolved))
    if not left:
        return []
    rows = await connection.fetch(
        """
        SELECT i.dead_letter_id, d.state, d.queue, d.day, d.event_id, e.event_id IS NOT NULL AS has_event
        FROM unnest($1::bigint[]) AS i (dead_letter_id)
        LEFT JOIN dead_letters d USING (dead_letter_id)
        LEFT JOIN events e ON e.day = d.day AND e.event_id = d.event_id AND e.shop_id = d.shop_id
        ORDER BY i.dead_letter_id
        """,
        left,
    )
    return [Refusal(row["dead_letter_id"], *_why(**dict(row))) for row in rows]


def _why(
    *, dead_letter_id: int, state: str | None, queue: str, day: object, event_id: int, has_event: bool
) -> tuple[str, str]:
    if state is None:
        return "not_found", f"there is no dead letter {dead_letter_id}"
    if state != "waiting":
        return "dead_letter.resolved", f"dead letter {dead_letter_id} was {state} already"
    if not has_event:
        return "queue.event_gone", (
            f"dead letter {dead_letter_id} is kept, but cannot be replayed: the event log holds its event {event_id} "
            f"of {day} no more"
        )
    return "queue.place_taken", (
        f"dead letter {dead_letter_id} is kept, but cannot be replayed: the queue {queue} is gone, or another message "
        "has its place. Was the queue made anew?"
    )


async def resolve_many(
    connection: SessionConnection,
    wanted: LetterFilter,
    resolve: Resolve,
    decision: Decision,
    *,
    rate: float | None,
    limit: int | None = None,
    stop: asyncio.Event,
    progress: Callable[[Resolution], None],
) -> Resolution:
    """Resolve the letters that are meant and waiting, each batch in a transaction of its own, `rate` a second at most.

    `progress` gets each batch as it is committed. It ends after the batch in hand when `stop` is set, and may be run
    again to go on. A letter that is replayed and fails again meanwhile is not replayed a second time by the same run.
    """
    whole = Resolution()
    started = time.monotonic()
    async for ids in _batches(connection, wanted, size=batch_size(rate), limit=limit):
        async with connection.transaction():
            batch = await resolve(connection, ids, decision)
        whole.resolved += batch.resolved
        whole.refused += batch.refused
        progress(batch)
        if rate is not None:
            await wait_at_most(stop, started + len(whole.resolved) / rate - time.monotonic())
        if stop.is_set():
            break
    return whole


def batch_size(rate: float | None) -> int:
    """Return how many letters go into one transaction: a quarter second's share of the rate."""
    return MOST_AT_ONCE if rate is None else max(1, min(MOST_AT_ONCE, int(rate / 4)))


async def _batches(
    connection: SessionConnection, wanted: LetterFilter, *, size: int, limit: int | None
) -> AsyncIterator[list[int]]:
    """Yield the ids that are meant: those named as they are, those of a filter page by page."""
    if wanted.ids is not None:
        named = sorted(set(wanted.ids))[:limit]
        for start in range(0, len(named), size):
            yield named[start : start + size]
        return
    now = await connection.fetchval("SELECT clock_timestamp()")
    until = min(now, wanted.failed_until or now)
    waiting = replace(wanted, state="waiting", failed_until=until)
    after, left = 0, limit
    while ids := await ids_after(connection, waiting, after=after, limit=size if left is None else min(size, left)):
        yield ids
        after = ids[-1]
        left = None if left is None else left - len(ids)
