"""Topics, handlers and subscriptions: what may be emitted, and who does what with it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypeVar, overload

from sellflow.errors import ConfigurationError
from sellflow.postgres.database import Connection, Pool
from sellflow.queue.retries import RetryPolicy

#: Emitted by the queue itself, for whoever subscribes to it.
DEAD_LETTER_TOPIC = "queue.dead_letter"

#: How the identity of an event begins that no webhook brought, where others have their Webhook-Id.
RECONCILED = "reconciled/"


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


@dataclass(frozen=True, slots=True)
class FedEvent:
    """A webhook that never came, made up from what Shopify says when it is asked.

    `identity` stands for its Webhook-Id and begins with RECONCILED: of one resource and revision it is always the
    same.
    """

    topic: str
    key: str
    identity: str
    payload: bytes


@dataclass(slots=True)
class Outbox:
    """What the handlers of one transaction emit. The consumer stores and queues it before it commits."""

    events: list[EmittedEvent] = field(default_factory=list)

    def emit(self, event: EmittedEvent) -> None:
        """Add one event."""
        self.events.append(event)


Parsed = TypeVar("Parsed")
Answered = TypeVar("Answered")

#: Turns a raw event into what the handler works on; raises InvalidPayloadError. Pure, so one event's fault
#: is found without touching the others. `json_of` makes one of a pydantic model.
Parse: TypeAlias = Callable[[Event], Parsed]
#: Applies a batch of (event, parsed) pairs with set-based SQL inside the given transaction. Returns, by event
#: id, one sentence on what it did, for `sellflow explain` to show; or nothing. An error in its place says that the
#: event failed although what was written about it is to stay, such as a note of the attempt.
Apply: TypeAlias = Callable[
    [Connection, Sequence[tuple[Event, Parsed]], Outbox],
    Awaitable[Mapping[int, str | Exception]] | Awaitable[None],
]
#: Does what one event asks of the outside world, outside any transaction and at least once, several events at a
#: time but those of one key one after the other. `apply` gets (event, (parsed, what this returned)).
Call: TypeAlias = Callable[[Pool, Event, Parsed], Awaitable[Answered]]
#: What becomes of later messages of the same shop and key after a dead letter: they go on, or wait until somebody
#: replays or discards it.
AfterDeadLetter: TypeAlias = Literal["continue", "block"]


@dataclass(frozen=True)
class Handler:
    """What a queue does with the topics that match `patterns` (pgmq's: * one word, # any number)."""

    name: str
    patterns: tuple[str, ...]
    parse: Parse[Any]
    apply: Apply[Any]
    call: Call[Any, Any] | None
    retry: RetryPolicy | None
    after_dead_letter: AfterDeadLetter


class Subscription:
    """A domain's place in the stream: its queue, the topics it declares with their meaning, and its handlers.

    `announces` says whether its dead letters are events themselves: those of the queue that delivers such events
    to the outside must not be, or one broken endpoint would be told of itself for ever.

    `binds` are the patterns that its queue is bound to from the start, where these are not simply its handlers':
    whoever subscribes to more at run time binds that.

    `consumers` is how many of them a worker runs where the settings' number would be too many: each holds a
    connection, and a queue that is quiet for most of the day needs one.
    """

    def __init__(
        self,
        queue: str,
        topics: Mapping[str, str] | None = None,
        *,
        announces: bool = True,
        binds: Sequence[str] | None = None,
        consumers: int | None = None,
    ) -> None:
        self.queue = queue
        self.consumers = consumers
        self.topics: Mapping[str, str] = MappingProxyType(dict(topics or {}))
        self.announces = announces
        self._binds = binds
        self._handlers: list[Handler] = []
        self._is_complete = False

    @property
    def handlers(self) -> tuple[Handler, ...]:
        """Its handlers, in the order they were declared."""
        return tuple(self._handlers)

    @property
    def bindings(self) -> tuple[str, ...]:
        """The patterns that its queue is bound to from the start."""
        if self._binds is not None:
            return tuple(self._binds)
        return tuple(sorted({pattern for handler in self._handlers for pattern in handler.patterns}))

    @property
    def calls(self) -> bool:
        """Whether any of its handlers works on the outside world."""
        return any(handler.call for handler in self._handlers)

    @overload
    def handler(
        self,
        *patterns: str,
        parse: Parse[Parsed],
        name: str = ...,
        retry: RetryPolicy | None = ...,
        after_dead_letter: AfterDeadLetter = ...,
    ) -> Callable[[Apply[Parsed]], Apply[Parsed]]: ...

    @overload
    def handler(
        self,
        *patterns: str,
        parse: Parse[Parsed],
        call: Call[Parsed, Answered],
        name: str = ...,
        retry: RetryPolicy | None = ...,
        after_dead_letter: AfterDeadLetter = ...,
    ) -> Callable[[Apply[tuple[Parsed, Answered]]], Apply[tuple[Parsed, Answered]]]: ...

    def handler(
        self,
        *patterns: str,
        parse: Parse[Any],
        call: Call[Any, Any] | None = None,
        name: str = "",
        retry: RetryPolicy | None = None,
        after_dead_letter: AfterDeadLetter = "continue",
    ) -> Callable[[Apply[Any]], Apply[Any]]:
        """Declare the decorated function as what is done with the topics that match `patterns`; it stays as it is.

        It takes a connection inside a transaction, a batch of (event, parsed) pairs and an outbox; with `call`, the
        batch is of (event, (parsed, answer)). Its name, where none is given, is the function's. `retry` replaces
        the settings' policy.

        Raises
        ------
        ConfigurationError
            If a registry was made of the subscription already: its queue is bound to what was known then.
        """

        def declare(apply: Apply[Any]) -> Apply[Any]:
            known_as = name or apply.__name__
            if self._is_complete:
                raise ConfigurationError(
                    f"queue {self.queue}: the handler {known_as} comes too late, the queue is in use already. "
                    "Declare it where its module is imported, not in a function that runs later"
                )
            self._handlers.append(Handler(known_as, patterns, parse, apply, call, retry, after_dead_letter))
            return apply

        return declare

    def complete(self) -> None:
        """Take no more handlers."""
        self._is_complete = True

    def handler_for(self, topic: str) -> Handler | None:
        """Return the handler whose patterns match `topic`; a registry makes sure that there is one at most."""
        return next((h for h in self._handlers if any(matches(p, topic) for p in h.patterns)), None)


@lru_cache(maxsize=1024)
def matches(pattern: str, topic: str) -> bool:
    """Say whether pgmq routes `topic` to a queue bound with `pattern`: as its topic_bindings table does."""
    return re.fullmatch(expression(pattern), topic) is not None


def expression(pattern: str) -> str:
    """Return a pattern as a regular expression for a whole topic, one that Python and Postgres read alike."""
    return re.escape(pattern).replace(r"\*", "[^.]+").replace(r"\#", ".*")
