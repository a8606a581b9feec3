"""A shop of the simulated Shopify whose webhooks reach our ingest, as far as they are not lost on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal

from sellflow.cli.demo.check import expected_points
from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.postgres.transactions import of_worker
from sellflow.queue.registry import Registry
from sellflow.roles import build_registry
from sellflow.shopify.admin.client import AdminClient
from sellflow.shopify.admin.opening import AdminClients
from sellflow.shops.install import Installer
from sellflow.shops.reconciliation.reading import Reader
from sellflow.shops.reconciliation.run import Reconciliation, Tally
from sellflow.simulator import client
from sellflow.simulator.schemas import Faults, FinalOrder, Mix, RunPlan
from tests.conftest import Tenant
from tests.edge.serving import serving
from tests.queue.consuming import drain
from tests.shopify.simulated import SimulatedShopify

#: Everything that can befall an order.
BUSY = Mix(partial_refund=0.25, full_refund=0.1, cancel=0.1, edit=0.1, customer_later=0.1)


@dataclass
class World:
    """What a test plays with."""

    database: Database
    owner: SessionConnection
    pool: Pool
    registry: Registry
    shopify: SimulatedShopify
    tenant: Tenant
    admin: AdminClient

    async def sell(self, count: int, *, seed: int, **faults: float) -> list[FinalOrder]:
        """Sell orders and have handled what arrives of them; return how they ended."""
        plan = RunPlan(count=count, seed=seed, mix=BUSY, faults=Faults(**faults), time_compression=10_000)
        status = await client.play_run(self.shopify.url, self.tenant.shop.domain, plan, lambda _: None)
        await self.handle()
        return await client.final_orders(self.shopify.url, status.run_id)

    async def handle(self) -> None:
        await drain(self.database, self.pool, self.registry, "shops", "loyalty")

    async def reconcile(self, *, settle: float = 0.0, budget: float = 60.0) -> Tally:
        """Reconcile the shop once and have handled what that fed."""
        run = Reconciliation(of_worker(self.pool), Reader(self.admin), settle=settle, budget=budget)
        tally = await run.run(self.tenant.shop_id)
        assert tally is not None
        await self.handle()
        return tally

    async def wrong_orders(self, orders: list[FinalOrder]) -> dict[int, tuple[int, int]]:
        """Return the orders that brought other points than they should: expected and awarded."""
        rows = await self.owner.fetch(
            """
            SELECT substr(t.source, 7)::bigint AS order_id, sum(e.points)::bigint AS points
            FROM transfers t JOIN entries e USING (transfer_id)
            JOIN accounts a ON a.account_id = e.account_id AND a.kind = 'customer'
            GROUP BY t.source
            """
        )
        awarded: Mapping[int, int] = Counter({row["order_id"]: row["points"] for row in rows})
        expected = {order.order_id: expected_points(order, Decimal(1)) for order in orders}
        return {
            order_id: (points, awarded[order_id])
            for order_id, points in expected.items()
            if awarded[order_id] != points
        }

    async def fed(self) -> dict[str, int]:
        """Return how many events came by reconciliation, by topic."""
        rows = await self.owner.fetch(
            "SELECT topic, count(*) AS events FROM events WHERE webhook_id LIKE 'reconciled/%' GROUP BY topic"
        )
        return {row["topic"]: row["events"] for row in rows}


@asynccontextmanager
async def living(
    *,
    database: Database,
    owner: SessionConnection,
    pool: Pool,
    tenant: Tenant,
    shopify: SimulatedShopify,
    installer: Installer,
) -> AsyncIterator[World]:
    """Install the app in a tenant's simulated shop, whose webhooks go to our ingest, and give it a large bucket."""
    async with serving(database) as web:
        webhooks = f"{web.base_url}/webhooks/shopify/{tenant.app.handle}"
        await shopify.move_in(owner, tenant, webhooks=webhooks)
        await installer.install_from_session_token(
            replace(tenant.app, shopify_url=shopify.pattern), tenant.shop.domain, await shopify.session_token(tenant)
        )
        bucket = {"maximum": 1_000_000, "level": 1_000_000, "restore_rate": 100_000}
        await shopify.do("PUT", f"/shops/{tenant.shop.domain}/admin-api/bucket", bucket)
        await owner.execute(
            """
            INSERT INTO reconciliations (shop_id, orders_until, customers_until)
            SELECT shop_id, installed_at, installed_at FROM shops WHERE shop_id = $1
            """,
            tenant.shop_id,
        )
        clients = AdminClients(database.settings)
        registry = build_registry(database.settings, clients=clients)
        try:
            yield World(database, owner, pool, registry, shopify, tenant, clients.of(pool))
        finally:
            await clients.close()
