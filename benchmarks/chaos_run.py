"""One run of chaos: traffic flows, faults strike, and what was acknowledged and done is sampled all the while."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import psycopg

from benchmarks.books import BooksAudit, audit_books, read_books
from benchmarks.chaos_faults import Injection, injections
from benchmarks.chaos_traffic import Traffic
from benchmarks.paid_orders import PaidOrders, order_id
from benchmarks.peers.postgres_server import PostgresServer
from benchmarks.recovery import WINDOW, Fault, Sample, effects_per_second, lowest_rate, recovery_seconds
from benchmarks.report import progress
from benchmarks.supervisor import Supervisor

SAMPLE_EVERY = 0.25
LONGEST_RECOVERY = 30.0
#: Seconds of calm that the throughput before a fault is taken from.
CALM = 5.0
#: So many acknowledged deliveries without their effect are on their way, not left behind.
FEW = 100
#: Seconds that the last deliveries may take to be acknowledged, and then to have their effect: what a killed worker
#: held comes back after its visibility timeout of 30 s.
SETTLING = 90.0


@dataclass(frozen=True)
class Survived:
    """One fault, the throughput before it, and the seconds until it was reached again (None: not while watched).

    `lowest_after` is the lowest throughput from then until the next fault: what was held comes back late.
    """

    fault: Fault
    before: float
    recovery_s: float | None
    lowest_after: float | None = None

    @property
    def is_recovered(self) -> bool:
        """Whether it recovered in time."""
        return self.recovery_s is not None and self.recovery_s <= LONGEST_RECOVERY


@dataclass(frozen=True)
class Outcome:
    """Everything that was counted."""

    sent: int
    acknowledged: int
    effects: int
    resent: int
    kills: int
    restarts: int
    audit: BooksAudit
    survived: Sequence[Survived]
    samples: Sequence[Sample]


class Sampler:
    """Reads several times a second how many effects are committed, from a thread and by a connection of its own."""

    def __init__(self, address: str, traffic: Traffic) -> None:
        self._address = address
        self._traffic = traffic
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = time.perf_counter()
        self.samples: list[Sample] = []

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        self._thread.join()

    def now(self) -> float:
        """Return the seconds since the start, the samples' clock."""
        return time.perf_counter() - self._started

    def _run(self) -> None:
        while not self._stopping.is_set():
            # Without a server there are no new effects; it is asked again.
            with suppress(psycopg.Error), psycopg.connect(self._address, autocommit=True) as connection:
                while not self._stopping.wait(SAMPLE_EVERY):
                    row = connection.execute("SELECT count(*) FROM transfers").fetchone()
                    acknowledged = len(self._traffic.acknowledged)
                    self.samples.append(Sample(self.now(), acknowledged, int(row[0]) if row else 0))
            self._stopping.wait(SAMPLE_EVERY)


class Run:
    """A running installation under fire."""

    def __init__(
        self, *, postgres: PostgresServer, supervisor: Supervisor, workers: Sequence[str], traffic: Traffic
    ) -> None:
        self._postgres = postgres
        self._supervisor = supervisor
        self._workers = workers
        self._traffic = traffic
        self._sampler = Sampler(postgres.address, traffic)

    def strike(self, orders: PaidOrders, *, seconds: float) -> Outcome:
        """Let traffic flow, inject every fault, wait for what is on its way, and count."""
        self._traffic.start()
        self._sampler.start()
        # The first seconds warm up the processes; they are no measure of what comes later.
        time.sleep(CALM)
        faults = injections(self._postgres, self._supervisor, self._workers, seconds)
        survived = [self._survive(each) for each in faults]
        survived = self._with_dips(survived, self._sampler.now())
        self._traffic.finish(within=SETTLING)
        self._wait_for_effects()
        self._sampler.stop()
        return self._count(orders, survived)

    def _survive(self, injection: Injection) -> Survived:
        # Nothing is left of the fault before: a backlog being worked off would pass for throughput.
        self._wait_for_effects(waiting=FEW)
        time.sleep(CALM)
        began = self._sampler.now()
        before = effects_per_second(self._sampler.samples, began - CALM, began)
        progress(f"{began:.0f} s, {before:.0f} effects/s: {injection.name}")
        injection.inject()
        ended = self._sampler.now()
        timed_from = began if injection.lasts else ended
        while True:
            time.sleep(SAMPLE_EVERY)
            fault = Fault(injection.name, began, ended, timed_from, self._sampler.now())
            recovery = recovery_seconds(self._sampler.samples, fault, before=before)
            if recovery is not None or fault.watched_until > timed_from + LONGEST_RECOVERY + WINDOW:
                break
        progress(f"{injection.name}: " + ("not recovered" if recovery is None else f"recovered in {recovery:.1f} s"))
        return Survived(fault, before, recovery)

    def _with_dips(self, survived: Sequence[Survived], end: float) -> list[Survived]:
        """Look at what came after each recovery, until the next fault or the end."""
        nexts = [each.fault.began for each in survived[1:]] + [end]
        return [
            replace(
                each,
                lowest_after=lowest_rate(self._sampler.samples, each.fault.timed_from + (each.recovery_s or 0), until),
            )
            for each, until in zip(survived, nexts, strict=True)
        ]

    def _wait_for_effects(self, *, waiting: int = 0) -> None:
        """Wait until no more than `waiting` acknowledged deliveries have no effect yet."""
        deadline = time.perf_counter() + SETTLING
        while time.perf_counter() < deadline:
            newest = self._sampler.samples[-1:]
            if newest and newest[0].effects + waiting >= newest[0].acknowledged:
                return
            time.sleep(SAMPLE_EVERY)

    def _count(self, orders: PaidOrders, survived: Sequence[Survived]) -> Outcome:
        books = read_books(self._postgres.address)
        acknowledged = set(self._traffic.acknowledged)
        # What was stored and never answered is neither lost nor doubled; its points are right as well.
        stored = {number for number in range(self._traffic.sent) if order_id(number) in books.orders}
        return Outcome(
            sent=self._traffic.sent,
            resent=self._traffic.resent,
            acknowledged=len(acknowledged),
            effects=sum(books.transfers.values()),
            kills=self._supervisor.kills,
            restarts=self._supervisor.restarts,
            audit=audit_books(books, orders.awards(acknowledged | stored)),
            survived=survived,
            samples=list(self._sampler.samples),
        )
