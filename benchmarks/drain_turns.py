"""Queue sides in turn: filled, then emptied by their one worker process against the clock, then audited."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from benchmarks.books import Books, BooksAudit, audit_books, differing, read_books
from benchmarks.errors import BenchmarkError
from benchmarks.machine import machine_versions
from benchmarks.memory import process_tree, processor_seconds
from benchmarks.paid_orders import PaidOrders
from benchmarks.queue_sides import QueueSide, Worked
from benchmarks.report import progress

PAIRS = 3
LOOK_EVERY = 0.02
PROGRESS: LiteralString = "SELECT clock_timestamp(), count(*), COALESCE(max(transfer_id), 0) FROM transfers"


@dataclass(frozen=True)
class Drained:
    """One emptied queue; `cpu_us` are microseconds of processor time an order, by process, start-up left out."""

    orders: int
    seconds: float
    per_s: float
    cpu_us: Mapping[str, float]


@dataclass(frozen=True)
class DrainTurn:
    """One side's figures in one round, and whether its books are right after it."""

    drained: Drained
    audit: BooksAudit


class DrainTurns:
    """Runs the turns; the orders of each round are new ones of the same customers, so tables grow on every side."""

    def __init__(self, orders: PaidOrders, *, count: int, limit: float, folder: Path) -> None:
        self._orders = orders
        self._count = count
        self._limit = limit
        self._folder = folder
        self._books: dict[str, Books] = {}
        self.durability: dict[str, dict[str, str]] = {}
        self.versions: dict[str, dict[str, str]] = {"machine": machine_versions(folder)}

    def rounds(self, sides: Sequence[QueueSide]) -> list[dict[str, DrainTurn]]:
        """Let every side have its turn, then again."""
        for side in sides:
            progress(f"preparing {side.name}")
            folder = self._folder / side.name
            folder.mkdir()
            side.prepare(folder)
        return [self._round(sides, number) for number in range(PAIRS)]

    def differing(self) -> list[str]:
        """Name the sides whose rows at the end are not those of the first side."""
        return differing(self._books)

    def _round(self, sides: Sequence[QueueSide], number: int) -> dict[str, DrainTurn]:
        numbers = range(number * self._count, (number + 1) * self._count)
        file = self._folder / "orders.jsonl"
        self._orders.write(file, numbers)
        return {side.name: self._turn(side, file, numbers, f"pair {number + 1} of {PAIRS}") for side in sides}

    def _turn(self, side: QueueSide, file: Path, numbers: range, when: str) -> DrainTurn:
        with running(side) as address:
            self.versions[side.name] = side.versions()
            side.fill(file)
            drained = time_drain(side, address, count=len(numbers), limit=self._limit)
            self._books[side.name] = read_books(address)
            self.durability |= side.durability()
        checked = audit_books(self._books[side.name], self._orders.awards(range(numbers.stop)))
        costs = ", ".join(f"{name} {micros:.0f}" for name, micros in drained.cpu_us.items())
        progress(f"{when}: {side.name} {drained.per_s:,.0f}/s; µs of processor an order: {costs}")
        if not checked.is_clean:
            progress(f"{when}: the books of {side.name} are wrong: {checked}")
        return DrainTurn(drained, checked)


@contextmanager
def running(side: QueueSide) -> Iterator[str]:
    """Start a side's servers, yield the address of its effects, and stop everything afterwards."""
    try:
        yield side.start()
    finally:
        side.stop()


def time_drain(side: Worked, address: str, *, count: int, limit: float) -> Drained:
    """Start the worker and wait until `count` more orders have their effect.

    The clock is the server's on every side. It runs from the start of the transaction with the first effect, so that
    no process's start-up counts, to the moment at which the last one is seen committed.

    Raises
    ------
    BenchmarkError
        If that takes longer than `limit` seconds, with the end of the worker's log.
    """
    with psycopg.connect(address, autocommit=True) as connection:
        before = _ask(connection, PROGRESS)
        side.work()
        idle: dict[str, float] = {}
        deadline = time.perf_counter() + limit
        while True:
            # Reading the largest id costs next to nothing. It may run ahead of the count, so the count decides.
            at, newest = _ask(connection, "SELECT clock_timestamp(), COALESCE(max(transfer_id), 0) FROM transfers")
            if not idle and newest > before[2]:
                idle = _processor_times(side)
            if newest >= before[2] + count and _ask(connection, PROGRESS)[1] >= before[1] + count:
                break
            if time.perf_counter() > deadline:
                raise BenchmarkError(f"{side.name} was not done after {limit:.0f} s:\n{side.said()}")
            time.sleep(LOOK_EVERY)
        used = {name: seconds - idle[name] for name, seconds in _processor_times(side).items()}
        began = _ask(connection, "SELECT min(recorded_at) FROM orders WHERE recorded_at >= %s", before[0])[0]
    took = (at - began).total_seconds()
    costs = {name: round(1e6 * seconds / count, 1) for name, seconds in used.items()}
    return Drained(count, round(took, 3), round(count / took, 1), costs)


def _processor_times(side: Worked) -> dict[str, float]:
    return {name: processor_seconds(process_tree(pid)) for name, pid in side.processes().items()}


def _ask(connection: psycopg.Connection, query: LiteralString, *values: object) -> tuple[Any, ...]:  # Any: a row
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return row
