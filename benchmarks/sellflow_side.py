"""The only room that knows Sellflow: how it is started for a benchmark, and where it keeps what it stored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import LiteralString

import psycopg

from benchmarks.deliveries import SHOP_DOMAIN, run_prefix
from benchmarks.durability import read_postgres
from benchmarks.errors import BenchmarkError
from benchmarks.memory import is_running
from benchmarks.orders import SHOP_CURRENCY
from benchmarks.report import progress
from benchmarks.servers import LOOK_EVERY, STOPPING, ServerProcess, free_port, plain_environment
from benchmarks.sides import Stored

APP = "bench"
PATH = f"/webhooks/shopify/{APP}"
READY = "/readyz"
PROGRAM = Path(sys.executable).with_name("sellflow")
DATABASE = "sellflow"
SUPERUSER = "postgres"
COMMANDING = 120.0

EVENTS: LiteralString = """
SELECT webhook_id::text, count(*)
  FROM public.events
 WHERE webhook_id::text LIKE %s
 GROUP BY webhook_id
"""
MESSAGES: LiteralString = """
SELECT events.webhook_id::text, count(*)
  FROM pgmq.q_loyalty AS queued
  JOIN public.events AS events
    ON events.day = (queued.message ->> 'day')::date
   AND events.event_id::text = queued.message ->> 'event_id'
 WHERE events.webhook_id::text LIKE %s
 GROUP BY events.webhook_id
"""


class Installation:
    """Sellflow with a data folder and ports of its own, so that it runs beside anything.

    It runs on its embedded Postgres, or on the one at `database_url`. `settings` are further SELLFLOW_ variables.
    """

    def __init__(self, folder: Path, *, database_url: str = "", settings: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._settings = {"SELLFLOW_DATABASE_SESSION_URL": database_url} if database_url else {}
        self._settings |= settings or {}
        self.data = folder / "data"
        self.web_port = free_port()
        self.simulator_port = free_port()

    @property
    def environment(self) -> dict[str, str]:
        """The settings that make it this installation; everything else is Sellflow's default."""
        return plain_environment(
            SELLFLOW_DATA_DIR=str(self.data),
            SELLFLOW_WEB_PORT=str(self.web_port),
            SELLFLOW_SIMULATOR_PORT=str(self.simulator_port),
            **self._settings,
        )

    def command(self, *words: str, say: str = "") -> str:
        """Run `sellflow …` to its end, with `say` on standard input, and return what it printed.

        Raises
        ------
        BenchmarkError
            If it fails, with the end of what it said.
        """
        try:
            done = subprocess.run(
                [str(PROGRAM), *words],
                env=self.environment,
                input=say,
                capture_output=True,
                text=True,
                check=False,
                timeout=COMMANDING,
                cwd=self._folder,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BenchmarkError(f"`sellflow {' '.join(words)}` could not be run: {error}") from error
        if done.returncode:
            said = (done.stdout + done.stderr).strip()[-800:]
            raise BenchmarkError(f"`sellflow {' '.join(words)}` failed with {done.returncode}:\n{said}")
        return done.stdout

    def add_shop(self, secret: str) -> None:
        """Migrate, and make the app whose secret signs the deliveries and the shop they come from."""
        self.command("migrate")
        self.command("apps", "add", APP, "--secret-stdin", say=f"{secret}\n")
        self.command("shops", "add", SHOP_DOMAIN, "--app", APP, "--currency", SHOP_CURRENCY)

    def serve(self, *words: str, name: str = "") -> ServerProcess:
        """Start `sellflow …` as a server process; its log has the name of the role, or `name`."""
        log = self._folder / f"{name or words[0]}.log"
        return ServerProcess([str(PROGRAM), *words], environment=self.environment, log=log, cwd=self._folder)

    def postmaster(self) -> tuple[int, Path] | None:
        """Return the process id of the embedded Postgres and the folder of its socket, while it runs."""
        for file in self.data.rglob("postmaster.pid"):
            found = parse_postmaster(file.read_text())
            if found is not None and is_running(found[0]):
                return found
        return None

    def end_postgres(self) -> None:
        """Wait until the last user of the embedded Postgres has stopped it; stop it if nobody does."""
        if not self._is_postgres_gone():
            progress(f"the embedded Postgres in {self.data} outlived what used it: stopping it")
            found = self.postmaster()
            if found is not None:
                os.kill(found[0], signal.SIGINT)
            if not self._is_postgres_gone():
                raise BenchmarkError(f"the embedded Postgres in {self.data} does not stop")

    def _is_postgres_gone(self) -> bool:
        deadline = time.perf_counter() + STOPPING
        while self.postmaster() is not None:
            if time.perf_counter() > deadline:
                return False
            time.sleep(LOOK_EVERY)
        return True

    @property
    def address(self) -> str:
        """How libpq finds the embedded Postgres, while it runs."""
        found = self.postmaster()
        if found is None:
            raise BenchmarkError(f"no embedded Postgres runs in {self.data}")
        return f"host={found[1]} user={SUPERUSER} dbname={DATABASE}"


class SellflowWeb:
    """One `sellflow web` process on its embedded Postgres; no worker runs."""

    name = "sellflow"
    ceiling = 20_000

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._installed: Installation | None = None
        self._process: ServerProcess | None = None

    def prepare(self, folder: Path) -> None:
        """Make the database, the app whose secret signs the deliveries, and the shop they come from.

        Without the shop its events would wait for it and cost no queue message: less work than the peers'.
        """
        self._installed = Installation(folder)
        self._installed.add_shop(self._secret)

    def start(self) -> int:
        """Start the web process and return its port, once it is ready."""
        port = self._installation.web_port
        self._process = self._installation.serve("web")
        self._process.wait_until_answering(port, READY)
        return port

    def stop(self) -> None:
        """Stop the web process, which stops Postgres."""
        if self._process is not None:
            self._process.stop()
            self._process = None
            self._installation.end_postgres()

    def stored(self, run: int) -> Stored:
        """Count event rows and queue messages by webhook id."""
        return Stored(self._count(EVENTS, run), self._count(MESSAGES, run))

    def durability(self) -> dict[str, str]:
        """Read back Postgres's settings."""
        return read_postgres(self._installation.address)

    def versions(self) -> dict[str, str]:
        """Name Sellflow, its Postgres and what carries the hot path."""
        with psycopg.connect(self._installation.address) as connection:
            row = connection.execute("SHOW server_version").fetchone()
        packages = {name: version(name) for name in ("sellflow", "uvicorn", "uvloop", "asyncpg")}
        return packages | {"postgres": str(row[0]) if row else ""}

    def _count(self, query: LiteralString, run: int) -> Mapping[str, int]:
        with psycopg.connect(self._installation.address) as connection:
            rows = connection.execute(query, [f"{run_prefix(run)}%"]).fetchall()
        return Counter({str(webhook_id): int(count) for webhook_id, count in rows})

    @property
    def _installation(self) -> Installation:
        if self._installed is None:
            raise RuntimeError("prepare comes first")
        return self._installed


def parse_postmaster(text: str) -> tuple[int, Path] | None:
    """Return process id and socket folder from the text of `postmaster.pid`; None while it is written."""
    lines = text.splitlines()
    if len(lines) < 5 or not lines[4]:
        return None
    return int(lines[0]), Path(lines[4])
