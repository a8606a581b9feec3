"""The floor of storing: bare `pgmq.send_batch` of 100 orders a time, over one, two and four connections."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import psycopg
from pgmq.install import get_embedded_install_sql, get_embedded_sql_version

from benchmarks.durability import read_postgres
from benchmarks.orders import order_front, order_tail
from benchmarks.peers.postgres_server import PostgresServer

NAME = "pgmq_send_batch_100"
BATCH = 100
CONNECTIONS = (1, 2, 4)
WARM_UP_BATCHES = 5


@dataclass(frozen=True)
class BatchFloor:
    """Messages a second by number of connections, and what they were stored with."""

    per_second: dict[int, float]
    durability: dict[str, str]
    versions: dict[str, str]

    @property
    def best(self) -> float:
        """The most messages a second."""
        return max(self.per_second.values())


def measure_pgmq_batch(folder: Path, seconds: float) -> BatchFloor:
    """Measure on a new cluster with default settings, each number of connections for `seconds`."""
    server = PostgresServer(folder)
    server.create()
    try:
        server.start()
        with psycopg.connect(server.address) as connection:
            connection.execute(get_embedded_install_sql().encode())
        rates = {count: asyncio.run(_measure(server, count, seconds)) for count in CONNECTIONS}
        versions = {"pgmq": get_embedded_sql_version(), "postgres": server.version()}
        return BatchFloor(rates, read_postgres(server.address), versions)
    finally:
        server.discard()


def make_batch() -> list[str]:
    """Return 100 orders as JSON."""
    draw = random.Random(0)
    moment = datetime.now(UTC)
    return [(order_front(number) + order_tail(draw, moment)).decode() for number in range(BATCH)]


async def _measure(server: PostgresServer, count: int, seconds: float) -> float:
    host = str(server.socket_folder)
    pool = await asyncpg.create_pool(host=host, user="postgres", database="postgres", min_size=count, max_size=count)
    async with pool:
        queue = f"floor_{count}"
        await pool.execute("SELECT pgmq.create($1)", queue)
        batch = make_batch()
        for _ in range(WARM_UP_BATCHES):
            await _send(pool, queue, batch)
        started = time.perf_counter()
        sent = await asyncio.gather(*(_send_until(pool, queue, batch, started + seconds) for _ in range(count)))
        return round(BATCH * sum(sent) / (time.perf_counter() - started), 1)


async def _send_until(pool: asyncpg.Pool, queue: str, batch: list[str], deadline: float) -> int:
    """Send batches until the deadline and return how many were committed."""
    sent = 0
    while time.perf_counter() < deadline:
        await _send(pool, queue, batch)
        sent += 1
    return sent


async def _send(pool: asyncpg.Pool, queue: str, batch: list[str]) -> None:
    await pool.execute("SELECT pgmq.send_batch($1, $2::jsonb[])", queue, batch)
