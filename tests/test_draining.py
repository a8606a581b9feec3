"""Real worker processes: what they say of themselves, and that stopping one loses, doubles and delays nothing."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from sellflow.postgres.database import Database, Login, SessionConnection
from sellflow.postgres.embedded import SUPERUSER
from tests.cli.commands import PATIENCE, environment, free_port, until
from tests.conftest import Tenant
from tests.edge.outage import relayed
from tests.loyalty.conftest import Store, store
from tests.loyalty.orders import order

__all__ = ["store"]

#: Only what is handed back comes again within this test.
LONG = 3600


@dataclass
class Worker:
    """A `sellflow worker` process and a client of its operations port."""

    process: asyncio.subprocess.Process
    client: httpx.AsyncClient

    async def status(self, path: str) -> int:
        return (await self.client.get(path)).status_code

    async def stop(self) -> int:
        """Ask it to end, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), PATIENCE)


@asynccontextmanager
async def working(database: Database, folder: Path, **settings: object) -> AsyncIterator[Worker]:
    """Run a worker process that is ready."""
    port = free_port()
    env = environment(
        folder,
        database_session_url=database.session_url,
        database_owner=SUPERUSER,
        master_key_file=database.settings.data_dir / "master.key",
        operations_port=port,
        log_format="json",
        **{"worker_visibility_timeout": LONG, "worker_poll_interval": 0.2, **settings},
    )
    log = os.open(folder / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    command = [sys.executable, "-m", "sellflow", "worker", "--queues", "loyalty"]
    process = await asyncio.create_subprocess_exec(*command, env=env, stdout=log, stderr=log)
    os.close(log)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
            worker = Worker(process, client)
            await until(lambda: _is_ready(worker))
            yield worker
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _is_ready(worker: Worker) -> bool:
    assert worker.process.returncode is None, "the worker ended"
    try:
        return await worker.status("/readyz") == 200
    except httpx.TransportError:
        return False


@dataclass
class Lock:
    """Holds up whatever writes an order."""

    holder: SessionConnection
    owner: SessionConnection

    async def holds_somebody_up(self) -> None:
        await until(self._is_waited_for)

    async def _is_waited_for(self) -> bool:
        return bool(
            await self.owner.fetchval(
                """
                SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'sellflow_worker'
                    AND datname = current_database() AND wait_event_type = 'Lock')
                """
            )
        )

    async def release(self) -> None:
        await self.holder.close()


@asynccontextmanager
async def orders_locked(store: Store) -> AsyncIterator[Lock]:
    """Hold the orders while the block runs, or until the lock is released."""
    holder = await store.database.connect(Login.OWNER, purpose="test lock")
    await holder.execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
    lock = Lock(holder, store.owner)
    try:
        yield lock
    finally:
        await lock.release()


async def in_the_queue(owner: SessionConnection) -> list[tuple[int, bool]]:
    """How often each message was claimed, and whether somebody holds it."""
    rows = await owner.fetch("SELECT read_ct, vt > clock_timestamp() AS is_held FROM pgmq.q_loyalty ORDER BY msg_id")
    return [(row["read_ct"], row["is_held"]) for row in rows]


async def all_done(owner: SessionConnection) -> bool:
    return await in_the_queue(owner) == []


async def assert_handled_once(store: Store, tenant: Tenant, orders: int) -> None:
    assert await all_done(store.owner)
    assert await store.balance(tenant, 7) == 25 * orders
    assert await store.letters() == []
    await store.check_books()


async def test_a_worker_that_is_stopped_finishes_its_batch_and_says_meanwhile_that_it_is_not_ready(
    store: Store, tenant: Tenant, database: Database, tmp_path: Path
) -> None:
    async with working(database, tmp_path, worker_grace=PATIENCE) as worker:
        async with orders_locked(store) as lock:
            await store.receive(tenant, *[("orders/paid", order(n)) for n in range(1, 11)])
            await lock.holds_somebody_up()
            worker.process.send_signal(signal.SIGTERM)
            await until(lambda: _says(worker, "/readyz", 503))
            assert (await worker.client.get("/readyz")).json()["reason"] == "it is stopping"
            assert await worker.status("/healthz") == 200
            assert await worker.status("/metrics") == 200
        assert await asyncio.wait_for(worker.process.wait(), PATIENCE) == 0
    await assert_handled_once(store, tenant, 10)


async def _says(worker: Worker, path: str, status: int) -> bool:
    return await worker.status(path) == status


async def test_what_a_stopped_worker_cannot_finish_another_gets_at_once(
    store: Store, tenant: Tenant, database: Database, tmp_path: Path
) -> None:
    async with (
        working(database, tmp_path, worker_grace=0.2, worker_poll_interval=LONG) as first,
        orders_locked(store) as lock,
    ):
        await store.receive(tenant, *[("orders/paid", order(n)) for n in range(1, 11)])
        await lock.holds_somebody_up()
        assert await first.stop() == 0
        assert await in_the_queue(store.owner) == [(0, False)] * 10, "handed back, as if never claimed"
    async with working(database, tmp_path) as second:
        await until(lambda: all_done(store.owner))
        assert await second.stop() == 0
    await assert_handled_once(store, tenant, 10)


async def test_another_worker_is_woken_for_what_was_handed_back(
    store: Store, tenant: Tenant, database: Database, tmp_path: Path
) -> None:
    async with working(database, tmp_path, worker_grace=0.2) as first, orders_locked(store) as lock:
        await store.receive(tenant, ("orders/paid", order(1)))
        await lock.holds_somebody_up()
        # It looks once at its start, finds nothing free, and not again unless it is told to.
        async with working(database, tmp_path, worker_poll_interval=LONG) as second:
            assert await first.stop() == 0
            await lock.holds_somebody_up()
            assert await in_the_queue(store.owner) == [(1, True)]
            await lock.release()
            await until(lambda: all_done(store.owner))
            assert await second.stop() == 0
    await assert_handled_once(store, tenant, 1)


async def test_a_worker_whose_database_hangs_lives_is_not_ready_and_ends_when_it_is_told_to(
    store: Store, tenant: Tenant, database: Database, tmp_path: Path
) -> None:
    async with (
        relayed(database, tmp_path) as (distant, relay),
        working(distant, tmp_path, worker_grace=0.2, worker_stuck_after=1) as worker,
    ):
        relay.passing.clear()
        await until(lambda: _says(worker, "/readyz", 503))
        for _ in range(3):
            assert await worker.status("/readyz") == 503  # each takes longer than it takes to count as stuck
            assert await worker.status("/healthz") == 200
        assert await worker.stop() == 0
    async with working(database, tmp_path) as worker:
        await store.receive(tenant, ("orders/paid", order(1)))
        await until(lambda: all_done(store.owner))
        assert await worker.stop() == 0
    await assert_handled_once(store, tenant, 1)


async def test_a_worker_in_the_middle_of_a_batch_ends_although_its_database_hangs(
    store: Store, tenant: Tenant, database: Database, tmp_path: Path
) -> None:
    async with (
        relayed(database, tmp_path) as (distant, relay),
        working(distant, tmp_path, worker_grace=0.2) as worker,
        orders_locked(store) as lock,
    ):
        await store.receive(tenant, ("orders/paid", order(1)))
        await lock.holds_somebody_up()
        relay.passing.clear()
        assert await worker.stop() == 0
        # Nobody could hand it back: its claim has to run out.
    await until(lambda: _nobody_works(store.owner))
    await store.owner.execute("UPDATE pgmq.q_loyalty SET vt = clock_timestamp()")
    await store.work()
    await assert_handled_once(store, tenant, 1)


async def _nobody_works(owner: SessionConnection) -> bool:
    return not await owner.fetchval(
        """
        SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'sellflow_worker' AND xact_start IS NOT NULL
            AND datname = current_database())
        """
    )


async def test_a_worker_that_is_stuck_says_so_until_it_gets_further(
    store: Store, tenant: Tenant, database: Database, tmp_path: Path
) -> None:
    async with working(database, tmp_path, worker_stuck_after=1) as worker:
        async with orders_locked(store) as lock:
            await store.receive(tenant, ("orders/paid", order(1)))
            await lock.holds_somebody_up()
            await until(lambda: _says(worker, "/healthz", 503))
            answer = (await worker.client.get("/healthz")).json()
            assert "a consumer of loyalty" in answer["reason"]
            assert await worker.status("/readyz") == 200, "the database answers"
        await until(lambda: _says(worker, "/healthz", 200))
        assert await worker.stop() == 0


async def test_a_killed_worker_loses_and_doubles_nothing(
    store: Store, tenant: Tenant, database: Database, tmp_path: Path
) -> None:
    async with working(database, tmp_path) as worker, orders_locked(store) as lock:
        await store.receive(tenant, *[("orders/paid", order(n)) for n in range(1, 4)])
        await lock.holds_somebody_up()
        worker.process.kill()
        await worker.process.wait()
    await until(lambda: _nobody_works(store.owner))
    await store.owner.execute("UPDATE pgmq.q_loyalty SET vt = clock_timestamp()")
    await store.work()
    await assert_handled_once(store, tenant, 3)


@pytest.mark.parametrize("foreign", ["shopify.evil.topic", 'x"} 1\nsellflow_forged 1'])
async def test_the_metrics_of_a_real_worker_tell_of_every_queue_and_carry_nothing_from_outside(
    store: Store, tenant: Tenant, database: Database, tmp_path: Path, foreign: str
) -> None:
    await store.receive(tenant, ("orders/paid", order(1)), ("orders/paid", {"id": "no number"}))
    await store.receive(tenant, (foreign, {"id": 1}))
    await store.owner.execute(
        "SELECT pgmq.send('loyalty', event_reference(day, event_id, shop_id, key)) FROM events WHERE topic LIKE $1",
        f"%{foreign}",
    )
    async with working(database, tmp_path) as worker:
        await until(lambda: all_done(store.owner))
        text = (await worker.client.get("/metrics")).text
        assert await worker.stop() == 0
    values = {
        (name, labels): float(value)
        for name, labels, value in re.findall(r"^(sellflow_\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE)
    }
    assert values["sellflow_messages_handled_total", 'outcome="done",queue="loyalty"'] == 1
    assert values["sellflow_messages_handled_total", 'outcome="dead",queue="loyalty"'] == 2
    assert values["sellflow_messages_handled_total", 'outcome="retry",queue="loyalty"'] == 0
    seconds = [labels for name, labels in values if name == "sellflow_handler_seconds_count"]
    assert any('outcome="done"' in labels and 'queue="loyalty"' in labels for labels in seconds)
    assert values["sellflow_queue_figures_up", ""] == 1
    for gauge in ("depth", "in_flight", "parked", "dead_letters", "oldest_waiting_seconds", "paused"):
        assert (f"sellflow_queue_{gauge}", 'queue="loyalty"') in values
        assert (f"sellflow_queue_{gauge}", 'queue="shops"') in values
    assert "evil" not in text
    assert "forged" not in text
