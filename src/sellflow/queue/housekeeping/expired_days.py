"""Drops days of the event log that are older than the retention, and none that holds anything unhandled.

What holds a day is the SQL function expired_days()'s to say. DETACH … CONCURRENTLY cannot be used: Postgres refuses
it where there is a default partition. A drop therefore locks the whole log, and gives up rather than let ingest wait.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from datetime import date

import asyncpg
import structlog
from prometheus_client import Counter, Gauge

from sellflow.errors import SellflowError
from sellflow.postgres.database import SessionConnection
from sellflow.queue.jobs import Job

log = structlog.get_logger(__name__)

dropped_total = Counter("sellflow_log_days_dropped_total", "Days of the event log that were dropped.")
held_days = Gauge("sellflow_log_days_held", "Days past the retention that are kept, by what holds them.", ["reason"])

EVERY = 6 * 3600.0
#: Milliseconds that a drop waits for the log, and ingest behind it; how often it tries, with seconds between.
LONGEST_LOCK_WAIT = 200
ATTEMPTS = 5
PAUSE = 1.0
#: Rows of a day that has no partition are deleted so many at a time.
BATCH = 10_000


class LogInUseError(SellflowError):
    """An expired day could not be dropped, since somebody kept the log locked: it is tried again soon."""

    code = "housekeeping.log_in_use"


@dataclass(frozen=True)
class ExpiredDay:
    """A day past the retention, and how much of it is not handled yet."""

    day: date
    queued: int
    parked: int
    dead_letters: int
    unknown_shops: int
    without_outcome: int

    @property
    def reasons(self) -> dict[str, int]:
        """What holds the day, with how many events each; nothing where it may go."""
        return {reason: number for reason, number in asdict(self).items() if reason != "day" and number}

    def __str__(self) -> str:
        held = ", ".join(f"{number} {reason.replace('_', ' ')}" for reason, number in self.reasons.items())
        return f"{self.day} ({held})" if held else f"{self.day}"


def drop_expired_days(retention_days: int) -> Job:
    """Return the job."""

    async def run(connection: SessionConnection) -> str:
        days = await find_expired_days(connection, retention_days)
        held = [each for each in days if each.reasons]
        _report(held)
        free = [each.day for each in days if not each.reasons]
        for day in free:
            await drop_day(connection, day)
            dropped_total.inc()
            log.info("housekeeping.day_dropped", day=f"{day}")
        told = f"{len(free)} days dropped"
        return f"{told}; held: {', '.join(map(str, held))}" if held else told

    return Job("drop_expired_days", EVERY, run, timeout=1800)


async def find_expired_days(connection: SessionConnection, retention_days: int) -> list[ExpiredDay]:
    """Return the days of the log that are more than `retention_days` before today (UTC), eldest first."""
    rows = await connection.fetch(
        """
        SELECT day, queued, parked, dead_letters, unknown_shops, without_outcome
        FROM expired_days((now() AT TIME ZONE 'UTC')::date - $1::integer)
        """,
        retention_days,
    )
    return [ExpiredDay(**row) for row in rows]


async def drop_day(connection: SessionConnection, day: date) -> None:
    """Drop the partitions of a day, and delete what the default ones hold of it. Safe to run twice.

    Raises
    ------
    LogInUseError
        If the log stays locked by somebody else.
    """
    for attempt in range(ATTEMPTS):
        if await _drop_partitions(connection, day):
            break
        if attempt + 1 == ATTEMPTS:
            raise LogInUseError(f"{day} could not be dropped: a transaction, a backup perhaps, keeps the log locked")
        await asyncio.sleep(PAUSE)
    for parent in ("events", "outcomes"):
        while await _delete_rows(connection, parent, day) == BATCH:
            pass


async def _drop_partitions(connection: SessionConnection, day: date) -> bool:
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = {LONGEST_LOCK_WAIT}")
            # Of two that drop one partition at a time, Postgres lets the second fail with an internal error. The lock
            # is the one under which days are made.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('sellflow.make_day_partitions'))")
            await connection.execute(f"DROP TABLE IF EXISTS events_{day:%Y%m%d}, outcomes_{day:%Y%m%d}")
    except asyncpg.LockNotAvailableError:
        return False
    return True


async def _delete_rows(connection: SessionConnection, parent: str, day: date) -> int:
    deleted = await connection.execute(
        f"""
        DELETE FROM {parent}_default WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {parent}_default WHERE day = $1 LIMIT $2
        ))
        """,
        day,
        BATCH,
    )
    return int(deleted.removeprefix("DELETE "))


def _report(held: list[ExpiredDay]) -> None:
    for reason in ("queued", "parked", "dead_letters", "unknown_shops", "without_outcome"):
        held_days.labels(reason).set(sum(reason in each.reasons for each in held))
    for each in held:
        log.warning("housekeeping.day_held", day=f"{each.day}", **each.reasons)
