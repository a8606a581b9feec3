"""Topics, handlers and subscriptions: what may be emitted, and who does what with it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Literal

from sellflow.errors import ConfigurationError, UndeclaredTopicError
from sellflow.postgres.database import Connection, Pool
from sellflow.queue.retries import RetryPolicy
from sellflow.queue.routing import Routes

#: Emitted by the queue itself, for whoever subscribes to it.
DEAD_LETTER_TOPIC = "queue.dead_letter"


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the event log."""

    day: date
    event_id: int
    shop_id: int
    topic: str
    key: str
    payload: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True)
class EmittedEvent:
    """A domain event that a handler wants stored and queued when its transaction commits.

    `payload` is JSON; `key` says what the event is about, for example `customer:207119551`.
    """

    shop_id: int
    topic: str
    key: str
    payload: bytes


@dataclass(slots=True)
class Outbox:
    """What the handlers of one transaction emit. The consumer stores and queues it before it commits."""

    events: list[EmittedEvent] = field(default_factory=list)

    def emit(self, event: EmittedEvent) -> None:
        """Add one event."""
        self.events.append(event)


#: Turns a raw event into what the handler works on; raises InvalidPayloadError. Pure, so one event's fault
#: is found without touching the others.
Parse = Callable[[Event], Any]
#: Applies a batch of (event, parsed) pairs with set-based SQL inside the given transaction. Returns, by event
#: id, one sentence on what it did: `sellflow explain` shows it.
Apply = Callable[[Connection, Sequence[tuple[Event, Any]], Outbox], Awaitable[Mapping[int, str]]]
#: Does what one event asks of the outside world, outside any transaction and at least once, several events at a
#: time but those of one key one after the other. `apply` gets (event, (parsed, what this returned)).
Call = Callable[[Pool, Event, Any], Awaitable[Any]]


@dataclass(frozen=True)
class Handler:
    """What a queue does with the topics that match `patterns` (pgmq's: * one word, # any number).

    `retry` is the settings' policy where it is None. After a dead letter, later messages of the same shop and key
    `continue`, or `block` until somebody replays or discards it.
    """

    name: str
    patterns: tuple[str, ...]
    parse: Parse
    apply: Apply
    call: Call | None = None
    retry: RetryPolicy | None = None
    after_dead_letter: Literal["continue", "block"] = "continue"


@dataclass(frozen=True)
class Subscription:
    """A domain's place in the stream: its queue, the topics it declares, and its handlers.

    `announces` says whether its dead letters are events themselves: those of the queue that delivers such events
    to the outside must not be, or one broken endpoint would be told of itself for ever.
    """

    queue: str
    topics: Mapping[str, str]
    handlers: tuple[Handler, ...]
    announces: bool = True

    @property
    def calls(self) -> bool:
        """Whether any of its handlers works on the outside world."""
        return any(handler.call for handler in self.handlers)

    def handler_for(self, topic: str) -> Handler | None:
        """Return the first handler whose patterns match `topic`."""
        return next((h for h in self.handlers if any(matches(p, topic) for p in h.patterns)), None)


class Registry:
    """All subscriptions of an installation, checked against each other at start."""

    def __init__(self, subscriptions: Iterable[Subscription]) -> None:
        self.subscriptions = {subscription.queue: subscription for subscription in subscriptions}
        self.topics: dict[str, str] = {DEAD_LETTER_TOPIC: "a message was set aside after its last attempt"}
        for subscription in self.subscriptions.values():
            self.topics |= subscription.topics
        self.routes = Routes(self.topics)
        for subscription in self.subscriptions.values():
            for handler in subscription.handlers:
                self._check_patterns(handler)

    def queues_of(self, topic: str) -> tuple[str, ...]:
        """Return the queues that get a message for `topic`.

        Raises
        ------
        UndeclaredTopicError
            If no domain declares the topic.
        """
        if topic not in self.topics:
            raise UndeclaredTopicError(f"no domain declares the topic {topic!r}: add it to a subscription's topics")
        return tuple(queue for queue, each in self.subscriptions.items() if each.handler_for(topic))

    def _check_patterns(self, handler: Handler) -> None:
        for pattern in handler.patterns:
            if not any(matches(pattern, topic) for topic in self.topics):
                raise ConfigurationError(f"handler {handler.name}: the pattern {pattern!r} matches no declared topic")


@lru_cache(maxsize=1024)
def matches(pattern: str, topic: str) -> bool:
    """Say whether pgmq routes `topic` to a queue bound with `pattern`: as its topic_bindings table does."""
    return re.fullmatch(expression(pattern), topic) is not None


def expression(pattern: str) -> str:
    """Return a pattern as a regular expression for a whole topic, one that Python and Postgres read alike."""
    return re.escape(pattern).replace(r"\*", "[^.]+").replace(r"\#", ".*")
