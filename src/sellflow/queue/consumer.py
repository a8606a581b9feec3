"""The consumer of one queue: claims a batch, and commits effects, emitted events and acknowledgement together."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import structlog
from prometheus_client import Counter, Histogram

from sellflow.errors import PermanentError, SellflowError
from sellflow.postgres.database import UNAVAILABLE, Connection, Pool
from sellflow.postgres.transactions import batch_transaction, is_lost, savepoint
from sellflow.queue.claims import Claim, claim, extend, hand_back, look, take
from sellflow.queue.event_log import emit
from sellflow.queue.parking import release_followers, unpark
from sellflow.queue.results import Done, Failed, Result, Withheld, finished, record
from sellflow.queue.retries import RetryPolicy
from sellflow.queue.topics import Event, Handler, Outbox, Registry, Subscription
from sellflow.queue.wakeups import WakeUps
from sellflow.settings import Settings
from sellflow.waiting import wait_at_most

log = structlog.get_logger(__name__)

handled_total = Counter("sellflow_messages_handled_total", "Messages by what became of them.", ["queue", "outcome"])
batch_seconds = Histogram("sellflow_batch_seconds", "Seconds from taking a batch to its commit.", ["queue"])
handler_seconds = Histogram(
    "sellflow_handler_seconds", "Seconds of one handler's work on a batch.", ["queue", "handler"]
)
abandoned_total = Counter("sellflow_batches_abandoned_total", "Batches rolled back whole, to come back.", ["queue"])

#: Another worker got in the way; the same batch succeeds when it is tried again.
COLLISIONS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)
LONGEST_PAUSE = 5.0

#: A shop and a key of its: messages of the same line keep their order.
Line = tuple[int, str]


@dataclass(slots=True)
class Busy:
    """The lines of a claim whose later messages have to wait."""

    #: An elder message failed, and is to be tried again first.
    held_up: set[Line] = field(default_factory=set)
    #: Somebody else holds an elder message by now.
    elsewhere: set[Line] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call to the outside world came to."""

    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """A message that was taken, with what its handler works on, or with why it cannot."""

    claim: Claim
    event: Event
    handler: Handler | None
    parsed: Any = None
    error: Exception | None = None
    #: False where an elder message of its key failed before its own call's turn came.
    was_asked: bool = True

    @property
    def name(self) -> str:
        """The name of its handler."""
        return self.handler.name if self.handler else "none"


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
        self._last_shop = 0

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
        """Claim and handle one batch; return how many messages were claimed or moved out of the way."""
        self._wake_up.clear()
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
            async with self._keeping(found.claims):
                await self._handle_all(found.claims)
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

    @asynccontextmanager
    async def _keeping(self, claims: Sequence[Claim]) -> AsyncIterator[None]:
        """Extend claims while the block runs, and hand back what is left of them when it is told to stop."""
        keeper = asyncio.create_task(self._extend(claims))
        try:
            yield
        except asyncio.CancelledError:
            await hand_back(self._pool, self._queue, claims)
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

    async def _handle_all(self, claims: Sequence[Claim]) -> None:
        busy = Busy()
        batches = _apart(claims)
        for number, batch in enumerate(batches):
            if not await self._handle([each for each in batch if each.line not in busy.elsewhere], busy):
                # The batch itself and what comes after it, which may be of the same keys.
                await hand_back(self._pool, self._queue, [each for later in batches[number:] for each in later])
                return
        if busy.elsewhere:
            await hand_back(self._pool, self._queue, [each for each in claims if each.line in busy.elsewhere])

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
        batch_seconds.labels(self._queue).observe(time.perf_counter() - started)
        for result in results:
            self._report(result)
        return True

    async def _call_outside(self, claims: Sequence[Claim]) -> dict[int, Answer]:
        """Do what messages ask of the outside world, before and outside the transaction that acknowledges them.

        Messages of one key go one after the other and stop at the first that fails.
        """
        async with (
            self._pool.acquire() as connection,
            batch_transaction(connection, (each.shop_id for each in claims)),
        ):
            found = await look(connection, self._queue, claims)
        lines: dict[Any, list[tuple[Claim, Event]]] = defaultdict(list)
        for held, event in found:
            lines[held.line or held.msg_id].append((held, event))
        answers: dict[int, Answer] = {}
        room = asyncio.Semaphore(self._settings.worker_calls)

        async def follow(line: Sequence[tuple[Claim, Event]]) -> None:
            for held, event in line:
                async with room:
                    answers[held.msg_id] = await self._ask(held, event)
                if answers[held.msg_id].error:
                    return

        async with asyncio.TaskGroup() as group:
            for line in lines.values():
                group.create_task(follow(line))
        return answers

    async def _ask(self, held: Claim, event: Event) -> Answer:
        handler = self._subscription.handler_for(event.topic)
        try:
            parsed = self._parsed(held, event, handler)
            if handler is None or handler.call is None:
                return Answer()
            return Answer(await handler.call(self._pool, event, parsed))
        except Exception as error:  # noqa: BLE001 - the message's outcome, recorded with it
            return Answer(error=error)

    async def _work(
        self, connection: Connection, claims: Sequence[Claim], answers: Mapping[int, Answer], busy: Busy
    ) -> list[Result]:
        outbox = Outbox()
        results: list[Result] = []
        taken = await take(connection, self._queue, claims)
        ours = {held.msg_id for held, _ in taken}
        busy.elsewhere |= {each.line for each in claims if each.line and each.msg_id not in ours}
        for batch in _in_order([self._prepare(held, event, answers) for held, event in taken]):
            results += await self._isolate(connection, batch, outbox, busy.held_up)
        news = await record(connection, self._queue, results)
        await emit(connection, self._registry, [*outbox.events, *(news if self._subscription.announces else ())])
        # The last statement: it keeps the other claims of this queue waiting until the commit.
        await release_followers(connection, self._queue, finished(results))
        return results

    def _prepare(self, held: Claim, event: Event, answers: Mapping[int, Answer]) -> Ready:
        handler = self._subscription.handler_for(event.topic)
        try:
            parsed = self._parsed(held, event, handler)
        except Exception as error:  # noqa: BLE001 - the message's outcome, recorded with it
            return Ready(held, event, handler, error=error)
        if handler is None or handler.call is None:
            return Ready(held, event, handler, parsed)
        answer = answers.get(held.msg_id)
        if answer is None:
            return Ready(held, event, handler, was_asked=False)
        return Ready(held, event, handler, (parsed, answer.value), error=answer.error)

    def _parsed(self, held: Claim, event: Event, handler: Handler | None) -> Any:  # noqa: ANN401 - the handler's own
        if held.read_ct > self._settings.retry_attempts:
            raise WorkerDiedError(
                f"claimed {held.read_ct} times and never finished: its handler may run out of memory or time"
            )
        if not event.topic:
            raise EventGoneError(f"the event log holds no event {event.event_id} of {event.day} for this shop")
        if handler is None:
            raise UnhandledTopicError(f"the queue {self._queue} has no handler for the topic {event.topic!r}")
        return handler.parse(event)

    async def _isolate(
        self, connection: Connection, batch: Sequence[Ready], outbox: Outbox, held_up: set[Line]
    ) -> list[Result]:
        """Apply a batch of one handler; when it fails, halve it until the message at fault is alone.

        The messages after it are done all the same, but for those of its key.
        """
        withheld: list[Result] = [
            Withheld(each.event, each.claim, has_leader=each.claim.line in held_up)
            for each in batch
            if each.claim.line in held_up or not each.was_asked
        ]
        kept_back = {result.claim.msg_id for result in withheld}
        batch = [each for each in batch if each.claim.msg_id not in kept_back]
        if not batch:
            return withheld
        emitted = len(outbox.events)
        try:
            details = await self._apply(connection, batch, outbox)
        except COLLISIONS:
            raise
        except Exception as error:
            if is_lost(connection):
                raise
            del outbox.events[emitted:]
            if len(batch) == 1:
                return [*withheld, self._failed(batch[0], error, held_up)]
            middle = len(batch) // 2
            first = await self._isolate(connection, batch[:middle], outbox, held_up)
            return withheld + first + await self._isolate(connection, batch[middle:], outbox, held_up)
        done = [Done(each.event, each.claim, each.name, details.get(each.event.event_id, "")) for each in batch]
        return [*withheld, *done]

    async def _apply(self, connection: Connection, batch: Sequence[Ready], outbox: Outbox) -> Mapping[int, str]:
        for each in batch:
            if each.error is not None:
                raise each.error
        handler = batch[0].handler
        assert handler is not None
        started = time.perf_counter()
        async with savepoint(connection):
            details = await handler.apply(connection, [(each.event, each.parsed) for each in batch], outbox)
        handler_seconds.labels(self._queue, handler.name).observe(time.perf_counter() - started)
        return details

    def _failed(self, failed: Ready, error: Exception, held_up: set[Line]) -> Failed:
        policy = (failed.handler and failed.handler.retry) or self._policy
        delay = policy.delay(failed.claim.failures + 1, error, random.random())  # noqa: S311 - jitter, not a secret
        blocks = delay is None and failed.handler is not None and failed.handler.after_dead_letter == "block"
        if failed.claim.line and (delay is not None or blocks):
            held_up.add(failed.claim.line)
        return Failed(failed.event, failed.claim, failed.name, error, delay, blocks)

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


