"""A shop that removes the app, comes back, or grants it other scopes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.queue.registry import Registry
from sellflow.shopify.tokens import TokenKind
from sellflow.shopify.tokens.store import put_grant
from sellflow.webhooks.store import Delivery, DeliveryStore
from tests.conftest import Tenant
from tests.queue.consuming import drain

Handle = Callable[..., Awaitable[None]]


@pytest.fixture
def handle(database: Database, ingest_pool: Pool, worker_pool: Pool, registry: Registry) -> Handle:
    """Receive one notice of removal and let the shops domain handle it."""
    store = DeliveryStore(ingest_pool, registry)

    async def receive(
        tenant: Tenant,
        webhook_id: str,
        body: object,
        *,
        topic: str = "shopify.app.uninstalled",
        triggered_at: datetime | None = None,
    ) -> None:
        payload = orjson.dumps(body)
        await store.store(
            [Delivery(tenant.app.app_id, tenant.shop.domain, webhook_id, topic, "", triggered_at, payload)]
        )
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


async def give_token(owner: SessionConnection, *tenants: Tenant) -> None:
    for tenant in tenants:
        await put_grant(
            owner,
            tenant.shop_id,
            kind=TokenKind.EXPIRING,
            access_token=b"sealed",
            expires_in=3600,
            refresh_token=b"sealed",
            refresh_expires_in=86_400,
            scopes=["read_orders"],
        )


async def tokens(owner: SessionConnection) -> dict[int, list[str]]:
    return {row["shop_id"]: row["scopes"] for row in await owner.fetch("SELECT shop_id, scopes FROM access_tokens")}


async def test_the_tokens_of_a_shop_that_removed_the_app_are_erased_and_no_others(
    handle: Handle, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    await give_token(owner, tenant, other_tenant)
    await handle(tenant, "removed", {"myshopify_domain": tenant.shop.domain})
    assert await gone(owner) == ["acme.myshopify.com"]
    assert set(await tokens(owner)) == {other_tenant.shop_id}


@pytest.mark.parametrize("seconds", [1, 86_400])
async def test_a_notice_that_comes_after_the_shop_came_back_removes_nothing(
    handle: Handle, owner: SessionConnection, tenant: Tenant, seconds: int
) -> None:
    await give_token(owner, tenant)
    earlier = datetime.now(UTC) - timedelta(seconds=seconds)
    await handle(tenant, "late", {"myshopify_domain": tenant.shop.domain}, triggered_at=earlier)
    assert await gone(owner) == []
    assert set(await tokens(owner)) == {tenant.shop_id}
    told = await owner.fetchval("SELECT detail FROM outcomes")
    assert told == "acme.myshopify.com has installed the app again since"


async def test_a_shop_that_is_removed_and_told_of_twice_in_one_batch_is_removed_once(
    handle: Handle, owner: SessionConnection, tenant: Tenant
) -> None:
    await give_token(owner, tenant)
    later = datetime.now(UTC) + timedelta(seconds=60)
    for name in ("first", "second"):
        await handle(tenant, name, {"myshopify_domain": tenant.shop.domain}, triggered_at=later)
    assert await gone(owner) == ["acme.myshopify.com"]
    assert await tokens(owner) == {}


async def test_the_newest_word_on_scopes_counts_in_whatever_order_it_comes(
    handle: Handle, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    await give_token(owner, tenant, other_tenant)

    async def tell(webhook_id: str, minute: int, *scopes: str) -> None:
        body = {"id": "gid://shopify/App/1", "current": scopes, "updated_at": f"2026-11-25T10:{minute:02}:00Z"}
        await handle(tenant, webhook_id, body, topic="shopify.app.scopes_update")

    await tell("newer", 30, "read_orders", "write_discounts")
    await tell("older", 10, "read_customers")
    assert await tokens(owner) == {
        tenant.shop_id: ["read_orders", "write_discounts"],
        other_tenant.shop_id: ["read_orders"],
    }
    await tell("none", 40)
    assert (await tokens(owner))[tenant.shop_id] == []


@pytest.mark.parametrize("body", [{}, [], {"current": "read_orders"}, {"current": [], "updated_at": "soon"}])
async def test_a_word_on_scopes_that_cannot_be_read_is_a_dead_letter(
    handle: Handle, owner: SessionConnection, tenant: Tenant, body: object
) -> None:
    await handle(tenant, "malformed", body, topic="shopify.app.scopes_update")
    assert await owner.fetchval("SELECT error_class FROM dead_letters") == "InvalidPayloadError"
