"""Storing events and queueing references to them, always in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog
from prometheus_client import Counter

from sellflow.postgres.database import Connection, SessionConnection
from sellflow.queue.topics import EmittedEvent, Registry

log = structlog.get_logger(__name__)

#: The channel on which queues with new messages are announced, one queue name a notification.
WAKE_UP_CHANNEL = "sellflow_queues"

emitted_total = Counter("sellflow_events_emitted_total", "Domain events stored in the event log.", ["topic"])
unrouted_total = Counter("sellflow_events_unrouted_total", "Stored events that no queue subscribes to.", ["topic"])

_STORE = """
WITH emitted AS (
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bytea[]) AS e (shop_id, topic, key, payload)
), stored AS (
    INSERT INTO events (day, event_id, app_id, shop_id, shop_domain, topic, key, payload)
    SELECT (now() AT TIME ZONE 'UTC')::date, nextval('event_ids'),
           s.app_id, s.shop_id, s.domain, e.topic, e.key, e.payload
    FROM emitted e JOIN shops s USING (shop_id)
    RETURNING day, event_id, shop_id, topic, key
), per_topic AS (
    SELECT topic, array_agg(event_reference(day, event_id, shop_id, key) ORDER BY event_id) AS messages
    FROM stored GROUP BY topic
), sent AS (
    SELECT p.topic, s.queue_name FROM per_topic p, LATERAL pgmq.send_batch_topic(p.topic, p.messages) s
)
SELECT pg_notify($5, queue_name) FROM (SELECT DISTINCT queue_name FROM sent) q
"""

_ADOPT = """
WITH per_topic AS (
    SELECT topic, array_agg(event_reference(day, event_id, shop_id, key) ORDER BY event_id) AS messages
    FROM adopt_events()
    GROUP BY topic
), sent AS (
    SELECT p.topic, s.queue_name
    FROM per_topic p, LATERAL pgmq.send_batch_topic(p.topic, p.messages) s
    WHERE p.topic = ANY ($1::text[])
), announced AS (
    SELECT pg_notify($2, queue_name) FROM (SELECT DISTINCT queue_name FROM sent) q
)
SELECT (SELECT sum(cardinality(messages)) FROM per_topic), (SELECT count(*) FROM announced)
"""


async def emit(connection: Connection, registry: Registry, events: Sequence[EmittedEvent]) -> None:
    """Store domain events and queue them by topic, inside the caller's transaction, in one statement.

    Raises
    ------
    UndeclaredTopicError
        If a topic is declared by no domain; nothing is stored then.
    """
    if not events:
        return
    unrouted = {event.topic for event in events if not registry.queues_of(event.topic)}
    await connection.execute(
        _STORE,
        [event.shop_id for event in events],
        [event.topic for event in events],
        [event.key for event in events],
        [event.payload for event in events],
        WAKE_UP_CHANNEL,
    )
    for event in events:
        emitted_total.labels(event.topic).inc()
        if event.topic in unrouted:
            unrouted_total.labels(event.topic).inc()
    for topic in unrouted:
        log.debug("queue.unrouted", topic=topic, meaning="declared, but no queue subscribes to it")


async def adopt(connection: SessionConnection, topics: Iterable[str]) -> int:
    """Hand the webhooks that came before their shop was installed to the queues; return how many there were.

    Runs as the owner. Safe at any time and any number of times: an adopted event is adopted no more.
    """
    adopted = await connection.fetchval(_ADOPT, list(topics), WAKE_UP_CHANNEL)
    return int(adopted or 0)
