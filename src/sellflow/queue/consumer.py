"""The consumer of one queue: claims a batch, and commits effects, emitted events and acknowledgement together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import structlog
from prometheus_client import Counter, Histogram

from sellflow.errors import SellflowError
from sellflow.postgres.database import UNAVAILABLE, Connection, Pool
from sellflow.postgres.transactions import batch_transaction
from sellflow.queue.batches import Busy, Parts, apart
from sellflow.queue.calls import Answer, call_outside
from sellflow.queue.claims import Claim, claim, extend, hand_back, take
from sellflow.queue.event_log import emit
from sellflow.queue.handling import COLLISIONS, Handling
from sellflow.queue.parking import release_followers, unpark
from sellflow.queue.registry import Registry
from sellflow.queue.results import Done, Result, Withheld, finished, record
from sellflow.queue.topics import Event, Outbox, Subscription
from sellflow.queue.wakeups import WakeUps
from sellflow.settings import Settings
from sellflow.waiting import wait_at_most

log = structlog.get_logger(__name__)

handled_total = Counter("sellflow_messages_handled_total", "Messages by what became of them.", ["queue", "outcome"])
batch_seconds = Histogram("sellflow_batch_seconds", "Seconds from taking a batch to its commit.", ["queue"])
abandoned_total = Counter("sellflow_batches_abandoned_total", "Batches rolled back whole, to come back.", ["queue"])

LONGEST_PAUSE = 5.0


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
        self._handling = Handling(subscription, settings)
        self._stopping = asyncio.Event()
        self._next_unpark = 0.0
        self._last_shop = 0
        #: What was in hand when the database was lost.
        self._interrupted: Sequence[Claim] = ()
        self.name = f"a consumer of {self._queue}"
        #: When it last got a step further, on the monotonic clock.
        self.progressed_at = time.monotonic()
        for outcome in ("done", "retry", "dead"):
            handled_total.labels(self._queue, outcome)  # a counter that appears at its first event hides that event

    def stop(self) -> None:
        """Finish the batch in hand, then return from `run`."""
        self._stopping.set()
        self._wake_up.set()

    async def run(self) -> None:
        """Serve the queue until `stop`; a lost database is waited for."""
        pause = 0.1
        while not self._stopping.is_set():
            self.progressed_at = time.monotonic()
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
        """Claim and handle one batch; return how many messages were claimed or moved out of the way."""
        self._wake_up.clear()
        await self._return_interrupted()
        await self._unpark_due()
        found = await claim(
            self._pool,
            self._queue,
            visibility_timeout=self._settings.worker_visibility_timeout,
            quantity=self._settings.worker_batch_size,
            after_shop=self._last_shop,
        )
        if found.claims:
            self._last_shop = found.last_shop
            log.debug("queue.claimed", queue=self._queue, messages=[each.msg_id for each in found.claims])
            self.progressed_at = time.monotonic()
            await self._handle_claims(found.claims)
        return len(found.claims) + found.moved

    async def _wait_for_messages(self) -> None:
        await wait_at_most(self._wake_up, self._settings.worker_poll_interval)

    async def _unpark_due(self) -> None:
        """Bring parked messages back, looking at most once per poll interval."""
        if time.monotonic() < self._next_unpark:
            return
        moved = await unpark(self._pool, self._queue, quantity=self._settings.worker_batch_size)
        if moved < self._settings.worker_batch_size:
            self._next_unpark = time.monotonic() + self._settings.worker_poll_interval

    async def _return_interrupted(self) -> None:
        """Hand back what was in hand when the database was lost, instead of waiting for its claims to run out."""
        if self._interrupted:
            await hand_back(self._pool, self._queue, self._interrupted, were_tried=True)
            self._interrupted = ()

    @asynccontextmanager
    async def _keeping(self, claims: Sequence[Claim]) -> AsyncIterator[None]:
        """Extend claims while the block runs, and hand back what is left of them when it is told to stop."""
        keeper = asyncio.create_task(self._extend(claims))
        try:
            yield
        except asyncio.CancelledError:
            await hand_back(self._pool, self._queue, claims)
            raise
        except UNAVAILABLE:
            self._interrupted = claims
            raise
        finally:
            keeper.cancel()
            await asyncio.wait([keeper])

    async def _extend(self, claims: Sequence[Claim]) -> None:
        timeout = self._settings.worker_visibility_timeout
        while True:
            await asyncio.sleep(timeout / 3)
            try:
                await extend(self._pool, self._queue, claims, visibility_timeout=timeout)
            except UNAVAILABLE as error:  # the claims run out then, and the messages come back
                log.warning("queue.claims_not_extended", queue=self._queue, error=str(error))

    async def _handle_claims(self, claims: Sequence[Claim]) -> None:
        parts = apart(claims, most_claims=self._settings.retry_attempts)
        if parts.others:
            await hand_back(self._pool, self._queue, parts.others)
        # Not the others: somebody may hold them by now, under the count that they had here.
        async with self._keeping([*parts.fresh, *parts.suspects]):
            await self._handle_all(parts)

    async def _handle_all(self, parts: Parts) -> None:
        busy = Busy()
        batches = [batch for batch in (parts.fresh, parts.suspects) if batch]
        for number, batch in enumerate(batches):
            if not await self._handle(batch, busy):
                await hand_back(self._pool, self._queue, [each for later in batches[number:] for each in later])
                return
        if busy.elsewhere:
            await hand_back(
                self._pool, self._queue, [each for batch in batches for each in batch if each.line in busy.elsewhere]
            )

    async def _handle(self, claims: Sequence[Claim], busy: Busy) -> bool:
        """Handle a batch in one transaction; return False when another worker got in its way.

        What cannot be committed comes back, and is never half done.
        """
        answers = await self._call_outside(claims) if self._subscription.calls else {}
        started = time.perf_counter()
        try:
            async with (
                self._pool.acquire() as connection,
                batch_transaction(connection, (each.shop_id for each in claims)),
            ):
                results = await self._work(connection, claims, answers, busy)
        except COLLISIONS as error:
            abandoned_total.labels(self._queue).inc()
            log.info("queue.collision", queue=self._queue, error=str(error))
            return False
        self.progressed_at = time.monotonic()
        batch_seconds.labels(self._queue).observe(time.perf_counter() - started)
        for result in results:
            self._report(result)
        return True

    async def _call_outside(self, claims: Sequence[Claim]) -> dict[int, Answer]:
        async def ask(held: Claim, event: Event) -> Answer:
            answer = await self._handling.ask(self._pool, held, event)
            self.progressed_at = time.monotonic()
            return answer

        return await call_outside(self._pool, self._queue, claims, ask, at_a_time=self._settings.worker_calls)

    async def _work(
        self, connection: Connection, claims: Sequence[Claim], answers: Mapping[int, Answer], busy: Busy
    ) -> list[Result]:
        outbox = Outbox()
        taken = await take(connection, self._queue, claims)
        ours = {held.msg_id for held, _ in taken}
        busy.elsewhere |= {each.line for each in claims if each.line and each.msg_id not in ours}
        results = await self._handling.handle(connection, taken, answers, outbox, busy.held_up)
        news = await record(connection, self._queue, results)
        await emit(connection, self._registry, [*outbox.events, *(news if self._subscription.announces else ())])
        # The last statement: it keeps the other claims of this queue waiting until the commit.
        await release_followers(connection, self._queue, finished(results))
        return results

    def _report(self, result: Result) -> None:
        if isinstance(result, Withheld):
            return
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
