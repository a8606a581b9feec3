"""The five faults: what is done to the workers and to Postgres, and for how long."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import LiteralString

import psycopg

from benchmarks.peers.postgres_server import PostgresServer
from benchmarks.supervisor import Supervisor

KILLS = 24
TERMINATIONS = 10
#: Whose connections are ended, and in whose name the free ones are taken.
LOGIN = "sellflow_worker"
TERMINATE: LiteralString = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename LIKE 'sellflow\\_%%'"
    " AND NOT pid = ANY (%s::integer[])"
)


@dataclass(frozen=True)
class Injection:
    """One fault: `inject` returns when it is over. One that `lasts` must be borne, so recovery runs from its start."""

    name: str
    inject: Callable[[], None]
    lasts: bool = False


def injections(
    postgres: PostgresServer, supervisor: Supervisor, workers: Sequence[str], seconds: float
) -> list[Injection]:
    """Return the five faults; `seconds` is the length of the killing, the others are in proportion."""
    return [
        Injection("workers killed", lambda: kill_workers(supervisor, workers, seconds)),
        Injection("Postgres crashed", lambda: restart_at_once(postgres)),
        Injection("backends terminated", lambda: terminate_backends(postgres, seconds / 12)),
        Injection("connections exhausted", lambda: exhaust_connections(postgres, seconds / 6)),
        Injection("transaction held open", lambda: hold_transaction(postgres, seconds / 4), lasts=True),
    ]


def kill_workers(supervisor: Supervisor, workers: Sequence[str], seconds: float) -> None:
    """Kill one worker after the other at random, evenly over the time."""
    draw = random.Random(0)
    for _ in range(KILLS):
        time.sleep(seconds / KILLS)
        while not supervisor.kill(draw.choice(workers)):
            time.sleep(0.05)


def restart_at_once(postgres: PostgresServer) -> None:
    """Stop Postgres without a checkpoint and start it again; it recovers from its log."""
    postgres.crash()
    postgres.start()


def terminate_backends(postgres: PostgresServer, seconds: float) -> None:
    """End every connection of Sellflow, again and again."""
    for _ in range(TERMINATIONS):
        with psycopg.connect(postgres.address, autocommit=True) as connection:
            connection.execute(TERMINATE, [[]])
        time.sleep(seconds / TERMINATIONS)


def exhaust_connections(postgres: PostgresServer, seconds: float) -> None:
    """Take every connection that is free, and those that Sellflow has as well: it gets none until the end."""
    taken: list[psycopg.Connection] = []
    deadline = time.perf_counter() + seconds
    try:
        with psycopg.connect(postgres.address, autocommit=True) as superuser:
            while time.perf_counter() < deadline:
                _take_all(postgres, taken)
                superuser.execute(TERMINATE, [[each.info.backend_pid for each in taken]])
                time.sleep(0.02)
    finally:
        for each in taken:
            each.close()


def _take_all(postgres: PostgresServer, taken: list[psycopg.Connection]) -> None:
    with suppress(psycopg.OperationalError):
        while True:
            taken.append(psycopg.connect(postgres.address, user=LOGIN, autocommit=True))


def hold_transaction(postgres: PostgresServer, seconds: float) -> None:
    """Keep a transaction of another role open: idle at first, then busy. No dead row can be removed meanwhile."""
    with _snapshot(postgres):
        time.sleep(seconds)
    with _snapshot(postgres) as connection:
        sleeping = threading.Thread(target=lambda: connection.execute("SELECT pg_sleep(%s)", [seconds]))
        sleeping.start()
        sleeping.join()


@contextmanager
def _snapshot(postgres: PostgresServer) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres.address) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT txid_current()")
        yield connection
        connection.rollback()