def _apart(claims: Sequence[Claim]) -> list[list[Claim]]:
    """Split a claim into batches: each message that was claimed before alone, then all the others together.

    A message that was claimed before without an outcome may be what killed the worker then. Alone, it can take no
    other with it, and only its own count of claims goes on rising. So that none is overtaken, others of its key are
    handled one by one as well.
    """
    suspect = {each.line or each.msg_id for each in claims if each.read_ct > 1}
    alone = [each for each in claims if (each.line or each.msg_id) in suspect]
    together = [each for each in claims if (each.line or each.msg_id) not in suspect]
    return [[each] for each in alone] + ([together] if together else [])


def _in_order(batch: Sequence[Ready]) -> list[list[Ready]]:
    """Group messages by handler, in as few groups as keep those of one key in their order.

    What failed already is grouped apart from what can be applied.
    """
    waves: list[dict[tuple[str, bool], list[Ready]]] = []
    places: dict[Line, tuple[int, tuple[str, bool]]] = {}
    for each in batch:
        group = (each.name, each.error is not None)
        line = each.claim.line
        wave, before = places.get(line, (0, group)) if line else (0, group)
        wave += before != group
        if line:
            places[line] = (wave, group)
        while len(waves) <= wave:
            waves.append(defaultdict(list))
        waves[wave][group].append(each)
    return [group for wave in waves for group in wave.values()]
