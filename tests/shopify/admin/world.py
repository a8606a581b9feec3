"""Shopify's bucket and many callers in invented time, with the real books between them."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from sellflow.postgres.database import SessionConnection
from sellflow.shopify.admin.answers import Cost
from sellflow.shopify.admin.throttle_store import BREAK_AFTER, BREAK_FOR, BREAK_FOR_MOST, Settlement, Turn

START = datetime(2026, 10, 1, tzinfo=UTC)
LIFETIME = 45.0


@dataclass(frozen=True)
class Kind:
    """A kind of call: what it asks for and costs, and how long it is on the way there, at work, and on the way back."""

    requested: float
    actual: float
    there: float = 0.02
    work: float = 0.05
    back: float = 0.02
    in_background: bool = True
    #: None is a right estimate.
    estimate: float | None = None
    #: Whether its process dies, or its answer is lost, once it was sent.
    dies: bool = False


@dataclass
class World:
    """Runs callers against a bucket; everything happens at its own moment."""

    connection: SessionConnection
    shop_id: int
    maximum: float = 1000.0
    rate: float = 100.0
    level: float = 0.0
    reserve: float = 0.025
    now: float = 0.0
    used: float = 0.0
    drained: float = 0.0
    throttled: int = 0
    served: int = 0
    waits: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    _level_at: float = 0.0
    _names: Any = field(default_factory=count)
    _todo: list[tuple[float, int, Callable[[], Any]]] = field(default_factory=list)

    # ---- The server ----

    def server_level(self) -> float:
        self.level = min(self.maximum, self.level + self.rate * (self.now - self._level_at))
        self._level_at = self.now
        return self.level

    def drain(self) -> None:
        """Let somebody else spend all there is."""
        self.drained += max(self.server_level(), 0)
        self.level = min(self.level, 0.0)

    def _told(self) -> Cost:
        return Cost(available=self.server_level(), maximum=self.maximum, restore_rate=self.rate)

    # ---- The books ----

    async def take(self, name: str, kind: Kind) -> Turn:
        row = await self.connection.fetchrow(
            "SELECT is_granted, is_closed, wait, look_again FROM take_admin_points($1, $2, $3, $4, $5, $6, $7, $8)",
            self.shop_id,
            name,
            kind.requested if kind.estimate is None else kind.estimate,
            self.reserve,
            kind.in_background,
            LIFETIME,
            BREAK_AFTER,
            self._moment(),
        )
        assert row is not None
        return Turn(**row)

    async def settle(self, name: str, settlement: Settlement) -> None:
        cost = settlement.cost
        await self.connection.execute(
            "SELECT settle_admin_points($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            self.shop_id,
            name,
            settlement.points,
            cost.available,
            cost.maximum,
            cost.restore_rate,
            settlement.failed,
            settlement.pause,
            BREAK_AFTER,
            BREAK_FOR,
            BREAK_FOR_MOST,
            self._moment(),
        )

    async def books(self) -> dict[str, Any]:
        row = await self.connection.fetchrow(
            """
            SELECT b.level, b.maximum, b.in_flight, b.waiting, b.spent, b.is_known, b.failures, b.closed_until,
                   promised_points(b.in_flight) AS promised
            FROM admin_buckets t, restored_bucket(t, $2) b WHERE t.shop_id = $1
            """,
            self.shop_id,
            self._moment(),
        )
        assert row is not None
        return dict(row)

    def _moment(self) -> datetime:
        return START + timedelta(seconds=self.now)

    # ---- Callers ----

    def at(self, moment: float, do: Callable[[], Any]) -> None:
        heapq.heappush(self._todo, (moment, next(self._names), do))

    def caller(self, kind: Kind, *, starts: float = 0.0, then: Callable[[], Any] | None = None) -> None:
        """Add a caller who asks until it may go; `then` is done when it has its answer."""
        name = f"call-{next(self._names)}"

        async def ask() -> None:
            turn = await self.take(name, kind)
            if not turn.is_granted:
                self.at(self.now + (turn.wait if turn.is_closed else turn.look_again), ask)
                return
            self.waits[kind.in_background].append(self.now - starts)
            self.at(self.now + kind.there, arrive)

        def arrive() -> None:
            if self.server_level() < kind.requested:
                self.throttled += 1
                self.at(self.now + kind.back, self._answer(name, kind, self._told(), 0.0, again=ask))
                return
            self.level -= kind.requested
            self.used += kind.requested
            self.served += 1
            self.at(self.now + kind.work, finish)

        def finish() -> None:
            self.server_level()
            self.level = min(self.maximum, self.level + kind.requested - kind.actual)
            self.used -= kind.requested - kind.actual
            if not kind.dies:
                self.at(self.now + kind.back, self._answer(name, kind, self._told(), kind.actual, then=then))

        self.at(starts, ask)

    def _answer(
        self,
        name: str,
        _kind: Kind,
        told: Cost,
        points: float,
        *,
        again: Callable[[], Any] | None = None,
        then: Callable[[], Any] | None = None,
    ) -> Callable[[], Any]:
        async def arrive() -> None:
            await self.settle(name, Settlement(points=points, cost=told, failed=False))
            for step in (again, then):
                if step is not None:
                    self.at(self.now, step)

        return arrive

    async def run(self, until: float) -> None:
        """Let everything happen that is due by then."""
        while self._todo and self._todo[0][0] <= until:
            self.now, _, do = heapq.heappop(self._todo)
            found = do()
            if found is not None:
                await found
        self.now = until

    def backlog(self, kind: Kind, *, callers: int) -> None:
        """Add callers who ask for another call as soon as they have an answer."""
        for _ in range(callers):
            self._again(kind)

    def _again(self, kind: Kind) -> None:
        self.caller(kind, starts=self.now, then=lambda: self._again(kind))


def knows_the_bucket(level: float, maximum: float, rate: float) -> str:
    """Return the statement that makes books which are right at the start."""
    return (
        f"UPDATE admin_buckets SET is_known = true, level = {level}, maximum = {maximum}, restore_rate = {rate}, "
        "in_flight = '{}', waiting = '{}'"
    )
