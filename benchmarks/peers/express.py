"""The peers of ingest: Express, Shopify's Node library, and a job per delivery in BullMQ or pg-boss."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import psycopg

from benchmarks.deliveries import run_prefix
from benchmarks.durability import REDIS_SETTINGS, parse_redis, read_postgres
from benchmarks.peers.install import node, node_script, node_versions
from benchmarks.peers.postgres_server import PostgresServer
from benchmarks.peers.redis_server import RedisServer
from benchmarks.servers import ServerProcess, free_port, plain_environment
from benchmarks.sides import Stored

SHARED_PACKAGES = ("express", "@shopify/shopify-api")
#: pg-boss's own default; 5, 20 and 32 connections were measured and are no faster.
PGBOSS_POOL = 10


class ExpressServer:
    """One Node process that runs a program of this folder."""

    def __init__(self, program: str, secret: str) -> None:
        self._program = program
        self._secret = secret
        self._process: ServerProcess | None = None

    def start(self, folder: Path, **variables: str) -> int:
        """Start the program and return its port, once it answers."""
        port = free_port()
        environment = plain_environment(NODE_ENV="production", SECRET=self._secret, PORT=str(port), **variables)
        script = node_script(self._program)
        self._process = ServerProcess(
            [str(node()), str(script)], environment=environment, log=folder / "node.log", cwd=script.parent
        )
        self._process.wait_until_answering(port, "/readyz")
        return port

    def stop(self) -> None:
        """Stop the program."""
        if self._process is not None:
            self._process.stop()


class ExpressBullmq:
    """Jobs in a Redis that syncs its log on every write."""

    name = "express+bullmq"
    ceiling = 8_000

    def __init__(self, secret: str) -> None:
        self._express = ExpressServer("express_bullmq.mjs", secret)
        self._folder = Path()
        self._redis: RedisServer | None = None

    def prepare(self, folder: Path) -> None:
        """Install the peer; Redis makes its data when it starts."""
        node_script("delivery_check.mjs")
        self._folder = folder
        self._redis = RedisServer(folder / "redis")

    def start(self) -> int:
        """Start Redis, then the web server."""
        self._server.start()
        return self._express.start(self._folder, REDIS_SOCKET=str(self._server.socket))

    def stop(self) -> None:
        """Stop the web server, then Redis."""
        self._express.stop()
        if self._redis is not None:
            self._redis.stop()

    def stored(self, run: int) -> Stored:
        """Count the jobs that wait: each is record and message in one, and its id is the webhook id."""
        waiting = self._server.ask("LRANGE", "bull:webhooks:wait", "0", "-1").splitlines()
        prefix = run_prefix(run)
        messages = Counter(job for job in waiting if job.startswith(prefix))
        return Stored(messages, messages)

    def durability(self) -> dict[str, str]:
        """Read back how Redis writes its log."""
        return parse_redis(self._server.ask("CONFIG", "GET", *REDIS_SETTINGS))

    def versions(self) -> dict[str, str]:
        """Name Node, its packages and Redis."""
        packages = node_versions(*SHARED_PACKAGES, "bullmq", "ioredis")
        return packages | {"redis": self._server.version()}

    @property
    def _server(self) -> RedisServer:
        if self._redis is None:
            raise RuntimeError("prepare comes first")
        return self._redis


class ExpressPgboss:
    """Jobs in a Postgres with its default settings."""

    name = "express+pgboss"
    ceiling = 4_000

    def __init__(self, secret: str) -> None:
        self._express = ExpressServer("express_pgboss.mjs", secret)
        self._folder = Path()
        self._postgres: PostgresServer | None = None

    def prepare(self, folder: Path) -> None:
        """Install the peer and make its cluster."""
        node_script("delivery_check.mjs")
        self._folder = folder
        self._postgres = PostgresServer(folder / "postgres")
        self._postgres.create()

    def start(self) -> int:
        """Start Postgres, then the web server."""
        self._server.start()
        return self._express.start(
            self._folder, POSTGRES_SOCKET=str(self._server.socket_folder), POOL_SIZE=str(PGBOSS_POOL)
        )

    def stop(self) -> None:
        """Stop the web server, then Postgres."""
        self._express.stop()
        if self._postgres is not None:
            self._postgres.stop()

    def stored(self, run: int) -> Stored:
        """Count the jobs: each is record and message in one, and its id is the webhook id."""
        with psycopg.connect(self._server.address) as connection:
            rows = connection.execute(
                "SELECT id::text FROM pgboss.job WHERE name = 'webhooks' AND id::text LIKE %s",
                [f"{run_prefix(run)}%"],
            ).fetchall()
        messages = Counter(str(job) for (job,) in rows)
        return Stored(messages, messages)

    def durability(self) -> dict[str, str]:
        """Read back Postgres's settings."""
        return read_postgres(self._server.address)

    def versions(self) -> dict[str, str]:
        """Name Node, its packages and Postgres."""
        return node_versions(*SHARED_PACKAGES, "pg-boss", "pg") | {"postgres": self._server.version()}

    @property
    def _server(self) -> PostgresServer:
        if self._postgres is None:
            raise RuntimeError("prepare comes first")
        return self._postgres
