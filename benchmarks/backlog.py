"""What waits must not slow down what is handled, nor a shop another: Sellflow's queue under a deep backlog.

The messages are small orders of 200 shops, put into the event log and the queue by one statement that leaves there
what the endpoint's own would (only receipts are missing: no worker reads them).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import LiteralString

import psycopg

from benchmarks.drain_turns import PAIRS, time_drain
from benchmarks.errors import BenchmarkError
from benchmarks.peers.postgres_server import DATABASE, PostgresServer
from benchmarks.queue_sides import SERVER_SETTINGS
from benchmarks.report import progress
from benchmarks.sellflow_side import Installation
from benchmarks.servers import ServerProcess

SHOPS = 200
KEYS = 100_000
TRIES = 5
DEEP = "deep"
WAITING_FOR_ONE = 30.0
LOOK_EVERY = 0.02

MORE_SHOPS: LiteralString = """
WITH added AS (
    INSERT INTO shops (app_id, domain, currency)
    SELECT s.app_id, 'bench-' || n || '.myshopify.com', s.currency
    FROM shops s CROSS JOIN generate_series(2, %s) AS n
    RETURNING shop_id
)
INSERT INTO programs (shop_id, version, document, saved_by)
SELECT a.shop_id, 1, p.document, 'benchmark' FROM added a CROSS JOIN programs p
"""
FILL: LiteralString = """
WITH every AS (
    SELECT array_agg(shop_id ORDER BY shop_id) AS shops FROM shops
), numbered AS MATERIALIZED (
    SELECT (now() AT TIME ZONE 'UTC')::date AS day, nextval('event_ids') AS event_id,
           e.shops[%(first_shop)s + (i %% %(keys)s) %% %(shops)s] AS shop_id,
           6000000000000 + %(first)s + i %% %(keys)s AS order_id, (i / %(shops)s) %% 100 + 1 AS customer_id
    FROM generate_series(0, %(count)s - 1) AS i CROSS JOIN every e
), stored AS (
    INSERT INTO events (day, event_id, app_id, shop_id, shop_domain, topic, key, webhook_id, payload)
    SELECT n.day, n.event_id, s.app_id, n.shop_id, s.domain, 'shopify.orders.paid', 'order:' || n.order_id,
           gen_random_uuid()::text,
           convert_to(format(
               '{"id":%%s,"name":"#%%s","currency":"GBP","subtotal_price":"25.00","financial_status":"paid",'
               '"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z","customer":{"id":%%s},'
               '"line_items":[{"id":1,"quantity":1,"price":"25.00"}]}',
               n.order_id, n.order_id, n.shop_id * 1000 + n.customer_id
           ), 'UTF8')
    FROM numbered n JOIN shops s USING (shop_id)
), sent AS (
    INSERT INTO pgmq.q_loyalty (vt, message)
    SELECT clock_timestamp(), event_reference(day, event_id, shop_id, 'order:' || order_id)
    FROM numbered ORDER BY event_id
    RETURNING msg_id
)
SELECT max(msg_id) FROM sent
"""


@dataclass(frozen=True)
class BacklogFigures:
    """Orders a second with an empty queue and with `waiting` messages, by round; claim batches by try."""

    waiting: int
    empty: list[float]
    deep: list[float]
    fairness: list[int]

    @property
    def ratio(self) -> float:
        """The rate with a backlog over the rate without; medians of the rounds."""
        return median(self.deep) / median(self.empty)


class BacklogWorker:
    """One `sellflow worker` on one database of the server."""

    def __init__(self, postgres: PostgresServer, database: str, folder: Path) -> None:
        self.name = f"sellflow on {database}"
        self.address = postgres.address_of(database)
        self.log = folder / f"worker-{database}.log"
        self._postgres = postgres
        self._installation = Installation(
            folder,
            database_url=postgres.url_of(database),
            settings={"SELLFLOW_LOG_FORMAT": "json", "SELLFLOW_LOG_LEVEL": "info"},
        )
        # One consumer: of several, each logs its claim when its turn on the loop comes, not when it was made.
        self._loud = Installation(
            folder,
            database_url=postgres.url_of(database),
            settings={
                "SELLFLOW_LOG_FORMAT": "json",
                "SELLFLOW_LOG_LEVEL": "debug",
                "SELLFLOW_WORKER_CONSUMERS": "1",
            },
        )
        self._process: ServerProcess | None = None

    def fill(self, *, first: int, count: int, shops: int = SHOPS) -> None:
        """Queue orders from number `first` on, evenly over shops, and leave the tables as autovacuum would."""
        with psycopg.connect(self.address, autocommit=True) as connection:
            queue_orders(connection, first=first, count=count, first_shop=1, shops=shops)
            connection.execute("VACUUM ANALYZE pgmq.q_loyalty, events")

    def work(self) -> None:
        """Start the worker."""
        self._process = self._installation.serve("worker", name=self.log.stem)

    def work_aloud(self) -> None:
        """Start the worker so that it logs every claim."""
        self._process = self._loud.serve("worker", name=self.log.stem)

    def stop(self) -> None:
        """Stop the worker; what it has claimed is finished."""
        if self._process is not None:
            self._process.stop()

    def processes(self) -> dict[str, int]:
        """Name the worker and the postmaster."""
        return {"worker": self._process.pid if self._process else 0, "postgres": self._postgres.pid}

    def said(self) -> str:
        """Return the end of the worker's log."""
        return self._process.end_of_log() if self._process else ""


