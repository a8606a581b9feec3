"""Stores a batch of deliveries: receipts, events and messages in one statement, one commit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

import asyncpg
from prometheus_client import Counter

from sellflow.errors import DatabaseUnavailableError, SellflowError
from sellflow.postgres.database import UNAVAILABLE, Pool
from sellflow.queue.event_log import unrouted_total
from sellflow.queue.registry import Registry
from sellflow.queue.routing import announcements, sending
from sellflow.shops.store import shop_ids

stored_total = Counter("sellflow_webhooks_stored_total", "Deliveries by what became of them.", ["result"])

#: Consumers are announced to at most this often per process, in seconds; those awake need no announcement, and
#: NOTIFY makes commits queue up behind each other.
ANNOUNCE_INTERVAL = 0.02
#: Seconds for which a shop's id is believed: one that was erased and installed the app again has another.
SHOP_MAX_AGE = 60.0

_STORED = """
WITH incoming AS (
    SELECT * FROM unnest(
        $1::text[]::integer[], $2::text[], $3::text[], $4::text[]::bigint[], $5::text[], $6::text[],
        $7::text[]::timestamptz[], $8::bytea[]
    ) AS i (app_id, shop_domain, webhook_id, shop_id, topic, key, triggered_at, payload)
), fresh AS (
    INSERT INTO receipts (app_id, shop_domain, webhook_id)
    SELECT app_id, shop_domain, webhook_id FROM incoming
    ON CONFLICT DO NOTHING
    RETURNING app_id, shop_domain, webhook_id
), numbered AS MATERIALIZED (
    SELECT (now() AT TIME ZONE 'UTC')::date AS day, nextval('event_ids') AS event_id, i.*
    FROM incoming i JOIN fresh USING (app_id, shop_domain, webhook_id)
), stored AS (
    INSERT INTO events (day, event_id, app_id, shop_id, shop_domain, topic, key, webhook_id, triggered_at, payload)
    SELECT day, event_id, app_id, shop_id, shop_domain, topic, key, webhook_id, triggered_at, payload FROM numbered
)
"""


class RefusedByDatabaseError(SellflowError):
    """Postgres refuses a delivery for what it holds; its batch was stored without it."""

    code = "webhook.not_storable"


class Delivery(NamedTuple):
    """One authenticated delivery as it is stored."""

    app_id: int
    shop_domain: str
    webhook_id: str
    topic: str
    key: str
    triggered_at: datetime | None
    payload: bytes

    @property
    def identity(self) -> tuple[int, str, str]:
        """What makes two deliveries the same."""
        return self.app_id, self.shop_domain, self.webhook_id


class DeliveryStore:
    """Writes deliveries through the ingest login, which may do nothing else."""

    def __init__(self, pool: Pool, registry: Registry) -> None:
        self._pool = pool
        self._declared = frozenset(registry.topics)
        self._shops: dict[tuple[int, str], str] = {}
        self._routes = registry.routes
        self._announced_at = 0.0
        self._forget_shops_at = 0.0

    async def store(self, deliveries: Sequence[Delivery]) -> dict[tuple[int, str, str], SellflowError]:
        """Commit a batch; return the error of each delivery that could not be stored, by its identity.

        Raises
        ------
        DatabaseUnavailableError
            If the database is away: nothing is known to be stored then.
        """
        # Sorted, so that two processes that got overlapping batches take the same keys in the same order.
        unique = sorted({each.identity: each for each in deliveries}.items())
        batch = [delivery for _, delivery in unique]
        try:
            fresh = await self._insert(batch)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, OSError, TimeoutError) as error:
            if _is_about_data(error):
                return await self._store_one_by_one(batch)
            raise DatabaseUnavailableError(f"the deliveries could not be stored: {error}") from error
        stored_total.labels("fresh").inc(fresh)
        stored_total.labels("duplicate").inc(len(deliveries) - fresh)
        return {}

    async def _store_one_by_one(self, batch: Sequence[Delivery]) -> dict[tuple[int, str, str], SellflowError]:
        """Find the delivery that spoils its batch; the others are stored."""
        refused: dict[tuple[int, str, str], SellflowError] = {}
        for delivery in batch:
            try:
                stored_total.labels("fresh").inc(await self._insert([delivery]))
            except (
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
                ValueError,
                OSError,
                TimeoutError,
            ) as error:
                if not _is_about_data(error):
                    raise DatabaseUnavailableError(f"the delivery could not be stored: {error}") from error
                stored_total.labels("refused").inc()
                refused[delivery.identity] = RefusedByDatabaseError(f"Postgres refuses this delivery: {error}")
        return refused

    async def _insert(self, batch: Sequence[Delivery]) -> int:
        await self._learn_shops(batch)
        routes = await self._routes.topics_by_queue(self._pool, {d.topic for d in batch})
        announce = time.monotonic() - self._announced_at > ANNOUNCE_INTERVAL
        row = await self._pool.fetchrow(
            _statement(tuple(routes), announced=announce),
            # Numbers and times go as text: of each, the driver would first find out that it is no array itself.
            [str(d.app_id) for d in batch],
            [d.shop_domain for d in batch],
            [d.webhook_id for d in batch],
            [self._shops.get((d.app_id, d.shop_domain)) for d in batch],
            [d.topic for d in batch],
            [d.key for d in batch],
            [d.triggered_at and d.triggered_at.isoformat() for d in batch],
            [d.payload for d in batch],
            *routes.values(),
        )
        if announce:
            self._announced_at = time.monotonic()
        self._count_unrouted(batch, {topic for topics in routes.values() for topic in topics})
        assert row is not None
        return int(row["fresh"])

    def _count_unrouted(self, batch: Sequence[Delivery], routed: set[str]) -> None:
        """Count what no queue wants: Shopify sends what the app subscribed to, declared here or not."""
        for delivery in batch:
            if delivery.topic not in routed:
                unrouted_total.labels(delivery.topic if delivery.topic in self._declared else "undeclared").inc()

    async def _learn_shops(self, batch: Sequence[Delivery]) -> None:
        """Look up the shops that are not known yet: one statement per app, none in the usual case."""
        if time.monotonic() >= self._forget_shops_at:
            self._shops, self._forget_shops_at = {}, time.monotonic() + SHOP_MAX_AGE
        unknown: dict[int, set[str]] = {}
        for delivery in batch:
            if (delivery.app_id, delivery.shop_domain) not in self._shops:
                unknown.setdefault(delivery.app_id, set()).add(delivery.shop_domain)
        for app_id, domains in unknown.items():
            found = await shop_ids(self._pool, app_id, sorted(domains))
            self._shops |= {(app_id, domain): str(shop_id) for domain, shop_id in found.items()}


@lru_cache
def _statement(queues: tuple[str, ...], *, announced: bool) -> str:
    """Return the one statement that stores a batch and queues it; the topics of each queue are its last parameters."""
    parts = [_STORED, *sending(queues, rows="numbered", parameter=9, announced=announced)]
    return (
        f"{', '.join(parts)} SELECT (SELECT count(*) FROM fresh) AS fresh{announcements(queues) if announced else ''}"
    )


def _is_about_data(error: Exception) -> bool:
    """Say whether an error is the fault of a value: SQLSTATE classes 22 and 23, 54, or the driver's own check."""
    state = getattr(error, "sqlstate", None)
    if state is not None:
        return str(state)[:2] in ("22", "23", "54")
    return isinstance(error, ValueError) and not isinstance(error, UNAVAILABLE[1])
