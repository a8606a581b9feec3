"""The consumer of one queue: claims a batch, and commits effects, emitted events and acknowledgement together."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import asyncpg
import structlog
from prometheus_client import Counter, Histogram

from sellflow.errors import PermanentError, SellflowError
from sellflow.postgres.database import UNAVAILABLE, Connection, Pool
from sellflow.postgres.transactions import batch_transaction, savepoint
from sellflow.queue.claims import Claim, claim, hand_back, take, unpark
from sellflow.queue.event_log import emit
from sellflow.queue.results import Done, Failed, record_done, record_failed
from sellflow.queue.retries import RetryPolicy
from sellflow.queue.topics import Event, Handler, Outbox, Registry, Subscription
from sellflow.queue.wakeups import WakeUps
from sellflow.settings import Settings
from sellflow.waiting import wait_at_most

log = structlog.get_logger(__name__)

handled_total = Counter("sellflow_messages_handled_total", "Messages by what became of them.", ["queue", "outcome"])
batch_seconds = Histogram("sellflow_batch_seconds", "Seconds from taking a batch to its commit.", ["queue"])
abandoned_total = Counter("sellflow_batches_abandoned_total", "Batches rolled back whole, to come back.", ["queue"])

#: Another worker got in the way; the same batch succeeds when it is tried again.
COLLISIONS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)
LONGEST_PAUSE = 5.0

Parsed = tuple[Claim, Event, Any]


class UnhandledTopicError(PermanentError):
    """A message reached a queue that has no handler for its topic."""

    code = "queue.unhandled_topic"


class EventGoneError(PermanentError):
    """A message refers to an event that the log does not hold, or that belongs to another shop."""

    code = "queue.event_gone"


class WorkerDiedError(PermanentError):
    """A message was claimed again and again and never finished: it may kill the process that handles it."""

    code = "queue.worker_died"


class Consumer:
    """Serves one queue on one connection until it is told to stop."""

    def __init__(
        self,
        *,
        subscription: Subscription,
        registry: Registry,
        pool: Pool,
        wake_ups: WakeUps,
        settings: Settings,
    ) -> None:
        self._subscription = subscription
        self._queue = subscription.queue
        self._registry = registry
        self._pool = pool
        self._wake_up = wake_ups.event(subscription.queue)
        self._settings = settings
        self._policy = RetryPolicy(settings.retry_attempts, settings.retry_base, settings.retry_cap)
        self._stopping = asyncio.Event()
        self._next_unpark = 0.0

    def stop(self) -> None:
        """Finish the batch in hand, then return from `run`."""
        self._stopping.set()
        self._wake_up.set()

    async def run(self) -> None:
        """Serve the queue until `stop`; a lost database is waited for."""
        pause = 0.1
        while not self._stopping.is_set():
            try:
                if not await self.run_once():
                    await self._wait_for_messages()
                pause = 0.1
            except UNAVAILABLE as error:
                log.warning("queue.database_unavailable", queue=self._queue, error=str(error), retry_in=pause)
                await wait_at_most(self._stopping, pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            except Exception:
                # The batch was rolled back whole and comes back after its visibility timeout; when the fault is
                # in a message, its read count sends it to the dead letters in the end.
                abandoned_total.labels(self._queue).inc()
                log.exception("queue.batch_abandoned", queue=self._queue)
                await wait_at_most(self._stopping, pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    async def run_once(self) -> int:
        """Claim and handle one batch; return how many messages were claimed."""
        self._wake_up.clear()
        await self._unpark_due()
        claims = await claim(
            self._pool,
            self._queue,
            visibility_timeout=self._settings.worker_visibility_timeout,
            quantity=self._settings.worker_batch_size,
        )
        if claims:
            log.debug("queue.claimed", queue=self._queue, messages=[each.msg_id for each in claims])
            for batch in _apart(claims):
                await self._handle(batch)
        return len(claims)

    async def _wait_for_messages(self) -> None:
        await wait_at_most(self._wake_up, self._settings.worker_poll_interval)

    async def _unpark_due(self) -> None:
        """Bring parked messages back, looking at most once per poll interval."""
        if time.monotonic() < self._next_unpark:
            return
        moved = await unpark(self._pool, self._queue, quantity=self._settings.worker_batch_size)
        if moved < self._settings.worker_batch_size:
            self._next_unpark = time.monotonic() + self._settings.worker_poll_interval

    async def _handle(self, claims: Sequence[Claim]) -> None:
        """Handle a batch in one transaction; what cannot be committed comes back, and is never half done."""
        started = time.perf_counter()
        try:
            async with (
                self._pool.acquire() as connection,
                batch_transaction(connection, (each.shop_id for each in claims)),
            ):
                results = await self._work(connection, claims)
        except COLLISIONS as error:
            abandoned_total.labels(self._queue).inc()
            log.info("queue.collision", queue=self._queue, error=str(error))
            await hand_back(self._pool, self._queue, claims)
            return
        batch_seconds.labels(self._queue).observe(time.perf_counter() - started)
        for result in results:
            self._report(result)

    async def _work(self, connection: Connection, claims: Sequence[Claim]) -> list[Done | Failed]:
        outbox = Outbox()
        results: list[Done | Failed] = []
        by_handler: dict[str, list[Parsed]] = defaultdict(list)
        handlers = {handler.name: handler for handler in self._subscription.handlers}
        for held, event in await take(connection, self._queue, claims):
            try:
                handler = self._handler_for(held, event)
                parsed = handler.parse(event)
            except Exception as error:  # noqa: BLE001 - a parser's fault is the message's outcome, recorded with it
                results.append(self._failed(held, event, "parse", error))
            else:
                by_handler[handler.name].append((held, event, parsed))
        for name, batch in by_handler.items():
            results += await self._isolate(connection, handlers[name], batch, outbox)
        await emit(connection, self._registry, outbox.events)
        await record_done(connection, self._queue, [r for r in results if isinstance(r, Done)])
        await record_failed(connection, self._queue, [r for r in results if isinstance(r, Failed)])
        return results

    def _handler_for(self, held: Claim, event: Event) -> Handler:
        if held.read_ct > self._settings.retry_attempts:
            raise WorkerDiedError(
                f"claimed {held.read_ct} times and never finished: its handler may run out of memory or time"
            )
        if not event.topic:
            raise EventGoneError(f"the event log holds no event {event.event_id} of {event.day} for this shop")
        handler = self._subscription.handler_for(event.topic)
        if handler is None:
            raise UnhandledTopicError(f"the queue {self._queue} has no handler for the topic {event.topic!r}")
        return handler

    async def _isolate(
        self, connection: Connection, handler: Handler, batch: Sequence[Parsed], outbox: Outbox
    ) -> list[Done | Failed]:
        """Apply a batch; when it fails, halve it until the message at fault is alone and the rest is done."""
        emitted = len(outbox.events)
        try:
            async with savepoint(connection):
                details = await handler.apply(connection, [(event, parsed) for _, event, parsed in batch], outbox)
        except COLLISIONS:
            raise
        except Exception as error:
            if connection.is_closed():
                raise
            del outbox.events[emitted:]
            if len(batch) == 1:
                held, event, _ = batch[0]
                return [self._failed(held, event, handler.name, error)]
            middle = len(batch) // 2
            first = await self._isolate(connection, handler, batch[:middle], outbox)
            return first + await self._isolate(connection, handler, batch[middle:], outbox)
        return [Done(event, held, handler.name, details.get(event.event_id, "")) for held, event, _ in batch]

    def _failed(self, held: Claim, event: Event, handler: str, error: Exception) -> Failed:
        delay = self._policy.delay(held.failures + 1, error, random.random())  # noqa: S311 - jitter, not a secret
        return Failed(event, held, handler, error, delay)

    def _report(self, result: Done | Failed) -> None:
        if isinstance(result, Done):
            handled_total.labels(self._queue, "done").inc()
            return
        outcome = "dead" if result.retry_in is None else "retry"
        handled_total.labels(self._queue, outcome).inc()
        known = isinstance(result.error, SellflowError)
        log.warning(
            "queue.failed",
            queue=self._queue,
            outcome=outcome,
            event_id=result.event.event_id,
            topic=result.event.topic,
            attempt=result.attempt,
            code=result.code,
            error=result.message,
            trace=None if known else result.trace,
        )


def _apart(claims: Sequence[Claim]) -> list[list[Claim]]:
    """Split a claim into batches: one of the messages claimed for the first time, and each other one alone.

    A message that was claimed before without an outcome may be what killed the worker then. Alone, it can take no
    other with it, and only its own count of claims goes on rising.
    """
    first = [each for each in claims if each.read_ct == 1]
    return ([first] if first else []) + [[each] for each in claims if each.read_ct > 1]