def measure_backlog(folder: Path, *, count: int, waiting: int, limit: float) -> BacklogFigures:
    """Drain `count` orders with nothing behind them and with `waiting` more, in turn, then look at fairness."""
    folder.mkdir()
    postgres = PostgresServer(folder / "postgres", SERVER_SETTINGS)
    postgres.create()
    postgres.start()
    try:
        with _two_databases(postgres, folder) as (flat, deep):
            progress(f"queueing {waiting + PAIRS * count:,} messages of {SHOPS} shops")
            deep.fill(first=0, count=waiting + PAIRS * count)
            rates: dict[str, list[float]] = {flat.name: [], deep.name: []}
            for number in range(PAIRS):
                flat.fill(first=(number + 1) * KEYS, count=count)
                for worker in (flat, deep):
                    drained = time_drain(worker, worker.address, count=count, limit=limit)
                    worker.stop()
                    rates[worker.name].append(drained.per_s)
                    progress(f"{worker.name}, round {number + 1}: {drained.per_s:,.0f}/s")
            fairness = measure_fairness(flat, first=(PAIRS + 1) * KEYS, waiting=waiting // 5)
        return BacklogFigures(waiting, rates[flat.name], rates[deep.name], fairness)
    finally:
        postgres.discard()


@contextmanager
def _two_databases(postgres: PostgresServer, folder: Path) -> Iterator[tuple[BacklogWorker, BacklogWorker]]:
    Installation(folder, database_url=postgres.url_of()).add_shop("hush")
    with psycopg.connect(postgres.address, autocommit=True) as connection:
        connection.execute(MORE_SHOPS, [SHOPS])
    with psycopg.connect(postgres.address_of("template1"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DEEP} TEMPLATE {DATABASE}".encode())
    workers = BacklogWorker(postgres, DATABASE, folder), BacklogWorker(postgres, DEEP, folder)
    try:
        yield workers
    finally:
        for worker in workers:
            worker.stop()


def measure_fairness(worker: BacklogWorker, *, first: int, waiting: int) -> list[int]:
    """Queue `waiting` orders of one shop, then one of another, again and again; return the batches it waited for."""
    worker.fill(first=first, count=waiting, shops=1)
    worker.work_aloud()
    with psycopg.connect(worker.address, autocommit=True) as connection:
        _wait_for_order(connection, worker, first)
        arrivals = []
        for number in range(TRIES):
            order = first + KEYS + number
            message = queue_orders(connection, first=order, count=1, first_shop=2 + number, shops=1)
            # Read once it is committed: a claim that looked before and ends afterwards counts, what ended before not.
            row = connection.execute("SELECT clock_timestamp()").fetchone()
            assert row is not None
            arrivals.append((message, row[0]))
            _wait_for_order(connection, worker, order)
    worker.stop()
    lines = worker.log.read_text(encoding="utf-8").splitlines()
    return [batches_before(lines, msg_id, at) for msg_id, at in arrivals]


def queue_orders(connection: psycopg.Connection, *, first: int, count: int, first_shop: int, shops: int) -> int:
    """Queue `count` orders from number `first` on, evenly over shops; return the id of the last message."""
    values = {"first": first, "count": count, "first_shop": first_shop, "shops": shops, "keys": KEYS}
    row = connection.execute(FILL, values).fetchone()
    return int(row[0]) if row else 0


def _wait_for_order(connection: psycopg.Connection, worker: BacklogWorker, number: int) -> None:
    deadline = time.perf_counter() + WAITING_FOR_ONE
    query: LiteralString = "SELECT FROM transfers WHERE source = 'order:' || (6000000000000 + %s)"
    while connection.execute(query, [number]).fetchone() is None:
        if time.perf_counter() > deadline:
            raise BenchmarkError(f"order {number} was not handled in {WAITING_FOR_ONE:.0f} s:\n{worker.said()}")
        time.sleep(LOOK_EVERY)


def batches_before(lines: Sequence[str], msg_id: int, at: datetime) -> int:
    """Count the claims of the log, one JSON object a line, from `at` until the one that brings `msg_id`.

    Raises
    ------
    BenchmarkError
        If no claim brings it.
    """
    before = 0
    for line in lines:
        said = json.loads(line) if line.startswith("{") else {}
        if said.get("event") != "queue.claimed" or said.get("queue") != "loyalty":
            continue
        if msg_id in said["messages"]:
            return before
        before += datetime.fromisoformat(said["timestamp"]) > at
    raise BenchmarkError(f"the worker's log shows no claim of message {msg_id}")
