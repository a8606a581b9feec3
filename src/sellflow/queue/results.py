"""What became of messages: finished, parked for another attempt, held behind an elder one, or dead letters."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from sellflow.errors import SellflowError
from sellflow.postgres.database import Connection
from sellflow.queue.claims import Claim
from sellflow.queue.parking import park
from sellflow.queue.topics import DEAD_LETTER_TOPIC, EmittedEvent, Event

LONGEST_ERROR = 2000
LONGEST_TRACE = 16000


@dataclass(frozen=True, slots=True)
class Done:
    """An event that its handler finished with, and the handler's sentence on it."""

    event: Event
    claim: Claim
    handler: str
    detail: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An event whose handler raised; tried again after `retry_in` seconds, or set aside when that is None.

    `blocks` says that later messages of its key wait until somebody has looked at the dead letter.
    """

    event: Event
    claim: Claim
    handler: str
    error: Exception
    retry_in: float | None
    blocks: bool = False

    @property
    def attempt(self) -> int:
        """The number of this failure, from 1."""
        return self.claim.failures + 1

    @property
    def code(self) -> str:
        """The stable code of the error."""
        return self.error.code if isinstance(self.error, SellflowError) else "handler.error"

    @property
    def message(self) -> str:
        """The error in words, without characters that Postgres refuses."""
        return (str(self.error) or type(self.error).__name__).replace("\x00", "\\0")[:LONGEST_ERROR]

    @property
    def trace(self) -> str:
        """The stack trace, its end kept where it is too long."""
        return "".join(traceback.format_exception(self.error)).replace("\x00", "\\0")[-LONGEST_TRACE:]


@dataclass(frozen=True, slots=True)
class Withheld:
    """An event that was not tried: an elder one of its key failed in the same batch, or its handler postponed it.

    `has_leader` says that the elder one is still to come, so that this one waits behind it; otherwise it comes back
    after `seconds`.
    """

    event: Event
    claim: Claim
    has_leader: bool
    seconds: float = 0.0


Result = Done | Failed | Withheld


async def record(connection: Connection, queue: str, results: Sequence[Result]) -> list[EmittedEvent]:
    """Write down what became of a batch, in its transaction; return what is to be told of its dead letters."""
    done = [each for each in results if isinstance(each, Done)]
    failed = [each for each in results if isinstance(each, Failed)]
    dead = [each for each in failed if each.retry_in is None]
    await _record_outcomes(
        connection, queue, "done", [(d.event, d.handler, d.detail, d.claim.failures + 1) for d in done]
    )
    await _record_attempts(connection, queue, failed)
    retried = [(f.claim, f.attempt, f.retry_in) for f in failed if f.retry_in is not None]
    withheld = [
        (each.claim, each.claim.failures, None if each.has_leader else each.seconds)
        for each in results
        if isinstance(each, Withheld)
    ]
    await park(connection, queue, [*retried, *withheld])
    return await _set_aside(connection, queue, dead)


def finished(results: Sequence[Result]) -> list[Claim]:
    """Return the messages that no other of their key has to wait for any more."""
    return [
        each.claim
        for each in results
        if isinstance(each, Done) or (isinstance(each, Failed) and each.retry_in is None and not each.blocks)
    ]


async def _record_attempts(connection: Connection, queue: str, failed: Sequence[Failed]) -> None:
    if not failed:
        return
    now = datetime.now(UTC)
    await connection.executemany(
        """
        INSERT INTO failed_attempts
            (shop_id, day, event_id, queue, replay, attempt, handler, error_code, error_class, error_message, retry_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT DO NOTHING
        """,
        [
            (
                f.event.shop_id,
                f.event.day,
                f.event.event_id,
                queue,
                f.claim.replay,
                f.attempt,
                f.handler,
                f.code,
                type(f.error).__name__,
                f.message,
                None if f.retry_in is None else now + timedelta(seconds=f.retry_in),
            )
            for f in failed
        ],
    )


async def _set_aside(connection: Connection, queue: str, dead: Sequence[Failed]) -> list[EmittedEvent]:
    """Write dead letters; one that was replayed and failed again is the same dead letter."""
    if not dead:
        return []
    rows = await connection.fetch(
        """
        INSERT INTO dead_letters
            (shop_id, queue, msg_id, topic, day, event_id, key, handler, attempts, error_code, error_class,
             error_message, stack_trace, blocks_key, replays, first_failed_at)
        SELECT shop_id, $1, msg_id, topic, day, event_id, key, handler, attempts, error_code, error_class,
               error_message, stack_trace, blocks, replay,
               COALESCE((
                   SELECT min(a.failed_at) FROM failed_attempts a
                   WHERE a.shop_id = d.shop_id AND a.day = d.day AND a.event_id = d.event_id AND a.queue = $1
               ), clock_timestamp())
        FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::date[], $6::bigint[], $7::text[], $8::text[],
                    $9::integer[], $10::text[], $11::text[], $12::text[], $13::text[], $14::boolean[], $15::integer[])
            AS d (shop_id, msg_id, topic, day, event_id, key, handler, attempts, error_code, error_class,
                  error_message, stack_trace, blocks, replay)
        ON CONFLICT (shop_id, queue, day, event_id) DO UPDATE
        SET msg_id = EXCLUDED.msg_id, handler = EXCLUDED.handler, attempts = EXCLUDED.attempts,
            error_code = EXCLUDED.error_code, error_class = EXCLUDED.error_class,
            error_message = EXCLUDED.error_message, stack_trace = EXCLUDED.stack_trace,
            blocks_key = EXCLUDED.blocks_key, replays = EXCLUDED.replays, failed_at = EXCLUDED.failed_at,
            state = 'waiting', resolved_at = NULL, resolved_by = '', reason = ''
        RETURNING dead_letter_id, event_id, first_failed_at, failed_at
        """,
        queue,
        [f.event.shop_id for f in dead],
        [f.claim.msg_id for f in dead],
        [f.event.topic for f in dead],
        [f.event.day for f in dead],
        [f.event.event_id for f in dead],
        [f.claim.key for f in dead],
        [f.handler for f in dead],
        [f.attempt for f in dead],
        [f.code for f in dead],
        [type(f.error).__name__ for f in dead],
        [f.message for f in dead],
        [f.trace for f in dead],
        [f.blocks for f in dead],
        [f.claim.replay for f in dead],
    )
    await _record_outcomes(connection, queue, "dead", [(f.event, f.handler, f.message, f.attempt) for f in dead])
    written = {row["event_id"]: dict(row) for row in rows}
    return [_announcement(queue, each, written[each.event.event_id]) for each in dead]


def _announcement(queue: str, failed: Failed, row: dict[str, object]) -> EmittedEvent:
    payload = {
        "dead_letter_id": row["dead_letter_id"],
        "queue": queue,
        "topic": failed.event.topic,
        "handler": failed.handler,
        "error_code": failed.code,
        "error_message": failed.message,
        "attempts": failed.attempt,
        "shop_id": failed.event.shop_id,
        "day": failed.event.day,
        "event_id": failed.event.event_id,
        "key": failed.claim.key,
        "first_failed_at": row["first_failed_at"],
        "last_failed_at": row["failed_at"],
    }
    key = f"dead_letter:{row['dead_letter_id']}"
    return EmittedEvent(failed.event.shop_id, DEAD_LETTER_TOPIC, key, orjson.dumps(payload))


async def _record_outcomes(
    connection: Connection, queue: str, outcome: str, rows: Sequence[tuple[Event, str, str, int]]
) -> None:
    if not rows:
        return
    await connection.execute(
        """
        INSERT INTO outcomes (day, event_id, shop_id, queue, outcome, handler, detail, attempts)
        SELECT day, event_id, shop_id, $1, $2, handler, detail, attempts
        FROM unnest($3::date[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::integer[])
            AS o (day, event_id, shop_id, handler, detail, attempts)
        ON CONFLICT (day, event_id, queue) DO UPDATE
        SET outcome = EXCLUDED.outcome, handler = EXCLUDED.handler, detail = EXCLUDED.detail,
            attempts = EXCLUDED.attempts, handled_at = EXCLUDED.handled_at
        """,
        queue,
        outcome,
        [event.day for event, *_ in rows],
        [event.event_id for event, *_ in rows],
        [event.shop_id for event, *_ in rows],
        [handler for _, handler, _, _ in rows],
        [detail for _, _, detail, _ in rows],
        [attempts for *_, attempts in rows],
    )
