"""All subscriptions of an installation together, checked against each other before anything starts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sellflow.errors import ConfigurationError, UndeclaredTopicError
from sellflow.queue.routing import Routes
from sellflow.queue.topics import DEAD_LETTER_TOPIC, Subscription, matches

#: pgmq's limit on the length, and what needs no quotes in SQL.
QUEUE_NAME = re.compile(r"[a-z][a-z0-9_]{0,46}")
#: pgmq's rule for routing keys: words of letters, digits, hyphens and underscores, joined by dots.
TOPIC = re.compile(r"(?=.{1,255}\Z)[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*")


class Registry:
    """The subscriptions by queue, and the topics that they declare.

    Raises
    ------
    ConfigurationError
        If a declaration is malformed or contradicts another, naming it.
    """

    def __init__(self, subscriptions: Iterable[Subscription]) -> None:
        listed = tuple(subscriptions)
        _check_queues(listed)
        self.subscriptions: Mapping[str, Subscription] = {each.queue: each for each in listed}
        self.topics = _declared(listed)
        self.routes = Routes(self.topics)
        for subscription in listed:
            _check_handlers(subscription, self.topics)
            subscription.complete()

    def queues_of(self, topic: str) -> tuple[str, ...]:
        """Return the queues that get a message for `topic` from the start.

        Raises
        ------
        UndeclaredTopicError
            If no domain declares the topic.
        """
        if topic not in self.topics:
            raise UndeclaredTopicError(f"no domain declares the topic {topic!r}: add it to a subscription's topics")
        return tuple(
            queue for queue, each in self.subscriptions.items() if any(matches(p, topic) for p in each.bindings)
        )


def _check_queues(subscriptions: Sequence[Subscription]) -> None:
    for queue, number in Counter(each.queue for each in subscriptions).items():
        if not QUEUE_NAME.fullmatch(queue):
            raise ConfigurationError(
                f"queue {queue!r}: a name begins with a letter and has up to 47 lower-case letters, digits and _"
            )
        if number > 1:
            raise ConfigurationError(f"queue {queue}: {number} subscriptions have this name; give each its own")


def _declared(subscriptions: Iterable[Subscription]) -> dict[str, str]:
    """Return the meaning of every topic. Two domains may declare the same, but not as two different things."""
    declared = {DEAD_LETTER_TOPIC: "a message was set aside after its last attempt"}
    for subscription in subscriptions:
        for topic, meaning in subscription.topics.items():
            if not TOPIC.fullmatch(topic):
                raise ConfigurationError(
                    f"queue {subscription.queue}: {topic!r} is no topic: use words of letters, digits, - and _, "
                    "joined by dots"
                )
            if declared.setdefault(topic, meaning) != meaning:
                raise ConfigurationError(
                    f"queue {subscription.queue} declares the topic {topic} as {meaning!r}, another domain as "
                    f"{declared[topic]!r}: to listen to it, declare only a handler"
                )
    return declared


def _check_handlers(subscription: Subscription, topics: Iterable[str]) -> None:
    queue, handlers = subscription.queue, subscription.handlers
    if not handlers:
        raise ConfigurationError(f"queue {queue}: the subscription has no handler; decorate one with .handler(…)")
    for name, number in Counter(handler.name for handler in handlers).items():
        if number > 1:
            raise ConfigurationError(f"queue {queue}: {number} handlers are called {name}; name each differently")
    for handler in handlers:
        if not handler.patterns:
            raise ConfigurationError(f"queue {queue}, handler {handler.name}: it names no topic to handle")
        for pattern in handler.patterns:
            if not any(matches(pattern, topic) for topic in topics):
                raise ConfigurationError(
                    f"queue {queue}, handler {handler.name}: the pattern {pattern!r} matches no declared topic"
                )
    for topic in topics:
        names = [each.name for each in handlers if any(matches(pattern, topic) for pattern in each.patterns)]
        if len(names) > 1:
            raise ConfigurationError(
                f"queue {queue}: the handlers {' and '.join(names)} both match the topic {topic}; "
                "an event has one handler in a queue"
            )
