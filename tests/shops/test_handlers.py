"""A shop that removes the app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
import pytest

from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.queue.registry import Registry
from sellflow.webhooks.store import Delivery, DeliveryStore
from tests.conftest import Tenant
from tests.queue.consuming import drain

Handle = Callable[[Tenant, str, object], Awaitable[None]]


@pytest.fixture
def handle(database: Database, ingest_pool: Pool, worker_pool: Pool, registry: Registry) -> Handle:
    """Receive one notice of removal and let the shops domain handle it."""
    store = DeliveryStore(ingest_pool, registry)

    async def receive(tenant: Tenant, webhook_id: str, body: object) -> None:
        topic, payload = "shopify.app.uninstalled", orjson.dumps(body)
        await store.store([Delivery(tenant.app.app_id, tenant.shop.domain, webhook_id, topic, "", None, payload)])
        await drain(database, worker_pool, registry, "shops")

    return receive


async def gone(owner: SessionConnection) -> list[str]:
    rows = await owner.fetch("SELECT domain FROM shops WHERE uninstalled_at IS NOT NULL ORDER BY domain")
    return [row["domain"] for row in rows]


async def test_a_shop_is_marked_where_body_and_header_agree_and_only_there(
    handle: Handle, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    await handle(other_tenant, "disagrees", {"myshopify_domain": tenant.shop.domain})
    assert await gone(owner) == []
    await handle(tenant, "agrees", {"id": 1, "myshopify_domain": "ACME.myshopify.com"})
    assert await gone(owner) == ["acme.myshopify.com"]
    await handle(other_tenant, "empty", {})
    await handle(other_tenant, "no-object", [])
    assert await gone(owner) == ["acme.myshopify.com"]
    letters = await owner.fetch(
        "SELECT webhook_id, error_class FROM dead_letters JOIN events USING (day, event_id) ORDER BY webhook_id"
    )
    assert [tuple(letter) for letter in letters] == [
        ("disagrees", "ForeignShopError"),
        ("empty", "InvalidPayloadError"),
        ("no-object", "InvalidPayloadError"),
    ]


async def test_a_second_notice_keeps_the_first_moment(handle: Handle, owner: SessionConnection, tenant: Tenant) -> None:
    await handle(tenant, "first", {"myshopify_domain": tenant.shop.domain})
    first = await owner.fetchval("SELECT uninstalled_at FROM shops")
    await handle(tenant, "second", {"myshopify_domain": tenant.shop.domain})
    assert await owner.fetchval("SELECT uninstalled_at FROM shops") == first is not None
