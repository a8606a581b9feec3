"""What is kept of customers, in whatever order their webhooks come."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import orjson
import pytest

from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.queue.registry import Registry
from sellflow.webhooks.keys import event_key
from sellflow.webhooks.store import Delivery, DeliveryStore
from tests.conftest import Tenant
from tests.queue.consuming import drain


class Shopify:
    """Sends customers' webhooks and has them handled."""

    def __init__(self, database: Database, ingest_pool: Pool, worker_pool: Pool, registry: Registry) -> None:
        self._database = database
        self._pool = worker_pool
        self._registry = registry
        self._store = DeliveryStore(ingest_pool, registry)
        self._sent = 0

    async def tell(self, tenant: Tenant, topic: str, *bodies: object) -> None:
        deliveries = []
        for body in bodies:
            self._sent += 1
            payload, key = orjson.dumps(body), event_key(topic, orjson.dumps(body))
            deliveries.append(
                Delivery(
                    tenant.app.app_id,
                    tenant.shop.domain,
                    str(self._sent),
                    f"shopify.{topic.replace('/', '.')}",
                    key,
                    None,
                    payload,
                )
            )
        await self._store.store(deliveries)
        await drain(self._database, self._pool, self._registry, "shops")


@pytest.fixture
def shopify(database: Database, ingest_pool: Pool, worker_pool: Pool, registry: Registry) -> Shopify:
    return Shopify(database, ingest_pool, worker_pool, registry)


def customer(second: int, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    usual = {
        "id": 7,
        "email": f"v{second}@example.com",
        "first_name": "Ada",
        "last_name": "Byron",
        "state": "enabled",
        "tags": "vip",
        "email_marketing_consent": {"state": "subscribed"},
        "created_at": "2026-11-01T00:00:00Z",
        "updated_at": f"2026-11-01T00:00:{second:02}+00:00",
    }
    return usual | fields


async def emails(owner: SessionConnection) -> list[tuple[int, int, str | None]]:
    rows = await owner.fetch("SELECT shop_id, customer_id, email FROM customers ORDER BY shop_id, customer_id")
    return [tuple(row) for row in rows]


async def test_the_newest_snapshot_wins_in_any_order_of_arrival_and_in_one_batch(
    shopify: Shopify, owner: SessionConnection, tenant: Tenant
) -> None:
    for number, order in enumerate(permutations([1, 2, 3])):
        for second in order:
            await shopify.tell(tenant, "customers/update", customer(second, id=100 + number))
        await shopify.tell(tenant, "customers/update", *(customer(second, id=200 + number) for second in order))
    assert {email for _, _, email in await emails(owner)} == {"v3@example.com"}
    assert len(await emails(owner)) == 12


async def test_all_of_a_customer_is_kept_and_what_is_gone_is_gone(
    shopify: Shopify, owner: SessionConnection, tenant: Tenant
) -> None:
    await shopify.tell(tenant, "customers/create", customer(1, phone="+4912345", locale="de"))
    row = await owner.fetchrow("SELECT * FROM customers")
    assert row is not None
    assert (row["first_name"], row["phone"], row["locale"], row["tags"]) == ("Ada", "+4912345", "de", "vip")
    assert row["accepts_marketing"]
    await shopify.tell(tenant, "customers/update", customer(2, email="", email_marketing_consent=None))
    row = await owner.fetchrow("SELECT * FROM customers")
    assert row is not None
    assert (row["email"], row["phone"], row["accepts_marketing"]) == (None, None, False)


async def test_a_customer_that_was_deleted_is_forgotten_in_that_shop_alone(
    shopify: Shopify, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    await shopify.tell(tenant, "customers/create", customer(1))
    await shopify.tell(other_tenant, "customers/create", customer(1))
    await shopify.tell(tenant, "customers/delete", {"id": 7})
    assert [(shop_id, number) for shop_id, number, _ in await emails(owner)] == [(other_tenant.shop_id, 7)]


@pytest.mark.parametrize("body", [{}, [], {"id": 0}, {"id": "7"}, {"id": 7, "updated_at": "yesterday"}])
async def test_what_is_no_customer_is_set_aside_and_spoils_nothing(
    shopify: Shopify, owner: SessionConnection, tenant: Tenant, body: object
) -> None:
    await shopify.tell(tenant, "customers/update", body, customer(1))
    assert len(await emails(owner)) == 1
    assert await owner.fetchval("SELECT count(*) FROM dead_letters") == 1


async def test_absurd_text_is_cut_and_kept(shopify: Shopify, owner: SessionConnection, tenant: Tenant) -> None:
    await shopify.tell(tenant, "customers/update", customer(1, first_name="a\u0000b", last_name="x" * 100_000))
    row = await owner.fetchrow("SELECT first_name, length(last_name) AS length FROM customers")
    assert row is not None
    assert tuple(row) == ("ab", 1000)
