"""The rows of stored calls. Whoever sends one is told from others by the number of its attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from sellflow.postgres.database import Connection
from sellflow.shopify.admin.stored_rules import CallState

#: Hours for which a key is sent again: Shopify knows it for 24, by its own clock.
KEY_LIFE_HOURS = 23.0


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A row, with its sealed parts as they are."""

    call_id: int
    purpose: str
    document: str
    query: str = field(repr=False)
    variables: bytes | None = field(repr=False)
    key: UUID
    keys_used: int
    is_idempotent: bool
    state: CallState
    attempts: int
    #: Seconds for which somebody else may be sending it.
    held_for: float
    answer: bytes | None = field(repr=False)
    error_code: str | None


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call to be stored."""

    shop_id: int
    purpose: str
    subject: str | None
    document: str
    query: str = field(repr=False)
    variables: bytes = field(repr=False)
    is_idempotent: bool


@dataclass(frozen=True, slots=True)
class ListedCall:
    """As much of a call as operators are shown."""

    call_id: int
    shop_domain: str
    purpose: str
    document: str
    state: str
    attempts: int
    error_code: str | None
    created_at: datetime
    finished_at: datetime | None


async def add_call(connection: Connection, new: NewCall) -> bool:
    """Store a call with a new key; False where its purpose has one."""
    added = await connection.fetchval(
        """
        INSERT INTO admin_calls (shop_id, purpose, subject, document, query, variables, key, is_idempotent)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (shop_id, purpose) DO NOTHING
        RETURNING true
        """,
        new.shop_id,
        new.purpose,
        new.subject,
        new.document,
        new.query,
        new.variables,
        uuid4(),
        new.is_idempotent,
    )
    return bool(added)


async def begin_anew(connection: Connection, new: NewCall) -> bool:
    """Give a call that is finished, and did not succeed, a new key and new variables; False where there is none."""
    begun = await connection.fetchval(
        """
        UPDATE admin_calls
        SET query = $3, variables = $4, key = $5, keys_used = keys_used + 1, state = 'stored', is_doubtful = false,
            first_sent_at = NULL, held_until = NULL, answer = NULL, error_code = NULL, finished_at = NULL
        WHERE shop_id = $1 AND purpose = $2 AND state IN ('failed', 'unknown')
        RETURNING true
        """,
        new.shop_id,
        new.purpose,
        new.query,
        new.variables,
        uuid4(),
    )
    return bool(begun)


async def find_call(connection: Connection, shop_id: int, purpose: str) -> StoredCall | None:
    """Return the call of a purpose."""
    row = await connection.fetchrow(
        """
        SELECT call_id, purpose, document, query, variables, key, keys_used, is_idempotent, state, attempts,
               CASE WHEN state = 'sent' THEN GREATEST(0, epoch_of(held_until) - epoch_of(clock_timestamp())) ELSE 0 END
                   AS held_for,
               answer, error_code
        FROM admin_calls WHERE shop_id = $1 AND purpose = $2
        """,
        shop_id,
        purpose,
    )
    return None if row is None else StoredCall(**{**row, "state": CallState(row["state"])})


async def begin_attempt(connection: Connection, shop_id: int, call: StoredCall, *, seconds: float) -> int | None:
    """Take a call to send it, for `seconds`; return the number of the attempt, None where it may not be sent.

    What may have had its effect already is sent again only with a key that Shopify still knows.
    """
    number: int | None = await connection.fetchval(
        """
        UPDATE admin_calls
        SET state = 'sent', attempts = attempts + 1, is_doubtful = is_doubtful OR state = 'sent',
            first_sent_at = COALESCE(first_sent_at, clock_timestamp()),
            held_until = clock_timestamp() + make_interval(secs => $4)
        WHERE shop_id = $1 AND call_id = $2 AND key = $3
          AND (state IN ('stored', 'ambiguous') OR (state = 'sent' AND held_until <= clock_timestamp()))
          AND (
              state = 'stored'
              OR (is_idempotent AND first_sent_at > clock_timestamp() - make_interval(secs => $5))
          )
        RETURNING attempts
        """,
        shop_id,
        call.call_id,
        call.key,
        seconds,
        KEY_LIFE_HOURS * 3600,
    )
    return number


async def extend_attempt(connection: Connection, shop_id: int, call_id: int, attempt: int, *, seconds: float) -> bool:
    """Hold a call for `seconds` more; False where another has it."""
    extended = await connection.fetchval(
        """
        UPDATE admin_calls SET held_until = clock_timestamp() + make_interval(secs => $4)
        WHERE shop_id = $1 AND call_id = $2 AND attempts = $3 AND state = 'sent'
        RETURNING true
        """,
        shop_id,
        call_id,
        attempt,
        seconds,
    )
    return bool(extended)


async def end_attempt(
    connection: Connection, shop_id: int, call_id: int, attempt: int, *, is_ambiguous: bool, error_code: str | None
) -> None:
    """Write down that an attempt left a call open: it may have had its effect, or all is as it was before."""
    await connection.execute(
        """
        UPDATE admin_calls
        SET state = CASE WHEN is_doubtful OR $4 THEN 'ambiguous' ELSE 'stored' END, is_doubtful = is_doubtful OR $4,
            first_sent_at = CASE WHEN is_doubtful OR $4 THEN first_sent_at END, held_until = NULL, error_code = $5
        WHERE shop_id = $1 AND call_id = $2 AND attempts = $3 AND state = 'sent'
        """,
        shop_id,
        call_id,
        attempt,
        is_ambiguous,
        error_code,
    )


async def change_key(connection: Connection, shop_id: int, call_id: int, attempt: int) -> None:
    """Store a new key for a call whose last one Shopify has spoilt."""
    await connection.execute(
        """
        UPDATE admin_calls
        SET key = $4, keys_used = keys_used + 1, state = 'stored', is_doubtful = false, first_sent_at = NULL,
            held_until = NULL
        WHERE shop_id = $1 AND call_id = $2 AND attempts = $3 AND state = 'sent'
        """,
        shop_id,
        call_id,
        attempt,
        uuid4(),
    )


async def finish_attempt(
    connection: Connection,
    shop_id: int,
    call_id: int,
    attempt: int,
    *,
    state: CallState,
    answer: bytes | None,
    error_code: str | None,
) -> None:
    """Write down what Shopify said in the end; what was given up meanwhile is known after all then."""
    await connection.execute(
        """
        UPDATE admin_calls
        SET state = $4, answer = $5, error_code = $6, variables = NULL, held_until = NULL,
            finished_at = clock_timestamp()
        WHERE shop_id = $1 AND call_id = $2 AND attempts = $3 AND state IN ('sent', 'ambiguous', 'unknown')
        """,
        shop_id,
        call_id,
        attempt,
        state,
        answer,
        error_code,
    )


async def give_up_call(connection: Connection, shop_id: int, call_id: int) -> bool:
    """Finish a call that may have had its effect and may not be sent again; False where that is not so."""
    given_up = await connection.fetchval(
        """
        UPDATE admin_calls
        SET state = 'unknown', variables = NULL, held_until = NULL, finished_at = clock_timestamp()
        WHERE shop_id = $1 AND call_id = $2
          AND (state = 'ambiguous' OR (state = 'sent' AND held_until <= clock_timestamp()))
          AND NOT (is_idempotent AND first_sent_at > clock_timestamp() - make_interval(secs => $3))
        RETURNING true
        """,
        shop_id,
        call_id,
        KEY_LIFE_HOURS * 3600,
    )
    return bool(given_up)


async def settle_call(
    connection: Connection, shop_id: int, purpose: str, state: CallState, answer: bytes | None
) -> bool:
    """Write down what was found out about a call that ended unknown; False where it did not."""
    settled = await connection.fetchval(
        """
        UPDATE admin_calls SET state = $3, answer = $4 WHERE shop_id = $1 AND purpose = $2 AND state = 'unknown'
        RETURNING true
        """,
        shop_id,
        purpose,
        state,
        answer,
    )
    return bool(settled)


async def forget_subjects(connection: Connection, shop_id: int, subjects: Sequence[str]) -> int:
    """Erase what calls about somebody said and were told; return how many there were.

    The rows stay, without whom they were about: should one be wanted again, nothing is done twice. An answer that is
    still on its way is not written down any more.
    """
    tag = await connection.execute(
        """
        UPDATE admin_calls
        SET subject = NULL, variables = NULL, answer = NULL, attempts = attempts + (finished_at IS NULL)::integer,
            state = CASE WHEN finished_at IS NULL THEN 'unknown' ELSE state END,
            finished_at = COALESCE(finished_at, clock_timestamp())
        WHERE shop_id = $1 AND subject = ANY ($2)
        """,
        shop_id,
        list(subjects),
    )
    return int(tag.removeprefix("UPDATE "))


async def give_up_old_calls(connection: Connection) -> int:
    """Finish, in all shops, what may have had its effect and whose key Shopify has forgotten; return how many."""
    tag = await connection.execute(
        """
        UPDATE admin_calls
        SET state = 'unknown', variables = NULL, held_until = NULL, finished_at = clock_timestamp()
        WHERE finished_at IS NULL AND state IN ('sent', 'ambiguous')
          AND COALESCE(held_until, '-infinity') <= clock_timestamp()
          AND NOT (is_idempotent AND first_sent_at > clock_timestamp() - make_interval(secs => $1))
        """,
        KEY_LIFE_HOURS * 3600,
    )
    return int(tag.removeprefix("UPDATE "))


async def delete_old_calls(connection: Connection, *, days: int, most: int = 10_000) -> int:
    """Delete calls, of all shops, that were finished so many days ago; return how many."""
    tag = await connection.execute(
        """
        DELETE FROM admin_calls WHERE call_id IN (
            SELECT call_id FROM admin_calls
            WHERE finished_at IS NOT NULL AND finished_at < clock_timestamp() - make_interval(days => $1)
            ORDER BY finished_at LIMIT $2
        )
        """,
        days,
        most,
    )
    return int(tag.removeprefix("DELETE "))


async def list_calls(
    connection: Connection, *, shop_id: int | None = None, state: str | None = None, most: int = 50
) -> list[ListedCall]:
    """Return the newest calls, of all shops or one, in any state or one."""
    rows = await connection.fetch(
        """
        SELECT c.call_id, s.domain AS shop_domain, c.purpose, c.document, c.state, c.attempts, c.error_code,
               c.created_at, c.finished_at
        FROM admin_calls c JOIN shops s USING (shop_id)
        WHERE ($1::bigint IS NULL OR c.shop_id = $1) AND ($2::text IS NULL OR c.state = $2)
        ORDER BY c.call_id DESC LIMIT $3
        """,
        shop_id,
        state,
        most,
    )
    return [ListedCall(**row) for row in rows]
