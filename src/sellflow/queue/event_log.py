"""Storing events and queueing references to them, always in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from prometheus_client import Counter

from sellflow.postgres.database import Connection, SessionConnection
from sellflow.queue.registry import Registry
from sellflow.queue.routing import Routes, announcements, sending
from sellflow.queue.topics import EmittedEvent, FedEvent

log = structlog.get_logger(__name__)

emitted_total = Counter("sellflow_events_emitted_total", "Domain events stored in the event log.", ["topic"])
unrouted_total = Counter("sellflow_events_unrouted_total", "Stored events that no queue subscribes to.", ["topic"])

_STORED = """
WITH emitted AS (
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bytea[]) AS e (shop_id, topic, key, payload)
), stored AS (
    INSERT INTO events (day, event_id, app_id, shop_id, shop_domain, topic, key, payload)
    SELECT (now() AT TIME ZONE 'UTC')::date, nextval('event_ids'),
           s.app_id, s.shop_id, s.domain, e.topic, e.key, e.payload
    FROM emitted e JOIN shops s USING (shop_id)
    RETURNING day, event_id, shop_id, topic, key
)
"""

_FED = """
WITH incoming AS (
    SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::bytea[]) AS i (topic, key, webhook_id, payload)
), fresh AS MATERIALIZED (
    SELECT webhook_id FROM receive_once($1, $4::text[]) AS r (webhook_id)
), stored AS (
    INSERT INTO events (day, event_id, app_id, shop_id, shop_domain, topic, key, webhook_id, payload)
    SELECT (now() AT TIME ZONE 'UTC')::date, nextval('event_ids'),
           s.app_id, s.shop_id, s.domain, i.topic, i.key, i.webhook_id, i.payload
    FROM incoming i JOIN fresh USING (webhook_id) JOIN shops s ON s.shop_id = $1
    RETURNING day, event_id, shop_id, topic, key
)
"""

_ADOPTED = "WITH adopted AS MATERIALIZED (SELECT * FROM adopt_events())"


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
    routes = await registry.routes.topics_by_queue(connection, {event.topic for event in events})
    unrouted -= {topic for topics in routes.values() for topic in topics}
    await connection.execute(
        _statement(_STORED, "stored", list(routes), parameter=5),
        [event.shop_id for event in events],
        [event.topic for event in events],
        [event.key for event in events],
        [event.payload for event in events],
        *routes.values(),
    )
    for event in events:
        emitted_total.labels(event.topic).inc()
        if event.topic in unrouted:
            unrouted_total.labels(event.topic).inc()
    for topic in unrouted:
        log.debug("queue.unrouted", topic=topic, meaning="declared, but no queue subscribes to it")


async def feed(connection: Connection, routes: Routes, shop_id: int, events: Sequence[FedEvent]) -> int:
    """Store what a webhook should have brought, as if it had come now; return how many were not there before.

    Runs in a worker's transaction. An identity that was received or fed before, in whatever process, is left out.
    """
    if not events:
        return 0
    unique = {event.identity: event for event in events}
    queues = await routes.topics_by_queue(connection, {event.topic for event in events})
    fed = await connection.fetchval(
        _statement(_FED, "stored", list(queues), parameter=6),
        shop_id,
        [event.topic for event in unique.values()],
        [event.key for event in unique.values()],
        list(unique),
        [event.payload for event in unique.values()],
        *queues.values(),
    )
    return int(fed or 0)


async def adopt(connection: SessionConnection, registry: Registry) -> int:
    """Hand the webhooks that came before their shop was installed to the queues; return how many there were.

    Runs as the owner. Safe at any time and any number of times: an adopted event is adopted no more.
    """
    routes = await registry.routes.topics_by_queue(connection, registry.topics)
    adopted = await connection.fetchval(_statement(_ADOPTED, "adopted", list(routes), parameter=1), *routes.values())
    return int(adopted or 0)


def _statement(begin: str, rows: str, queues: Sequence[str], *, parameter: int) -> str:
    """Complete a statement: `rows` are queued and announced, and counted."""
    parts = [begin, *sending(queues, rows=rows, parameter=parameter, announced=True)]
    return f"{', '.join(parts)} SELECT (SELECT count(*) FROM {rows}){announcements(queues)}"
