"""Rows of a shop in every tenant table, written by the code that writes them in earnest."""

from __future__ import annotations

from datetime import UTC, date, datetime
from ipaddress import ip_network
from itertools import count

import orjson

from sellflow.edge.callers import Caller
from sellflow.edge.idempotency import Once
from sellflow.edge.refresh_tokens import begin_session
from sellflow.edge.service_keys import add_key
from sellflow.loyalty.ledger_store import post_movements
from sellflow.loyalty.models import Movement, MovementKind
from sellflow.postgres.database import Connection, Database, Login
from sellflow.postgres.transactions import admin_transaction, batch_transaction, shop_transaction
from sellflow.queue.outgoing.addresses import Allowance
from sellflow.queue.outgoing.endpoints import add_endpoint
from sellflow.roles import build_inventory, build_registry
from sellflow.secrets import build_vault
from sellflow.shopify.admin.stored_store import NewCall, add_call
from sellflow.shopify.admin.throttle_store import take_points
from sellflow.shopify.tokens import TokenKind
from sellflow.shopify.tokens.store import put_grant
from sellflow.shops.compliance.fulfilment import Fulfilment, fulfil_due
from sellflow.shops.customers.payloads import customer_of
from sellflow.shops.customers.store import write_customers
from sellflow.shops.imports.store import ask_for
from sellflow.shops.plans.billing_store import ask_for_check, open_offer
from sellflow.shops.plans.store import find_plan, set_by_operator
from sellflow.shops.plans.usage import count_usage
from sellflow.shops.reconciliation.store import make_due
from sellflow.shops.settings import change_settings
from sellflow.webhooks.store import Delivery, DeliveryStore
from tests.conftest import Tenant
from tests.postgres.databases import connected
from tests.queue.consuming import drain

BROKEN_ORDER = b'{"id": "no order at all"}'


def paid_order(order_id: int) -> bytes:
    """Return an order of 30.00 for which 10.00 were given back."""
    moment = datetime(2026, 3, 1, 12, 0, tzinfo=UTC).isoformat()
    refund = {
        "id": order_id + 1,
        "order_id": order_id,
        "created_at": moment,
        "refund_line_items": [{"line_item_id": order_id + 2, "quantity": 1, "subtotal": "10.00"}],
    }
    order = {
        "id": order_id,
        "name": f"#{order_id}",
        "customer": {"id": order_id + 3},
        "currency": "USD",
        "subtotal_price": "30.00",
        "financial_status": "partially_refunded",
        "created_at": moment,
        "updated_at": moment,
        "line_items": [{"id": order_id + 2, "quantity": 3, "price": "10.00"}],
        "refunds": [refund],
    }
    return orjson.dumps(order)


async def fill(database: Database, *tenants: Tenant) -> None:
    """Give every tenant at least one row in every tenant table."""
    await _make_data_keys(database, *tenants)
    await _add_endpoints(database, *tenants)
    await _give_tokens(database, *tenants)
    await _call_shopify(database, *tenants)
    await _deliver(database, *tenants)
    await _consume(database)
    for tenant in tenants:
        await _overdraw(database, tenant)
        await _join(database, tenant)
        await _reconcile(database, tenant)
        await _log_in(database, tenant)
        await _administrate(database, tenant)
        await _give_plan(database, tenant)
    await _ask_of_customers(database, *tenants)


async def _deliver(database: Database, *tenants: Tenant) -> None:
    bodies = [(tenant, paid_order(1000 * tenant.shop_id)) for tenant in tenants]
    bodies += [(tenant, BROKEN_ORDER) for tenant in tenants]
    deliveries = [
        Delivery(
            app_id=tenant.app.app_id,
            shop_domain=tenant.shop.domain,
            webhook_id=f"{tenant.shop.domain}-{number}",
            topic="shopify.orders.paid",
            key=f"order:{1000 * tenant.shop_id}",
            triggered_at=None,
            payload=body,
        )
        for number, (tenant, body) in enumerate(bodies)
    ]
    async with await database.pool(Login.INGEST, purpose="test filling", size=1) as pool:
        assert await DeliveryStore(pool, build_registry(database.settings)).store(deliveries) == {}


async def _make_data_keys(database: Database, *tenants: Tenant) -> None:
    vault = build_vault(database.settings)
    async with connected(database, Login.OWNER) as owner:
        for tenant in tenants:
            await vault.ensure_data_key(owner, tenant.shop_id)


async def _add_endpoints(database: Database, *tenants: Tenant) -> None:
    """Add an endpoint to each shop, at an address that no delivery reaches."""
    allowance = Allowance((ip_network("127.0.0.1/32"),))
    async with connected(database, Login.OWNER) as owner:
        for tenant in tenants:
            await add_endpoint(
                owner,
                build_registry(database.settings),
                build_vault(database.settings),
                address="https://127.0.0.1/hooks",
                topics=["loyalty.#"],
                shop_id=tenant.shop_id,
                allowance=allowance,
            )


async def _give_tokens(database: Database, *tenants: Tenant) -> None:
    async with connected(database, Login.OWNER) as owner:
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


