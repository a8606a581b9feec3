"""What became of messages: finished, parked for another attempt, or set aside as dead letters."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sellflow.errors import SellflowError
from sellflow.postgres.database import Connection
from sellflow.queue.claims import Claim
from sellflow.queue.topics import Event

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
    """An event whose handler raised; tried again after `retry_in` seconds, or set aside when that is None."""

    event: Event
    claim: Claim
    handler: str
    error: Exception
    retry_in: float | None

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


async def record_done(connection: Connection, queue: str, done: Sequence[Done]) -> None:
    """Write down what was finished, for `sellflow explain` and the audit."""
    if done:
        await _record_outcomes(
            connection,
            queue,
            "done",
            [(d.event, d.handler, d.detail, d.claim.failures + 1) for d in done],
        )


async def record_failed(connection: Connection, queue: str, failed: Sequence[Failed]) -> None:
    """Write down each failed attempt, park what is tried again and set the rest aside."""
    if not failed:
        return
    now = datetime.now(UTC)
    await connection.executemany(
        """
        INSERT INTO failed_attempts
            (shop_id, day, event_id, queue, attempt, handler, error_code, error_class, error_message, retry_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        ON CONFLICT DO NOTHING
        """,
        [
            (
                f.event.shop_id,
                f.event.day,
                f.event.event_id,
                queue,
                f.attempt,
                f.handler,
                f.code,
                type(f.error).__name__,
                f.message,
                _after(now, f.retry_in),
            )
            for f in failed
        ],
    )
    await _park(connection, queue, [(f, f.retry_in) for f in failed if f.retry_in is not None])
    await _set_aside(connection, queue, [f for f in failed if f.retry_in is None])


def _after(now: datetime, seconds: float | None) -> datetime | None:
    return None if seconds is None else now + timedelta(seconds=seconds)


async def _park(connection: Connection, queue: str, failed: Sequence[tuple[Failed, float]]) -> None:
    if failed:
        await connection.executemany(
            """
            INSERT INTO parked_messages (queue, message, failures, due_at)
            VALUES ($1, event_reference($2, $3, $4, $5), $6, clock_timestamp() + make_interval(secs => $7))
            """,
            [
                (queue, f.event.day, f.event.event_id, f.event.shop_id, f.event.key, f.attempt, retry_in)
                for f, retry_in in failed
            ],
        )


async def _set_aside(connection: Connection, queue: str, failed: Sequence[Failed]) -> None:
    if not failed:
        return
    await connection.executemany(
        """
        INSERT INTO dead_letters
            (shop_id, queue, topic, day, event_id, key, handler, attempts,
             error_code, error_class, error_message, stack_trace)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        ON CONFLICT (shop_id, queue, day, event_id) DO UPDATE
        SET attempts = EXCLUDED.attempts, error_code = EXCLUDED.error_code, error_class = EXCLUDED.error_class,
            error_message = EXCLUDED.error_message, stack_trace = EXCLUDED.stack_trace, failed_at = EXCLUDED.failed_at
        """,
        [
            (
                f.event.shop_id,
                queue,
                f.event.topic,
                f.event.day,
                f.event.event_id,
                f.event.key,
                f.handler,
                f.attempt,
                f.code,
                type(f.error).__name__,
                f.message,
                f.trace,
            )
            for f in failed
        ],
    )
    await _record_outcomes(connection, queue, "dead", [(f.event, f.handler, f.message, f.attempt) for f in failed])


async def _record_outcomes(
    connection: Connection, queue: str, outcome: str, rows: Sequence[tuple[Event, str, str, int]]
) -> None:
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
