"""What the handlers of a queue make of a batch inside its transaction; a poisonous message is found and set apart."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
from prometheus_client import Histogram

from sellflow.errors import PermanentError, PostponedError, SkippedError
from sellflow.postgres.database import Connection, Pool
from sellflow.postgres.transactions import is_lost, savepoint
from sellflow.queue.batches import Ready, in_order
from sellflow.queue.calls import Answer
from sellflow.queue.claims import Claim, Line
from sellflow.queue.results import Done, Failed, Result, Withheld
from sellflow.queue.retries import RetryPolicy
from sellflow.queue.topics import Event, Handler, Outbox, Subscription
from sellflow.settings import Settings

handler_seconds = Histogram(
    "sellflow_handler_seconds", "Seconds of one handler's work on a batch.", ["queue", "handler", "outcome"]
)

#: Another worker got in the way; the same batch succeeds when it is tried again.
COLLISIONS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)


class UnhandledTopicError(PermanentError):
    """A message reached a queue that has no handler for its topic."""

    code = "queue.unhandled_topic"


class EventGoneError(PermanentError):
    """A message refers to an event that the log does not hold, or that belongs to another shop."""

    code = "queue.event_gone"


class WorkerDiedError(PermanentError):
    """A message was claimed again and again and never finished: it may kill the process that handles it."""

    code = "queue.worker_died"


class Handling:
    """Hands the messages of one subscription to its handlers."""

    def __init__(self, subscription: Subscription, settings: Settings) -> None:
        self._subscription = subscription
        self._most_claims = settings.retry_attempts
        self._policy = RetryPolicy(settings.retry_attempts, settings.retry_base, settings.retry_cap)

    async def ask(self, pool: Pool, held: Claim, event: Event) -> Answer:
        """Do what one message asks of the outside world."""
        handler = self._subscription.handler_for(event.topic)
        try:
            parsed = self._parsed(held, event, handler)
            if handler is None or handler.call is None:
                return Answer()
            return Answer(await handler.call(pool, event, parsed))
        except Exception as error:  # noqa: BLE001 - the message's outcome, recorded with it
            return Answer(error=error)

    async def handle(
        self,
        connection: Connection,
        taken: Sequence[tuple[Claim, Event]],
        answers: Mapping[int, Answer],
        outbox: Outbox,
        held_up: set[Line],
    ) -> list[Result]:
        """Return what became of each message. `held_up` are the lines whose elder messages failed; it may grow."""
        results: list[Result] = []
        for batch in in_order([self._prepare(held, event, answers) for held, event in taken]):
            results += await self._isolate(connection, batch, outbox, held_up)
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
        if held.read_ct > self._most_claims:
            raise WorkerDiedError(
                f"claimed {held.read_ct} times and never finished: its handler may run out of memory or time"
            )
        if not event.topic:
            raise EventGoneError(f"the event log holds no event {event.event_id} of {event.day} for this shop")
        if handler is None:
            raise UnhandledTopicError(
                f"the queue {self._subscription.queue} has no handler for the topic {event.topic!r}"
            )
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
        else:
            return [*withheld, *(self._ended(each, details.get(each.event.event_id, ""), held_up) for each in batch)]
        # Behind the clause: Python would chain what is raised in it to this error, and the stack trace of one message
        # would tell of another's, which may be another customer's or even another shop's.
        middle = len(batch) // 2
        first = await self._isolate(connection, batch[:middle], outbox, held_up)
        return withheld + first + await self._isolate(connection, batch[middle:], outbox, held_up)

    def _ended(self, applied: Ready, said: str | Exception, held_up: set[Line]) -> Result:
        if isinstance(said, Exception):
            return self._failed(applied, said, held_up)
        return Done(applied.event, applied.claim, applied.name, said)

    async def _apply(
        self, connection: Connection, batch: Sequence[Ready], outbox: Outbox
    ) -> Mapping[int, str | Exception]:
        for each in batch:
            if each.error is not None:
                raise each.error
        handler = batch[0].handler
        assert handler is not None
        started, outcome = time.perf_counter(), "failed"
        try:
            async with savepoint(connection):
                details = await handler.apply(connection, [(each.event, each.parsed) for each in batch], outbox)
            outcome = "done"
        finally:
            labels = (self._subscription.queue, handler.name, outcome)
            handler_seconds.labels(*labels).observe(time.perf_counter() - started)
        return details or {}

    def _failed(self, failed: Ready, error: Exception, held_up: set[Line]) -> Result:
        if isinstance(error, SkippedError):
            return Done(failed.event, failed.claim, failed.name, f"skipped: {error}")
        if isinstance(error, PostponedError):
            if failed.claim.line:
                held_up.add(failed.claim.line)
            return Withheld(failed.event, failed.claim, has_leader=False, seconds=error.seconds)
        policy = (failed.handler and failed.handler.retry) or self._policy
        delay = policy.delay(failed.claim.failures + 1, error, random.random())  # noqa: S311 - jitter, not a secret
        blocks = delay is None and failed.handler is not None and failed.handler.after_dead_letter == "block"
        if failed.claim.line and (delay is not None or blocks):
            held_up.add(failed.claim.line)
        return Failed(failed.event, failed.claim, failed.name, error, delay, blocks)
