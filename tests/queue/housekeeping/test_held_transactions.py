"""Transactions that are held open are told of, and ended where they do harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from sellflow.postgres.database import Database, Login, SessionConnection
from sellflow.queue.housekeeping import held_transactions
from sellflow.queue.housekeeping.held_transactions import Session, find_sessions, watch_transactions, why_ended
from tests.edge.serving import with_settings

SECRET = "12 Hidden Lane"
AGES = st.floats(0, 10**6)
LIMITS = st.one_of(st.just(0.0), st.floats(0.001, 10**6))


def session(**changes: object) -> Session:
    made: dict[str, object] = {
        "pid": 1,
        "login": "analyst",
        "application": "psql",
        "state": "active",
        "seconds": 100.0,
        "started_at": datetime(2026, 3, 1, tzinfo=UTC),
        "holds_rows": True,
        "command": "SELECT",
    }
    return Session(**(made | changes))  # type: ignore[arg-type]


SESSIONS = st.builds(
    session,
    login=st.sampled_from(["analyst", *Login]),
    application=st.sampled_from(
        ["psql", "", "pg_dump", "pg_restore", "sellflow migrate", "sellflow scheduler vacuum_queues", "sellflow worker"]
    ),
    state=st.sampled_from(["active", "idle in transaction", "idle in transaction (aborted)", "fastpath function call"]),
    seconds=AGES,
    holds_rows=st.booleans(),
)


@given(held=SESSIONS, idle=LIMITS, active=LIMITS, dead=st.integers(0, 10**6))
def test_nothing_is_ended_that_is_exempt_young_or_harmless(
    held: Session, idle: float, active: float, dead: int
) -> None:
    reason = why_ended(held, idle_limit=idle, active_limit=active, dead_rows=dead)
    if held.application.startswith(("pg_dump", "pg_restore", "sellflow migrate", "sellflow scheduler")):
        assert reason is None
    if reason == "idle":
        assert held.state.startswith("idle in transaction")
        assert held.seconds > idle > 0
    if reason == "harmful":
        assert held.holds_rows
        assert dead > 10_000
        assert held.seconds > active > 0
        assert held.login == "analyst" or held.is_idle
    if idle == active == 0:
        assert reason is None


@pytest.mark.parametrize(
    ("held", "dead_rows", "reason"),
    [
        (session(state="idle in transaction", seconds=61), 0, "idle"),
        (session(state="idle in transaction", seconds=59), 0, None),
        (session(state="idle in transaction", seconds=21), 10_001, "harmful"),
        (session(state="active", seconds=21), 10_001, "harmful"),
        (session(state="active", seconds=21), 10_000, None),
        (session(state="active", seconds=19), 10**6, None),
        (session(state="active", seconds=21, holds_rows=False), 10**6, None),
        (session(state="active", seconds=999, login="sellflow_worker"), 10**6, None),
        (session(state="idle in transaction", seconds=21, login="sellflow_worker"), 10**6, "harmful"),
        (session(state="active", seconds=9999, application="pg_dump"), 10**6, None),
    ],
)
def test_the_limits_of_the_defaults(held: Session, dead_rows: int, reason: str | None) -> None:
    assert why_ended(held, idle_limit=60, active_limit=20, dead_rows=dead_rows) == reason


@asynccontextmanager
async def holder(database: Database, application: str = "psql") -> AsyncIterator[SessionConnection]:
    """Somebody who reads a customer's data in a transaction and leaves it open."""
    connection = await asyncpg.connect(
        database.session_url,
        user=database.settings.database_owner,
        server_settings={"application_name": application, "idle_in_transaction_session_timeout": "0"},
    )
    try:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await connection.execute(f"  sElect '{SECRET}', count(*) FROM pg_class")
        yield connection
    finally:
        connection.terminate()


async def is_alive(owner: SessionConnection, pid: int) -> bool:
    return bool(await owner.fetchval("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)", pid))


async def ended(owner: SessionConnection, pid: int) -> None:
    async with asyncio.timeout(10):
        while await is_alive(owner, pid):
            pass


async def test_an_idle_transaction_is_ended_and_told_of_without_its_data(
    database: Database, owner: SessionConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_transactions, "WORTH_A_WARNING", 0)
    job = watch_transactions(with_settings(database, transaction_idle_limit=0.001).settings)
    async with holder(database) as held:
        with structlog.testing.capture_logs() as told:
            assert await job.run(owner) == "1 transactions open, 1 ended"
        await ended(owner, held.get_server_pid())
    [warning] = [entry for entry in told if entry["event"] == "housekeeping.transaction_held"]
    assert (warning["application"], warning["command"], warning["ends"]) == ("psql", "SELECT", "idle")
    assert warning["state"] == "idle in transaction"
    assert SECRET not in str(told)
    assert (REGISTRY.get_sample_value("sellflow_oldest_transaction_seconds") or 0) > 0
    assert await job.run(owner) == "0 transactions open, 0 ended"
    assert REGISTRY.get_sample_value("sellflow_oldest_transaction_seconds") == 0


