"""The side of a queue benchmark that is Sellflow: one `sellflow worker`, and orders stored the way webhooks are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path

from benchmarks.deliveries import SHOP_DOMAIN, TOPIC, webhook_id
from benchmarks.durability import read_postgres
from benchmarks.peers.postgres_server import PostgresServer
from benchmarks.queue_sides import SERVER_SETTINGS
from benchmarks.sellflow_side import Installation
from benchmarks.servers import ServerProcess
from sellflow.postgres.database import Database, Login, close_pool
from sellflow.roles import build_registry
from sellflow.settings import load_settings
from sellflow.webhooks.keys import event_key
from sellflow.webhooks.store import Delivery, DeliveryStore

STORED_TOGETHER = 200
FIRST_APP = 1


class SellflowWorker:
    """One `sellflow worker` process with its default settings, on a Postgres with those of the embedded one."""

    name = "sellflow"

    def __init__(self) -> None:
        self._fills = 0
        self._process: ServerProcess | None = None

    def prepare(self, folder: Path) -> None:
        """Make the cluster, the schema, an app and a shop."""
        self._postgres = PostgresServer(folder / "postgres", SERVER_SETTINGS)
        self._postgres.create()
        self._installation = Installation(folder, database_url=self._postgres.url_of())
        self._postgres.start()
        self._installation.add_shop("hush")
        self._postgres.stop()

    def start(self) -> str:
        """Start Postgres and return the address of the database that holds the effects."""
        self._postgres.start()
        return self._postgres.address

    def fill(self, orders: Path) -> None:
        """Store the orders of a file as the webhook endpoint does, with the same statement."""
        self._fills += 1
        asyncio.run(store_orders(self._postgres.url_of(), orders, run=self._fills))

    def work(self) -> None:
        """Start the worker process."""
        self._process = self._installation.serve("worker")

    def stop(self) -> None:
        """Stop the worker, then Postgres."""
        if self._process is not None:
            self._process.stop()
        self._postgres.stop()

    def processes(self) -> dict[str, int]:
        """Name the worker and the postmaster."""
        return {"worker": self._process.pid if self._process else 0, "postgres": self._postgres.pid}

    def said(self) -> str:
        """Return the end of the worker's log."""
        return self._process.end_of_log() if self._process else ""

    def durability(self) -> dict[str, dict[str, str]]:
        """Read back Postgres's settings."""
        return {self.name: read_postgres(self._postgres.address)}

    def versions(self) -> dict[str, str]:
        """Name Sellflow and what carries its worker."""
        packages = {name: version(name) for name in ("sellflow", "asyncpg", "pydantic", "uvloop", "pgmq")}
        return packages | {"postgres": self._postgres.version()}


async def store_orders(url: str, orders: Path, *, run: int) -> None:
    """Store the orders of a file, one a line, as deliveries of one run."""
    database = Database(url, url, load_settings(database_session_url=url))
    pool = await database.pool(Login.INGEST, purpose="benchmark", size=1)
    store = DeliveryStore(pool, build_registry(database.settings))
    with orders.open("rb") as lines:
        deliveries = _deliveries(lines, run)
        while batch := list(islice(deliveries, STORED_TOGETHER)):
            await store.store(batch)
    await close_pool(pool)


def _deliveries(lines: Iterator[bytes], run: int) -> Iterator[Delivery]:
    for number, line in enumerate(lines):
        body = line.rstrip(b"\n")
        topic = "shopify." + TOPIC.replace("/", ".")
        yield Delivery(FIRST_APP, SHOP_DOMAIN, webhook_id(run, number), topic, event_key(TOPIC, body), None, body)
