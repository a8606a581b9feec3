"""A shop whose webhooks are stored and handled by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count

import asyncpg
import httpx
import orjson
import pytest

from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.queue.registry import Registry
from sellflow.webhooks.store import Delivery, DeliveryStore
from tests.conftest import Tenant
from tests.edge.serving import serving, with_settings
from tests.loyalty.books import check_books
from tests.loyalty.orders import Payload
from tests.queue.consuming import make_consumer

#: A topic as Shopify writes it, and the resource it carries.
News = tuple[str, Payload]


class Store:
    """Receives webhooks for a tenant and lets loyalty handle them."""

    def __init__(
        self, database: Database, owner: SessionConnection, ingest: DeliveryStore, worker_pool: Pool, registry: Registry
    ) -> None:
        self.database = database
        self.owner = owner
        self.registry = registry
        self._ingest = ingest
        self.pool = worker_pool
        self._numbers = count(1)

    async def receive(self, tenant: Tenant, *news: News) -> None:
        """Store news as if it had been delivered just now, each under an id of its own."""
        await self._ingest.store(
            [
                Delivery(
                    app_id=tenant.app.app_id,
                    shop_domain=tenant.shop.domain,
                    webhook_id=f"w-{next(self._numbers)}",
                    topic="shopify." + topic.replace("/", "."),
                    key="",
                    triggered_at=None,
                    payload=orjson.dumps(payload),
                )
                for topic, payload in news
            ]
        )

    async def work(self, *, batch_size: int = 200, pool: Pool | None = None) -> None:
        """Handle everything that waits for loyalty."""
        database = with_settings(self.database, worker_batch_size=batch_size)
        pool = pool or self.pool
        consumer = make_consumer(database, pool, self.registry, "loyalty")
        while await pool.fetchval("SELECT EXISTS (SELECT 1 FROM pgmq.q_loyalty)"):
            await consumer.run_once()

    async def hear(self, tenant: Tenant, *news: News) -> None:
        """Receive news and handle it."""
        await self.receive(tenant, *news)
        await self.work()

    async def balance(self, tenant: Tenant, customer: int) -> int:
        """What a customer has."""
        found = await self.owner.fetchval(
            "SELECT balance FROM accounts WHERE shop_id = $1 AND customer_id = $2", tenant.shop_id, customer
        )
        return int(found or 0)

    async def postings(self, order_id: int) -> list[tuple[str, int, int]]:
        """The movements for an order: kind, customer, points."""
        rows = await self.owner.fetch(
            """
            SELECT t.kind, a.customer_id, e.points
            FROM transfers t JOIN entries e USING (transfer_id) JOIN accounts a USING (account_id)
            WHERE t.source = $1 AND a.customer_id IS NOT NULL ORDER BY t.transfer_id
            """,
            f"order:{order_id}",
        )
        return [(row["kind"], row["customer_id"], row["points"]) for row in rows]

    async def letters(self) -> list[asyncpg.Record]:
        """What was set aside."""
        return await self.owner.fetch("SELECT error_class, error_code, error_message FROM dead_letters")

    async def check_books(self) -> None:
        """The ledger's own laws, over everything in the database."""
        await check_books(self.owner)


@pytest.fixture
async def client(database: Database, tenant: Tenant) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(database) as found:
        yield found


@pytest.fixture
async def store(
    database: Database, owner: SessionConnection, ingest_pool: Pool, worker_pool: Pool, registry: Registry
) -> Store:
    return Store(database, owner, DeliveryStore(ingest_pool, registry), worker_pool, registry)