async def _call_shopify(database: Database, *tenants: Tenant) -> None:
    """Take points for a call that is never settled, and store one that is never sent."""
    async with connected(database, Login.OWNER) as owner:
        for tenant in tenants:
            await take_points(owner, tenant.shop_id, "call", 10.0, reserve=0.0, in_background=False, lifetime=60.0)
            await add_call(owner, NewCall(tenant.shop_id, "adjustment:1", None, "inventory_adjust", "", b"", True))


async def _consume(database: Database) -> None:
    registry = build_registry(database.settings)
    async with await database.pool(Login.WORKER, purpose="test filling", size=2) as pool:
        await drain(database, pool, registry, "loyalty", "outgoing", "outgoing_deliveries")


async def _log_in(database: Database, tenant: Tenant) -> None:
    """Begin a customer's session."""
    async with (
        await database.pool(Login.WEB, purpose="test filling", size=1) as pool,
        shop_transaction(pool, tenant.shop_id) as connection,
    ):
        await begin_session(connection, tenant.shop_id, 7, ttl=3600)


async def _administrate(database: Database, tenant: Tenant) -> None:
    """Change a setting, once, under an idempotency key, and make a service key."""
    once = Once("POST /test", bytes(32), "a-key", build_vault(database.settings))

    async def work(connection: Connection) -> None:
        changes = {"storefront_domain": "shop.example"}
        await change_settings(connection, tenant.shop_id, changes, by="merchant:1", version=0)

    async with await database.pool(Login.ADMIN, purpose="test filling", size=1) as pool:
        await once.run(Caller(tenant.shop_id, "merchant:1"), admin_transaction(pool, tenant.shop_id), work)
    async with connected(database, Login.OWNER) as owner:
        await add_key(owner, name="test", scopes=["queues:read"], shop_id=tenant.shop_id)


async def _give_plan(database: Database, tenant: Tenant) -> None:
    """Give the shop a plan, an offer of another, and counted orders."""
    async with connected(database, Login.OWNER) as owner:
        await set_by_operator(owner, tenant.shop_id, "standard", by="test")
        await ask_for_check(owner, [tenant.shop_id])
        await open_offer(owner, tenant.shop_id, await find_plan(owner, "standard"), by="merchant:1")
        await owner.execute("UPDATE orders SET ordered_at = now() WHERE shop_id = $1", tenant.shop_id)
        await count_usage().run(owner)


async def _ask_of_customers(database: Database, *tenants: Tenant) -> None:
    """Have one customer's data exported, and another erased."""
    numbers = count(1)
    deliveries = [
        Delivery(
            app_id=tenant.app.app_id,
            shop_domain=tenant.shop.domain,
            webhook_id=f"{tenant.shop.domain}-compliance-{next(numbers)}",
            topic=topic,
            key=f"customer:{customer_id}",
            triggered_at=None,
            payload=orjson.dumps({"shop_domain": tenant.shop.domain, "customer": {"id": customer_id}}),
        )
        for tenant in tenants
        for topic, customer_id in (("shopify.customers.data_request", 11), ("shopify.customers.redact", 12))
    ]
    registry, settings = build_registry(database.settings), database.settings
    async with await database.pool(Login.INGEST, purpose="test filling", size=1) as pool:
        assert await DeliveryStore(pool, registry).store(deliveries) == {}
    async with await database.pool(Login.WORKER, purpose="test filling", size=2) as pool:
        await drain(database, pool, registry, "compliance")
    means = Fulfilment(build_inventory(settings), build_vault(settings), settle_seconds=0, export_days=30)
    async with connected(database, Login.OWNER) as owner:
        while await fulfil_due(owner, means):
            pass


async def _reconcile(database: Database, tenant: Tenant) -> None:
    """Know a customer, and have a shop's turn come and something imported."""
    customer = customer_of(b'{"id": 7, "email": "seven@example.com"}', now=datetime.now(UTC))
    async with (
        await database.pool(Login.WORKER, purpose="test filling", size=1) as pool,
        pool.acquire() as connection,
        batch_transaction(connection, [tenant.shop_id]),
    ):
        await write_customers(connection, [(tenant.shop_id, customer)])
        await ask_for(connection, [tenant.shop_id], "customers")
    async with connected(database, Login.OWNER) as owner:
        await make_due(owner, tenant.shop_id, since=None)


async def _join(database: Database, tenant: Tenant) -> None:
    """Make a member of a customer."""
    async with connected(database, Login.OWNER) as owner:
        await owner.execute("INSERT INTO members (shop_id, customer_id) VALUES ($1, 7)", tenant.shop_id)


async def _overdraw(database: Database, tenant: Tenant) -> None:
    """Take points from a customer who has some, and more than that from one who has none."""
    movements = [
        Movement(
            shop_id=tenant.shop_id,
            customer_id=customer_id,
            kind=MovementKind.CLAWBACK,
            points=-5,
            source=f"test:{customer_id}",
            rule=None,
            revision=1,
            snapshot={},
            day=date(2026, 3, 1),
            event_id=1,
        )
        for customer_id in (1000 * tenant.shop_id + 3, 7)
    ]
    async with (
        await database.pool(Login.WORKER, purpose="test filling", size=1) as pool,
        pool.acquire() as connection,
        batch_transaction(connection, [tenant.shop_id]),
    ):
        await post_movements(connection, movements)
