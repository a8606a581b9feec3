"""Dead letters to look at: lists with filters, and one with all that is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, get_args

import orjson

from sellflow.errors import NotFoundError
from sellflow.postgres.database import Connection
from sellflow.queue.topics import expression

State = Literal["waiting", "replayed", "discarded"]
STATES: tuple[State, ...] = get_args(State)

_LETTER = """
    d.dead_letter_id, d.shop_id, s.domain AS shop_domain, d.queue, d.topic, d.day, d.event_id, d.key, d.handler,
    d.attempts, d.error_code, d.error_class, d.error_message, d.first_failed_at, d.failed_at, d.blocks_key, d.replays,
    d.state, d.resolved_at, d.resolved_by, d.reason
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which dead letters are meant; None matches all of them.

    `topic` is a pattern (pgmq's: * one word, # any number); `failed_since` and `failed_until` bound the last failure,
    the first included, the second not.
    """

    ids: tuple[int, ...] | None = None
    queue: str | None = None
    shop_id: int | None = None
    shop_domain: str | None = None
    topic: str | None = None
    handler: str | None = None
    error_code: str | None = None
    key: str | None = None
    state: State | None = None
    failed_since: datetime | None = None
    failed_until: datetime | None = None

    def where(self) -> tuple[str, list[object]]:
        """Return the condition on `dead_letters d`, and its parameters from $1 on."""
        tests: list[tuple[str, object]] = [
            ("d.dead_letter_id = ANY ({}::bigint[])", self.ids),
            ("d.queue = {}", self.queue),
            ("d.shop_id = {}", self.shop_id),
            ("d.shop_id IN (SELECT shop_id FROM shops WHERE domain = lower({}))", self.shop_domain),
            ("d.topic ~ {}", None if self.topic is None else f"^(?:{expression(self.topic)})$"),
            ("d.handler = {}", self.handler),
            ("d.error_code = {}", self.error_code),
            ("d.key = {}", self.key),
            ("d.failed_at >= {}", self.failed_since),
            ("d.failed_at < {}", self.failed_until),
        ]
        used = [(test, value) for test, value in tests if value is not None]
        conditions = [test.format(f"${number}") for number, (test, _) in enumerate(used, start=1)]
        if self.state is not None:  # spelled out, so that the planner sees which partial index serves
            conditions.append(f"d.state = '{STATES[STATES.index(self.state)]}'")
        return " AND ".join(conditions) or "true", [value for _, value in used]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message set aside after its last attempt. `shop_domain` is None where its shop is not known (any more)."""

    dead_letter_id: int
    shop_id: int
    shop_domain: str | None
    queue: str
    topic: str
    day: date
    event_id: int
    key: str
    handler: str
    attempts: int
    error_code: str
    error_class: str
    error_message: str
    first_failed_at: datetime
    failed_at: datetime
    blocks_key: bool
    replays: int
    state: State
    resolved_at: datetime | None
    resolved_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One failed attempt; `replay` is the number of the round, 0 before the first replay."""

    replay: int
    attempt: int
    handler: str
    error_code: str
    error_class: str
    error_message: str
    failed_at: datetime


@dataclass(frozen=True, slots=True)
class LetterStory:
    """All that is known of a dead letter. `payload` is None where the event log holds its event no more."""

    letter: DeadLetter
    stack_trace: str
    attempts: list[FailedAttempt]
    payload: bytes | None
    #: Messages of its key that wait behind it.
    followers: int


async def list_letters(
    connection: Connection, wanted: LetterFilter, *, limit: int, before: int | None = None
) -> list[DeadLetter]:
    """Return up to `limit` dead letters, the newest first; `before` is the id that the page before ended with."""
    condition, values = wanted.where()
    rows = await connection.fetch(
        f"""
        SELECT {_LETTER}
        FROM dead_letters d LEFT JOIN shops s USING (shop_id)
        WHERE {condition} AND d.dead_letter_id < ${len(values) + 1}
        ORDER BY d.dead_letter_id DESC LIMIT ${len(values) + 2}
        """,
        *values,
        2**63 - 1 if before is None else before,
        limit,
    )
    return [DeadLetter(**row) for row in rows]


async def count_letters(connection: Connection, wanted: LetterFilter) -> int:
    """Return how many dead letters there are."""
    condition, values = wanted.where()
    return int(await connection.fetchval(f"SELECT count(*) FROM dead_letters d WHERE {condition}", *values))


async def ids_after(connection: Connection, wanted: LetterFilter, *, after: int, limit: int) -> list[int]:
    """Return the ids of up to `limit` dead letters above `after`, in the order in which they first failed."""
    condition, values = wanted.where()
    rows = await connection.fetch(
        f"""
        SELECT d.dead_letter_id FROM dead_letters d
        WHERE {condition} AND d.dead_letter_id > ${len(values) + 1}
        ORDER BY d.dead_letter_id LIMIT ${len(values) + 2}
        """,
        *values,
        after,
        limit,
    )
    return [row["dead_letter_id"] for row in rows]


async def show_letter(connection: Connection, dead_letter_id: int) -> LetterStory:
    """Return a dead letter with its attempts, its trace and its event's payload.

    Raises
    ------
    NotFoundError
        If there is none with this id.
    """
    row = await connection.fetchrow(
        f"""
        SELECT {_LETTER}, d.stack_trace, e.payload, (
            SELECT count(*) FROM parked_messages p
            WHERE p.queue = d.queue AND p.shop_id = d.shop_id AND p.key = d.key AND p.due_at IS NULL AND d.key <> ''
              AND d.blocks_key AND d.state = 'waiting' AND p.msg_id > d.msg_id
        ) AS followers
        FROM dead_letters d
        LEFT JOIN shops s USING (shop_id)
        LEFT JOIN events e ON e.day = d.day AND e.event_id = d.event_id AND e.shop_id = d.shop_id
        WHERE d.dead_letter_id = $1
        """,
        dead_letter_id,
    )
    if row is None:
        raise NotFoundError(
            f"there is no dead letter {dead_letter_id}; `sellflow deadletters list` shows those there are"
        )
    facts = dict(row)
    rest = {name: facts.pop(name) for name in ("stack_trace", "payload", "followers")}
    letter = DeadLetter(**facts)
    return LetterStory(letter, attempts=await _attempts(connection, letter), **rest)


async def _attempts(connection: Connection, letter: DeadLetter) -> list[FailedAttempt]:
    rows = await connection.fetch(
        """
        SELECT replay, attempt, handler, error_code, error_class, error_message, failed_at
        FROM failed_attempts WHERE shop_id = $1 AND day = $2 AND event_id = $3 AND queue = $4
        ORDER BY replay, attempt
        """,
        letter.shop_id,
        letter.day,
        letter.event_id,
        letter.queue,
    )
    return [FailedAttempt(**row) for row in rows]


def excerpt(payload: bytes, *, lines: int) -> str:
    """Return the first `lines` lines of a payload, laid out for reading where it is JSON."""
    try:
        text = orjson.dumps(orjson.loads(payload), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        text = payload.decode(errors="backslashreplace")
    shown: Sequence[str] = text.splitlines()
    if len(shown) <= lines:
        return "\n".join(shown)
    return "\n".join([*shown[:lines], f"… ({len(shown) - lines} more lines, {len(payload)} bytes in all)"])
