"""The peers of drain: a BullMQ, a pg-boss and a procrastinate worker, each with a job an order, 32 at a time.

Their rows go into tables that Sellflow's own migration made, in a Postgres set up like Sellflow's.
"""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import psycopg

from benchmarks.durability import REDIS_SETTINGS, parse_redis, read_postgres
from benchmarks.errors import BenchmarkError
from benchmarks.peers.install import HERE, node, node_script, node_versions, python_packages, python_versions
from benchmarks.peers.postgres_server import PostgresServer
from benchmarks.peers.redis_server import RedisServer
from benchmarks.queue_sides import SERVER_SETTINGS
from benchmarks.sellflow_side import Installation
from benchmarks.servers import ServerProcess, plain_environment

FILLING = 300.0
#: What Sellflow makes when the first order of a shop arrives: the other side of what its customers earn.
ISSUED_ACCOUNT = "INSERT INTO accounts (shop_id, kind) SELECT shop_id, 'issued' FROM shops"


class PeerWorker(ABC):
    """What the three have in common."""

    name: str

    def __init__(self) -> None:
        self._process: ServerProcess | None = None

    def prepare(self, folder: Path) -> None:
        """Install the peer, and make the cluster, Sellflow's schema and the same shop."""
        self._folder = folder
        self._command = self._install()
        self._postgres = PostgresServer(folder / "postgres", SERVER_SETTINGS)
        self._postgres.create()
        self._postgres.start()
        Installation(folder, database_url=self._postgres.url_of()).add_shop("hush")
        with psycopg.connect(self._postgres.address) as connection:
            connection.execute(ISSUED_ACCOUNT)
            connection.execute((HERE / "award_order.sql").read_bytes())
            row = connection.execute("SELECT shop_id FROM shops").fetchone()
        self._environment = plain_environment(
            NODE_ENV="production",
            POSTGRES_SOCKET=str(self._postgres.socket_folder),
            SHOP_ID=str(row[0] if row else 0),
        )
        self._prepare_queue()
        self._postgres.stop()

    def start(self) -> str:
        """Start the servers and return the address of the database that holds the effects."""
        self._postgres.start()
        return self._postgres.address

    def fill(self, orders: Path) -> None:
        """Queue the orders of a file with the peer's own batch call."""
        self._run("fill", str(orders))

    def work(self) -> None:
        """Start the worker process."""
        log = self._folder / "worker.log"
        self._process = ServerProcess(
            [*self._command, "work"], environment=self._environment, log=log, cwd=self._folder
        )

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

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Name the peer's parts and their versions."""

    @abstractmethod
    def _install(self) -> Sequence[str]:
        """Install the peer and return the command of its program."""

    @abstractmethod
    def _prepare_queue(self) -> None:
        """Make what the queue needs beforehand."""

    def _run(self, *words: str) -> None:
        command = [*self._command, *words]
        done = subprocess.run(
            command,
            env=self._environment,
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=FILLING,
        )
        if done.returncode:
            raise BenchmarkError(f"{self.name}: {words[0]} failed:\n{(done.stderr or done.stdout).strip()[-800:]}")


class PgbossWorker(PeerWorker):
    """pg-boss fetching batches as long as they come back full, each job settled by itself."""

    name = "pgboss"

    def versions(self) -> dict[str, str]:
        """Name Node, pg-boss, its driver and Postgres."""
        return node_versions("pg-boss", "pg") | {"postgres": self._postgres.version()}

    def _install(self) -> Sequence[str]:
        return _node_program("drain_pgboss.mjs")

    def _prepare_queue(self) -> None:
        """Leave it to pg-boss, which makes its tables when it starts."""


class BullmqWorker(PeerWorker):
    """BullMQ on a Redis that syncs its log on every write; the rows go to Postgres."""

    name = "bullmq"

    def start(self) -> str:
        """Start Redis and Postgres."""
        self._redis.start()
        return super().start()

    def stop(self) -> None:
        """Stop the worker, Postgres and Redis."""
        super().stop()
        self._redis.stop()

    def processes(self) -> dict[str, int]:
        """Name the worker and both servers."""
        return super().processes() | {"redis": self._redis.pid}

    def durability(self) -> dict[str, dict[str, str]]:
        """Read back the settings of both servers."""
        redis = parse_redis(self._redis.ask("CONFIG", "GET", *REDIS_SETTINGS))
        return super().durability() | {f"{self.name} redis": redis}

    def versions(self) -> dict[str, str]:
        """Name Node, BullMQ, its drivers and servers."""
        servers = {"postgres": self._postgres.version(), "redis": self._redis.version()}
        return node_versions("bullmq", "ioredis", "pg") | servers

    def _install(self) -> Sequence[str]:
        return _node_program("drain_bullmq.mjs")

    def _prepare_queue(self) -> None:
        self._redis = RedisServer(self._folder / "redis")
        self._environment |= {"REDIS_SOCKET": str(self._redis.socket)}


class ProcrastinateWorker(PeerWorker):
    """procrastinate with its psycopg connector; the rows go through a pool of 32 beside it."""

    name = "procrastinate"

    def versions(self) -> dict[str, str]:
        """Name procrastinate, its driver and Postgres."""
        packages = python_versions("procrastinate", "procrastinate", "psycopg", "psycopg-pool")
        return packages | {"postgres": self._postgres.version()}

    def _install(self) -> Sequence[str]:
        return [str(python_packages("procrastinate")), str(HERE / "drain_procrastinate.py")]

    def _prepare_queue(self) -> None:
        self._run("schema")


def _node_program(name: str) -> Sequence[str]:
    node_script("award_order.mjs")
    return [str(node()), str(node_script(name))]