@pytest.mark.parametrize("is_active", [False, True])
async def test_whoever_keeps_a_queue_from_being_vacuumed_is_ended_idle_or_active(
    database: Database, owner: SessionConnection, monkeypatch: pytest.MonkeyPatch, is_active: bool
) -> None:
    monkeypatch.setattr(held_transactions, "HARMFUL_DEAD_ROWS", 100)
    job = watch_transactions(with_settings(database, transaction_active_limit=0.001).settings)
    await owner.execute("ALTER TABLE pgmq.q_loyalty SET (autovacuum_enabled = false)")
    async with holder(database) as held:
        pid = held.get_server_pid()
        query = asyncio.ensure_future(held.execute("SELECT pg_sleep(60)")) if is_active else None
        async with asyncio.timeout(10):
            while (await find_sessions(owner))[0].state != ("active" if is_active else "idle in transaction"):
                pass
        assert await job.run(owner) == "1 transactions open, 0 ended"
        await make_dead_rows(owner, 200)
        assert await job.run(owner) == "1 transactions open, 1 ended"
        await ended(owner, pid)
        if query:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await query


async def make_dead_rows(owner: SessionConnection, rows: int) -> None:
    await owner.execute(
        "INSERT INTO pgmq.q_loyalty (vt, message) SELECT now(), '{}' FROM generate_series(1, $1::integer)", rows
    )
    await owner.execute("DELETE FROM pgmq.q_loyalty")
    async with asyncio.timeout(10):
        while await held_transactions.most_dead_rows(owner) < rows:
            await owner.execute("SELECT pg_stat_force_next_flush()")


async def test_a_backup_is_never_ended(database: Database, owner: SessionConnection) -> None:
    job = watch_transactions(with_settings(database, transaction_idle_limit=0.001).settings)
    async with holder(database, "pg_dump") as held:
        assert await job.run(owner) == "1 transactions open, 0 ended"
        assert await is_alive(owner, held.get_server_pid())


async def test_sessions_of_other_databases_are_left_alone(database: Database, owner: SessionConnection) -> None:
    job = watch_transactions(with_settings(database, transaction_idle_limit=0.001).settings)
    name = await owner.fetchval("SELECT current_database()")
    elsewhere = replace(database, session_url=database.session_url.replace(f"/{name}?", "/postgres?"))
    async with holder(elsewhere) as held:
        assert await job.run(owner) == "0 transactions open, 0 ended"
        assert await is_alive(owner, held.get_server_pid())


async def test_an_owner_who_may_not_end_a_session_says_so(database: Database, owner: SessionConnection) -> None:
    job = watch_transactions(with_settings(database, transaction_idle_limit=0.001).settings)
    # Who may see it, and may not end it.
    await owner.execute(
        "DROP ROLE IF EXISTS watcher; CREATE ROLE watcher; GRANT pg_monitor TO watcher; "
        "GRANT USAGE ON SCHEMA pgmq TO watcher; GRANT SELECT ON pgmq.meta TO watcher"
    )
    async with holder(database) as held:
        await owner.execute("SET ROLE watcher")
        with structlog.testing.capture_logs() as told:
            assert await job.run(owner) == "1 transactions open, 0 ended"
        await owner.execute("RESET ROLE")
        assert await is_alive(owner, held.get_server_pid())
    assert "housekeeping.transaction_not_ended" in [entry["event"] for entry in told]
    await owner.execute("DROP OWNED BY watcher; DROP ROLE watcher")


async def test_what_keeps_dead_rows_is_measured(database: Database, owner: SessionConnection) -> None:
    job = watch_transactions(database.settings)
    async with holder(database):
        for _ in range(3):
            await owner.execute("CREATE TEMP TABLE burnt (); DROP TABLE burnt")
        await job.run(owner)
        age = REGISTRY.get_sample_value("sellflow_vacuum_horizon_transactions", {"holder": "transaction"})
        assert age is not None
        assert age >= 3
    assert REGISTRY.get_sample_value("sellflow_vacuum_horizon_transactions", {"holder": "slot"}) == 0


async def test_our_own_connections_ask_postgres_to_end_them_when_they_idle(database: Database) -> None:
    limited = with_settings(database, transaction_idle_limit=7)
    connection = await limited.connect(Login.WORKER, purpose="test")
    try:
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "7s"
    finally:
        await connection.close()
    async with await limited.pool(Login.WEB, purpose="test", size=1) as pool:
        assert await pool.fetchval("SHOW idle_in_transaction_session_timeout") == "7s"
