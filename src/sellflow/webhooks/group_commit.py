"""Group commit: deliveries that arrive while a commit is in flight share the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import structlog
from prometheus_client import Gauge, Histogram

from sellflow.errors import DatabaseUnavailableError, SellflowError
from sellflow.webhooks.store import Delivery

log = structlog.get_logger(__name__)

waiting_deliveries = Gauge("sellflow_webhooks_waiting", "Deliveries that wait for their commit.")
commit_size = Histogram(
    "sellflow_webhook_commit_size",
    "Deliveries per commit.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
)

Store = Callable[[Sequence[Delivery]], Awaitable[Mapping[tuple[int, str, str], SellflowError]]]


class WaitingRoomFullError(SellflowError):
    """More deliveries wait than may: the sender is to come back."""

    code = "webhook.overloaded"


class LateError(SellflowError):
    """A delivery waited for its commit until its sender was about to give up."""

    code = "webhook.late"


class Waiting(NamedTuple):
    """A delivery, who waits for it, and until when (in the loop's time)."""

    delivery: Delivery
    future: asyncio.Future[None]
    deadline: float


class GroupCommit:
    """A bounded waiting room in front of a store, served by a few committers."""

    def __init__(
        self,
        store: Store,
        *,
        committers: int,
        batch_size: int,
        max_waiting: int,
        max_bytes: int,
        deadline: float,
    ) -> None:
        self._deadline = deadline
        self._store = store
        self._committers = committers
        self._batch_size = batch_size
        self._max_waiting = max_waiting
        self._max_bytes = max_bytes
        self._queue: deque[Waiting] = deque()
        self._in_flight: dict[int, Sequence[Waiting]] = {}  # by committer
        self._bytes = 0
        self._count = 0
        self._arrived = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the committers on the running loop."""
        committers = [asyncio.create_task(self._commit_forever(number)) for number in range(self._committers)]
        self._tasks = [*committers, asyncio.create_task(self._watch_deadlines())]

    async def stop(self) -> None:
        """Commit what waits, then stop; a commit that hangs is left behind once everybody was answered."""
        # Nobody waits longer than the deadline: whoever is not stored by then is told to come back.
        await asyncio.gather(*(each.future for each in self._everybody()), return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=self._deadline)

    def commit(self, delivery: Delivery) -> asyncio.Future[None]:
        """Take a delivery in; the future it returns is done once it is committed.

        Raises
        ------
        WaitingRoomFullError
            If too much waits already; nothing was stored.

        The future raises
        -----------------
        LateError
            If it was not committed in time; it may still be, a retry finds out by its id.
        DatabaseUnavailableError
            If the database is away; the delivery may have been stored, a retry finds out by its id.
        RefusedByDatabaseError
            If Postgres refuses this very delivery.
        """
        size = len(delivery.payload)
        if self._count >= self._max_waiting or self._bytes + size > self._max_bytes:
            raise WaitingRoomFullError(f"{self._count} deliveries ({self._bytes} bytes) wait to be stored")
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._queue.append(Waiting(delivery, future, loop.time() + self._deadline))
        self._count += 1
        self._bytes += size
        self._arrived.set()
        return future

    def _everybody(self) -> Iterator[Waiting]:
        """Return whoever waits for a commit, or for the end of one."""
        yield from self._queue
        for batch in self._in_flight.values():
            yield from batch

    async def _commit_forever(self, committer: int) -> None:
        while True:
            await self._arrived.wait()
            batch = self._next_batch()
            if batch:
                self._in_flight[committer] = batch
                await self._commit_batch(batch)
                del self._in_flight[committer]

    def _next_batch(self) -> list[Waiting]:
        """Take what waits, leaving out whoever gave up waiting."""
        batch: list[Waiting] = []
        while self._queue and len(batch) < self._batch_size:
            waiting = self._queue.popleft()
            if waiting.future.done():
                self._leave(waiting)
            else:
                batch.append(waiting)
        if not self._queue:
            self._arrived.clear()
        return batch

    async def _commit_batch(self, batch: Sequence[Waiting]) -> None:
        refused: Mapping[tuple[int, str, str], SellflowError] = {}
        failure: SellflowError | None = None
        try:
            refused = await self._store([each.delivery for each in batch])
        except SellflowError as error:
            failure = error
        except Exception as error:
            log.exception("webhooks.commit_failed")
            failure = DatabaseUnavailableError(f"the deliveries could not be stored: {error}")
        commit_size.observe(len(batch))
        for each in batch:
            self._leave(each)
            _answer(each.future, failure or refused.get(each.delivery.identity))
        waiting_deliveries.set(self._count)

    async def _watch_deadlines(self) -> None:
        """Give up on deliveries whose time is over, one timer for all of them."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._deadline / 20)
            now = loop.time()
            for each in list(self._everybody()):
                if each.deadline <= now:
                    _answer(each.future, LateError(f"the delivery was not stored within {self._deadline:g} s"))

    def _leave(self, waiting: Waiting) -> None:
        self._count -= 1
        self._bytes -= len(waiting.delivery.payload)


def _answer(future: asyncio.Future[None], error: SellflowError | None) -> None:
    if future.done():
        return  # whoever waited gave up meanwhile
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
