"""A shop's plan by HTTP: what it is, what is used of it, and choosing another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.queue.registry import Registry
from sellflow.secrets import Vault
from sellflow.shops.plans import store
from sellflow.shops.plans.definitions import apply_plans, read_plans
from sellflow.shops.plans.usage import count_usage
from sellflow.webhooks.store import Delivery, DeliveryStore
from tests.conftest import Tenant
from tests.edge.callers import merchant, session_token
from tests.queue.consuming import drain
from tests.shopify.simulated import SCHEMAS, SimulatedShopify, simulating
from tests.shopify.tokens.conftest import Installed
from tests.shops.plans.conftest import PLANS, answered, holds, verified

PATH = "/admin/api/plan"
needs_schemas = pytest.mark.skipif(not SCHEMAS.exists(), reason="Shopify's schemas are not here: make install")


@pytest.fixture(autouse=True)
async def plans(owner: SessionConnection) -> None:
    await apply_plans(owner, read_plans(PLANS))


@pytest.fixture
async def shopify(owner: SessionConnection, vault: Vault, tenant: Tenant) -> AsyncIterator[SimulatedShopify]:
    """A Shopify in which the shop of an app that bills lives."""
    async with simulating() as found:
        await found.move_in(owner, tenant)
        await Installed(owner, found, tenant, vault).put_pair()
        await owner.execute("UPDATE apps SET billing = 'manual'")
        yield found


async def order(owner: SessionConnection, tenant: Tenant, number: int, at: datetime) -> None:
    await owner.execute(
        "INSERT INTO orders (shop_id, order_id, app_id, ordered_at) VALUES ($1, $2, $3, $4)",
        tenant.shop_id,
        number,
        tenant.app.app_id,
        at,
    )


async def test_a_shop_that_nobody_gave_a_plan_has_the_default_one(client: httpx.AsyncClient, tenant: Tenant) -> None:
    found = (await client.get(PATH, headers=merchant(tenant))).json()
    assert (found["plan"]["handle"], found["set_by"], found["billing"]) == ("free", "default", "none")
    assert [(each["handle"], each["is_current"], each["link"]) for each in found["choices"]] == [
        ("free", True, None),
        ("pro", False, None),
        ("max", False, None),
        ("standard", False, None),
    ]
    assert found["choices"][1]["price"] == {
        "amount": "29.00",
        "currency": "USD",
        "interval": "EVERY_30_DAYS",
        "trial_days": 14,
    }


async def test_this_months_orders_are_counted_each_once_and_every_one_is_taken(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    await store.set_by_operator(owner, tenant.shop_id, "pro", by="ann")
    now = datetime.now(UTC)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for number, at in enumerate([now, now, month, month - timedelta(seconds=1)]):
        await order(owner, tenant, number + 1, at)
    await order(owner, other_tenant, 99, now)
    for number in range(4):
        await owner.execute(
            "INSERT INTO customers (shop_id, customer_id, revised_at) VALUES ($1, $2, $3)", tenant.shop_id, number, now
        )
    await owner.execute("UPDATE plans SET customers = 3")
    for _ in range(2):
        await count_usage().run(owner)
    used = (await client.get(PATH, headers=merchant(tenant))).json()["usage"]
    assert (used["orders"], used["orders_over"]) == (3, 1)
    assert (used["customers"], used["customers_over"]) == (4, 1)
    assert (await client.get(PATH, headers=merchant(other_tenant))).json()["usage"]["orders"] == 1


async def test_an_order_beyond_the_plan_is_stored_and_earns_like_any_other(
    *,
    database: Database,
    owner: SessionConnection,
    ingest_pool: Pool,
    worker_pool: Pool,
    registry: Registry,
    tenant: Tenant,
) -> None:
    await store.set_by_operator(owner, tenant.shop_id, "pro", by="ann")
    moment = datetime.now(UTC).isoformat()
    body = (
        '{"id": %d, "customer": {"id": 7}, "currency": "USD", "subtotal_price": "10.00", "financial_status": "paid", '
        '"created_at": "%s", "updated_at": "%s", "line_items": [{"id": 1, "quantity": 1, "price": "10.00"}], '
        '"refunds": []}'
    )
    deliveries = [
        Delivery(
            tenant.app.app_id,
            tenant.shop.domain,
            f"w{n}",
            "shopify.orders.paid",
            f"order:{n}",
            None,
            (body % (n, moment, moment)).encode(),
        )
        for n in range(1, 6)
    ]
    await DeliveryStore(ingest_pool, registry).store(deliveries)
    await drain(database, worker_pool, registry, "loyalty")
    await count_usage().run(owner)
    assert await owner.fetchval("SELECT sum(orders) FROM plan_usage") == 5
    assert await owner.fetchval("SELECT balance FROM accounts WHERE kind = 'customer'") == 50


async def test_plans_are_for_merchants_alone(client: httpx.AsyncClient, tenant: Tenant) -> None:
    assert (await client.get(PATH)).status_code == 401
    assert (await client.post(PATH, json={"plan": "pro"})).status_code == 401


@needs_schemas
@pytest.mark.conformance
async def test_a_merchant_chooses_agrees_and_has_it(
    client: httpx.AsyncClient, database: Database, owner: SessionConnection, shopify: SimulatedShopify, tenant: Tenant
) -> None:
    headers = merchant(tenant) | {"idempotency-key": "first"}
    chosen = await client.post(PATH, headers=headers, json={"plan": "pro"})
    assert chosen.status_code == 200, chosen.text
    assert chosen.json()["url"].startswith(shopify.url)
    for again in ("first", "second"):
        same = await client.post(PATH, headers=headers | {"idempotency-key": again}, json={"plan": "pro"})
        assert same.json() == chosen.json()
    await verified(database, owner)
    await answered(chosen.json()["url"])
    assert await verified(database, owner) == "no shop is to be checked"
    # The merchant comes back to the app's page, with an address that says which charge it was.
    query = {"id_token": session_token(tenant), "shop": tenant.shop.domain, "charge_id": "1"}
    assert (await client.get("/admin/acme", params=query)).status_code == 200
    assert await verified(database, owner) == "1 shops checked, 1 plans changed"
    found = (await client.get(PATH, headers=merchant(tenant))).json()
    assert (found["plan"]["handle"], found["set_by"], found["subscription_status"]) == ("pro", "subscription", "ACTIVE")
    paid = await client.post(PATH, headers=merchant(tenant), json={"plan": "pro"})
    assert (paid.status_code, paid.json()["code"]) == (409, "billing.already_paid")


@needs_schemas
async def test_the_charge_of_another_shop_opens_nothing(
    *,
    client: httpx.AsyncClient,
    database: Database,
    owner: SessionConnection,
    shopify: SimulatedShopify,
    vault: Vault,
    tenant: Tenant,
    other_tenant: Tenant,
) -> None:
    await shopify.move_in(owner, other_tenant)
    await Installed(owner, shopify, other_tenant, vault).put_pair()
    url = (await client.post(PATH, headers=merchant(tenant), json={"plan": "max"})).json()["url"]
    await answered(url)
    number = await owner.fetchval("SELECT subscription_id FROM plan_offers")
    for charge in (str(number), "1 OR 1", "", "9" * 500):
        query = {"id_token": session_token(other_tenant), "charge_id": charge}
        assert (await client.get("/admin/acme", params=query)).status_code == 200
    # Without a session nobody is asked about.
    before = await owner.fetchval("SELECT max(asked_at) FROM shop_billing")
    assert (await client.get("/admin/acme", params={"charge_id": str(number)})).status_code == 302
    assert await owner.fetchval("SELECT max(asked_at) FROM shop_billing") == before
    await verified(database, owner)
    assert (await holds(owner, tenant), await holds(owner, other_tenant)) == ("max", "free")


async def test_who_cannot_be_billed_is_told_so(client: httpx.AsyncClient, tenant: Tenant) -> None:
    for body, status, code in (
        ({"plan": "pro"}, 403, "billing.none"),
        ({"plan": "gold"}, 404, "not_found"),
        ({"plan": "Pro;--"}, 400, "request.invalid"),
        ({}, 400, "request.invalid"),
        ({"plan": "pro", "price": 0}, 400, "request.invalid"),
    ):
        refused = await client.post(PATH, headers=merchant(tenant), json=body)
        assert (refused.status_code, refused.json()["code"]) == (status, code), body


@needs_schemas
async def test_a_shopify_that_is_away_or_takes_no_token_is_a_clear_answer_and_offers_nothing(
    client: httpx.AsyncClient, owner: SessionConnection, shopify: SimulatedShopify, tenant: Tenant
) -> None:
    await owner.execute("UPDATE apps SET shopify_url = 'http://127.0.0.1:9/{shop}'")
    away = await client.post(PATH, headers=merchant(tenant), json={"plan": "pro"})
    assert (away.status_code, away.json()["code"]) == (503, "shopify.no_connection")
    assert away.headers["retry-after"] == "5"
    await owner.execute("DELETE FROM access_tokens")
    refused = await client.post(PATH, headers=merchant(tenant), json={"plan": "pro"})
    assert (refused.status_code, refused.json()["code"]) == (403, "shopify.not_installed")
    assert await owner.fetchval("SELECT count(*) FROM plan_offers") == 0


async def test_managed_apps_link_to_shopifys_page(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    await owner.execute("UPDATE apps SET billing = 'managed', pricing_handle = 'acme-points'")
    page = "https://admin.shopify.com/store/acme/charges/acme-points/pricing_plans"
    found = (await client.get(PATH, headers=merchant(tenant))).json()
    assert {each["link"] for each in found["choices"]} == {page}
    assert (await client.post(PATH, headers=merchant(tenant), json={"plan": "pro"})).json() == {"url": page}
