"""The event log and the queues: events are stored once, queues carry references to them.

What a domain or a service needs to take part stands here; docs/guides/background-service.md shows how.
"""

from sellflow.queue.payloads import json_of
from sellflow.queue.retries import RetryPolicy
from sellflow.queue.topics import EmittedEvent, Event, Outbox, Subscription

__all__ = ["EmittedEvent", "Event", "Outbox", "RetryPolicy", "Subscription", "json_of"]
