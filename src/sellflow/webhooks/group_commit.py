"""Group commit: deliveries that arrive while a commit is in flight share the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

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


class GroupCommit:
    """A bounded waiting room in front of a store, served by a few committers."""

    def __init__(self, store: Store, *, committers: int, batch_size: int, max_waiting: int, max_bytes: int) -> None:
        self._store = store
        self._committers = committers
        self._batch_size = batch_size
        self._max_waiting = max_waiting
        self._max_bytes = max_bytes
        self._queue: deque[tuple[Delivery, asyncio.Future[None]]] = deque()
        self._bytes = 0
        self._count = 0
        self._arrived = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the committers on the running loop."""
        self._tasks = [asyncio.create_task(self._commit_forever()) for _ in range(self._committers)]

    async def stop(self) -> None:
        """Commit what waits, then stop."""
        while self._queue:
            await asyncio.gather(*(future for _, future in list(self._queue)), return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def commit(self, delivery: Delivery) -> None:
        """Return once the delivery is committed.

        Raises
        ------
        WaitingRoomFullError
            If too much waits already; nothing was stored.
        DatabaseUnavailableError
            If the database is away; the delivery may have been stored, a retry finds out by its id.
        RefusedByDatabaseError
            If Postgres refuses this very delivery.
        """
        size = len(delivery.payload)
        if self._count >= self._max_waiting or self._bytes + size > self._max_bytes:
            raise WaitingRoomFullError(f"{self._count} deliveries ({self._bytes} bytes) wait to be stored")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((delivery, future))
        self._count += 1
        self._bytes += size
        self._arrived.set()
        await future

    async def _commit_forever(self) -> None:
        while True:
            await self._arrived.wait()
            batch = self._next_batch()
            if batch:
                await self._commit_batch(batch)

    def _next_batch(self) -> list[tuple[Delivery, asyncio.Future[None]]]:
        """Take what waits, leaving out whoever gave up waiting."""
        batch: list[tuple[Delivery, asyncio.Future[None]]] = []
        while self._queue and len(batch) < self._batch_size:
            delivery, future = self._queue.popleft()
            if future.done():
                self._leave(delivery)
            else:
                batch.append((delivery, future))
        if not self._queue:
            self._arrived.clear()
        return batch

    async def _commit_batch(self, batch: Sequence[tuple[Delivery, asyncio.Future[None]]]) -> None:
        refused: Mapping[tuple[int, str, str], SellflowError] = {}
        failure: SellflowError | None = None
        try:
            refused = await self._store([delivery for delivery, _ in batch])
        except SellflowError as error:
            failure = error
        except Exception as error:
            log.exception("webhooks.commit_failed")
            failure = DatabaseUnavailableError(f"the deliveries could not be stored: {error}")
        commit_size.observe(len(batch))
        for delivery, future in batch:
            self._leave(delivery)
            _answer(future, failure or refused.get(delivery.identity))
        waiting_deliveries.set(self._count)

    def _leave(self, delivery: Delivery) -> None:
        self._count -= 1
        self._bytes -= len(delivery.payload)


def _answer(future: asyncio.Future[None], error: SellflowError | None) -> None:
    if future.done():
        return  # whoever waited gave up meanwhile
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
