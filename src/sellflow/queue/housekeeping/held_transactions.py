"""Watches for transactions that are held open, and ends those that do harm.

Postgres keeps every row that died since the eldest transaction began. A queue's rows die all the time, and each claim
wades through them: after a minute at 300 events a second it took a hundred times as long (docs/decisions/0010).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg
import structlog
from prometheus_client import Counter, Gauge

from sellflow.postgres.database import Login, SessionConnection
from sellflow.queue.jobs import Job
from sellflow.settings import Settings

log = structlog.get_logger(__name__)

oldest_transaction = Gauge(
    "sellflow_oldest_transaction_seconds", "Age of the eldest transaction open in this database."
)
horizon_age = Gauge(
    "sellflow_vacuum_horizon_transactions",
    "Transactions since the eldest whose rows must be kept, by what keeps them.",
    ["holder"],
)
ended_total = Counter("sellflow_transactions_ended_total", "Held transactions that were ended.", ["reason", "result"])

EVERY = 5.0
#: Seconds from which an open transaction is worth a warning.
WORTH_A_WARNING = 30.0
#: From so many dead rows in a queue on, whoever keeps them from being vacuumed does harm: a claim takes some 50 ms.
HARMFUL_DEAD_ROWS = 10_000

#: Sessions that hold transactions for good reason, and end.
EXEMPT = ("pg_dump", "pg_restore", "sellflow migrate", "sellflow scheduler")
_OWN_LOGINS = (Login.WEB, Login.WORKER, Login.INGEST, Login.ADMIN)


@dataclass(frozen=True)
class Session:
    """A session that has a transaction open; `command` is the first word of its last statement and no more."""

    pid: int
    login: str
    application: str
    state: str
    seconds: float
    started_at: datetime
    holds_rows: bool
    command: str

    @property
    def is_exempt(self) -> bool:
        """Whether it is never ended."""
        return self.application.startswith(EXEMPT)

    @property
    def is_ours(self) -> bool:
        """Whether one of our roles holds it, whose statements have limits of their own."""
        return self.login in _OWN_LOGINS or self.application.startswith("sellflow ")

    @property
    def is_idle(self) -> bool:
        """Whether its client does nothing with it just now."""
        return self.state.startswith("idle in transaction")


def why_ended(session: Session, *, idle_limit: float, active_limit: float, dead_rows: int) -> str | None:
    """Return why a transaction has to end: it idles too long, or keeps a queue from being vacuumed; None if neither.

    A limit of 0 is none.
    """
    if session.is_exempt:
        return None
    if session.is_idle and 0 < idle_limit < session.seconds:
        return "idle"
    does_harm = session.holds_rows and dead_rows > HARMFUL_DEAD_ROWS
    if does_harm and 0 < active_limit < session.seconds and (session.is_idle or not session.is_ours):
        return "harmful"
    return None


def watch_transactions(settings: Settings) -> Job:
    """Return the job."""

    async def run(connection: SessionConnection) -> str:
        await _measure_horizon(connection)
        sessions = await find_sessions(connection)
        oldest_transaction.set(max((each.seconds for each in sessions), default=0))
        dead_rows = await most_dead_rows(connection)
        ended = 0
        for session in sessions:
            reason = why_ended(
                session,
                idle_limit=settings.transaction_idle_limit,
                active_limit=settings.transaction_active_limit,
                dead_rows=dead_rows,
            )
            if reason or session.seconds > WORTH_A_WARNING:
                _warn(session, reason, dead_rows)
            if reason:
                ended += await _end(connection, session, reason)
        return f"{len(sessions)} transactions open, {ended} ended"

    return Job("watch_transactions", EVERY, run, timeout=10)


async def find_sessions(connection: SessionConnection) -> list[Session]:
    """Return the clients of this database that have a transaction open, eldest first.

    Without the rights of pg_read_all_stats, Postgres shows the owner its own sessions alone.
    """
    rows = await connection.fetch(
        r"""
        SELECT pid, COALESCE(usename, '') AS login, COALESCE(application_name, '') AS application,
               COALESCE(state, '') AS state, xact_start AS started_at,
               EXTRACT(epoch FROM clock_timestamp() - xact_start)::double precision AS seconds,
               (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL) AS holds_rows,
               COALESCE(upper(substring(query FROM '^\s*([A-Za-z]{1,20})')), '') AS command
        FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
          AND backend_type = 'client backend'
        ORDER BY xact_start
        """
    )
    return [Session(**row) for row in rows]


async def _measure_horizon(connection: SessionConnection) -> None:
    """Measure what keeps dead rows: transactions, prepared ones, replication slots and standbys."""
    rows = await connection.fetch(
        """
        SELECT holder, COALESCE(max(age), 0) AS age FROM (
            SELECT 'transaction' AS holder, GREATEST(age(backend_xmin), age(backend_xid)) AS age
            FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
            UNION ALL SELECT 'prepared', age(transaction) FROM pg_prepared_xacts WHERE database = current_database()
            UNION ALL SELECT 'slot', age(xmin) FROM pg_replication_slots
            UNION ALL SELECT 'standby', age(backend_xmin) FROM pg_stat_replication
        ) holders GROUP BY holder
        """
    )
    found = {row["holder"]: row["age"] for row in rows}
    for holder in ("transaction", "prepared", "slot", "standby"):
        horizon_age.labels(holder).set(found.get(holder, 0))


async def most_dead_rows(connection: SessionConnection) -> int:
    """Return the dead rows of the queue that has most."""
    most = await connection.fetchval(
        """
        SELECT max(n_dead_tup) FROM pg_stat_user_tables
        WHERE schemaname = 'pgmq' AND relname IN (SELECT 'q_' || queue_name FROM pgmq.meta)
        """
    )
    return int(most or 0)


def _warn(session: Session, reason: str | None, dead_rows: int) -> None:
    log.warning(
        "housekeeping.transaction_held",
        pid=session.pid,
        login=session.login,
        application=session.application,
        state=session.state,
        command=session.command,
        seconds=round(session.seconds, 1),
        dead_rows=dead_rows,
        ends=reason or "no",
    )


async def _end(connection: SessionConnection, session: Session, reason: str) -> bool:
    """End a session if it is still in the same transaction; where the owner may not, that is logged."""
    try:
        ended = await connection.fetchval(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND xact_start = $2",
            session.pid,
            session.started_at,
        )
    except asyncpg.InsufficientPrivilegeError:
        ended_total.labels(reason, "refused").inc()
        log.warning(
            "housekeeping.transaction_not_ended", pid=session.pid, remedy="GRANT pg_signal_backend to the owner"
        )
        return False
    ended_total.labels(reason, "ended" if ended else "gone").inc()
    return bool(ended)
