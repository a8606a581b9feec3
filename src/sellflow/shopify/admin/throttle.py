"""Waits for points of a shop's bucket, and books what was done with them. The books are shared by all processes.

In a process, callers of a shop stand in two lines, and only the first of each asks the database, so that there is
little to wake. No connection is held while anybody waits or calls Shopify.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from secrets import token_hex

import structlog
from prometheus_client import Counter as CounterMetric
from prometheus_client import Gauge, Histogram

from sellflow.postgres.database import UNAVAILABLE
from sellflow.postgres.transactions import Transactions
from sellflow.shopify.admin.errors import NoTurnError, UnavailableError
from sellflow.shopify.admin.throttle_store import Settlement, Turn, leave_line, settle_points, take_points
from sellflow.waiting import wait_at_most

log = structlog.get_logger(__name__)

waiting_seconds = Histogram(
    "sellflow_shopify_waiting_seconds", "Seconds that calls to Shopify waited for points.", ["urgency"]
)
waiting_calls = Gauge("sellflow_shopify_waiting", "Calls to Shopify that wait for points.", ["urgency"])
points_total = CounterMetric("sellflow_shopify_points_total", "Points that calls to Shopify cost.", ["urgency"])


class Urgency(Enum):
    """Who waits for the answer."""

    #: Somebody who looks at a screen.
    FOREGROUND = "foreground"
    #: Nobody: these leave a part of the bucket to the others.
    BACKGROUND = "background"


class Ticket:
    """Points that were taken for one call. What is not settled when its block ends counts as spent."""

    def __init__(self, shop_id: int, urgency: Urgency, points: float) -> None:
        self.shop_id = shop_id
        self.urgency = urgency
        self.points = points
        self.name = token_hex(8)
        self.settlement = Settlement()

    def settle(self, settlement: Settlement) -> None:
        """Say what became of the call."""
        self.settlement = settlement


class Throttle:
    """Lets calls go when their shop's bucket has the points.

    `reserve` is the part of the bucket, between 0 and 1, that calls in the background leave; `lifetime` the seconds
    after which a call that was never settled is taken to have died with its process.
    """

    def __init__(self, transactions: Transactions, *, reserve: float, lifetime: float) -> None:
        self._transactions = transactions
        self._reserve = reserve
        self._lifetime = lifetime
        self._lines = _Lines()

    @asynccontextmanager
    async def spending(
        self, shop_id: int, points: float, urgency: Urgency, *, patience: float
    ) -> AsyncIterator[Ticket]:
        """Run the block with `points` taken, and book its settlement afterwards.

        Raises
        ------
        NoTurnError
            If it would take longer than `patience` seconds until it is its turn.
        UnavailableError
            If the shop is left alone for longer than that.
        """
        ticket = Ticket(shop_id, urgency, points)
        await self._wait(ticket, patience)
        try:
            yield ticket
        finally:
            await self._settle(ticket)

    async def _wait(self, ticket: Ticket, patience: float) -> None:
        started = time.monotonic()
        with waiting_calls.labels(ticket.urgency.value).track_inprogress():
            limit = asyncio.timeout(patience)
            try:
                async with limit, self._lines.stand(ticket.shop_id, ticket.urgency) as wake:
                    await self._ask_until_granted(ticket, started + patience, wake)
            except TimeoutError:
                if limit.expired():
                    raise _too_late(patience) from None
                raise
        waiting_seconds.labels(ticket.urgency.value).observe(time.monotonic() - started)

    async def _ask_until_granted(self, ticket: Ticket, deadline: float, wake: asyncio.Event) -> None:
        asked = False
        try:
            while not (turn := await self._ask(ticket)).is_granted:
                asked = True
                _check_patience(turn, deadline - time.monotonic())
                wake.clear()
                pause = turn.wait if turn.is_closed else turn.look_again
                # Not all processes at once: theirs ran out together, too.
                await wait_at_most(wake, pause * random.uniform(1.0, 1.1))  # noqa: S311
        except BaseException:
            if asked:
                await self._leave(ticket)
            raise

    async def _ask(self, ticket: Ticket) -> Turn:
        """Ask for the points. What a caller who was cancelled meanwhile is granted all the same, is given back."""
        asking = asyncio.create_task(self._take(ticket))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            await asyncio.wait([asking])
            if not asking.cancelled() and asking.exception() is None and asking.result().is_granted:
                ticket.settle(Settlement(points=0))
                await self._settle(ticket)
            raise

    async def _take(self, ticket: Ticket) -> Turn:
        async with self._transactions(ticket.shop_id) as connection:
            return await take_points(
                connection,
                ticket.shop_id,
                ticket.name,
                ticket.points,
                reserve=self._reserve,
                in_background=ticket.urgency is Urgency.BACKGROUND,
                lifetime=self._lifetime,
            )

    async def _settle(self, ticket: Ticket) -> None:
        """Book what became of a call, whoever is cancelled meanwhile."""
        await asyncio.shield(asyncio.create_task(self._book(ticket)))

    async def _book(self, ticket: Ticket) -> None:
        """Write it down; without a database the books forget the call in time, and its answer counts."""
        try:
            async with self._transactions(ticket.shop_id) as connection:
                await settle_points(connection, ticket.shop_id, ticket.name, ticket.settlement)
        except UNAVAILABLE as error:
            log.warning("shopify.points_not_settled", shop_id=ticket.shop_id, error=str(error))
        spent = ticket.points if ticket.settlement.points is None else ticket.settlement.points
        points_total.labels(ticket.urgency.value).inc(max(spent, 0))
        self._lines.wake(ticket.shop_id)

    async def _leave(self, ticket: Ticket) -> None:
        try:
            async with self._transactions(ticket.shop_id) as connection:
                await leave_line(connection, ticket.shop_id, ticket.name)
        except UNAVAILABLE:
            return  # whoever does not come back is left out soon


def _check_patience(turn: Turn, left: float) -> None:
    if turn.wait <= left:
        return
    if turn.is_closed:
        raise UnavailableError(
            f"Shopify did not answer properly, or asked to be left alone: nobody calls for {turn.wait:.1f} s",
            seconds=turn.wait,
        )
    raise NoTurnError(f"the shop's points are spent: {turn.wait:.1f} s until it is this call's turn", seconds=turn.wait)


def _too_late(patience: float) -> NoTurnError:
    return NoTurnError(f"the shop's points are spent: it was not this call's turn within {patience:g} s", seconds=1.0)


class _Lines:
    """Who waits in this process: a line for each shop and urgency, with a bell for whoever stands first."""

    def __init__(self) -> None:
        self._lines: dict[tuple[int, Urgency], tuple[asyncio.Lock, asyncio.Event]] = {}
        self._standing: Counter[tuple[int, Urgency]] = Counter()

    @asynccontextmanager
    async def stand(self, shop_id: int, urgency: Urgency) -> AsyncIterator[asyncio.Event]:
        """Run the block when all who came before have left; its bell rings when a call was settled."""
        key = shop_id, urgency
        lock, bell = self._lines.setdefault(key, (asyncio.Lock(), asyncio.Event()))
        self._standing[key] += 1
        try:
            async with lock:
                yield bell
        finally:
            self._standing[key] -= 1
            if not self._standing[key]:
                del self._standing[key], self._lines[key]

    def wake(self, shop_id: int) -> None:
        """Ring for whoever stands first in the lines of a shop."""
        for urgency in Urgency:
            if line := self._lines.get((shop_id, urgency)):
                line[1].set()
