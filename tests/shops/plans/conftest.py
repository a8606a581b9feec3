"""Plans on offer, and shops whose merchants can pay for them at the simulated Shopify."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.postgres.transactions import of_web
from sellflow.secrets import Vault
from sellflow.shopify.admin.client import AdminClient
from sellflow.shopify.admin.opening import admin_client
from sellflow.shops.plans import store
from sellflow.shops.plans.definitions import apply_plans, read_plans
from sellflow.shops.plans.models import Plan
from sellflow.shops.plans.offers import Offers
from sellflow.shops.plans.truth import verify_plans
from tests.conftest import Tenant
from tests.shopify.simulated import SimulatedShopify
from tests.shopify.tokens.conftest import Installed

PLANS = """
[plans.pro]
name = "Pro"
price = 29.00
currency = "USD"
trial_days = 14
features = ["webhooks"]
position = 1
limits = { orders_per_month = 2, endpoints = 1, merchant_requests_per_second = 5.0 }

[plans.max]
name = "Max"
price = 290
currency = "USD"
billing_interval = "ANNUAL"
features = ["*"]
position = 2

[plans.free]
name = "Free"
is_default = true
limits = { endpoints = 0 }

[plans.standard]
name = "Standard"
features = ["*"]
position = 9
"""

MoveIn = Callable[..., Awaitable[None]]


@pytest.fixture
async def plans(owner: SessionConnection) -> dict[str, Plan]:
    await apply_plans(owner, read_plans(PLANS))
    return {plan.handle: plan for plan in await store.list_plans(owner)}


@pytest.fixture
def move_in(owner: SessionConnection, shopify: SimulatedShopify, vault: Vault) -> MoveIn:
    """Let a shop live in the simulator, with a token, and an app that bills in some way."""

    async def move(tenant: Tenant, billing: str = "manual") -> None:
        await shopify.move_in(owner, tenant)
        await Installed(owner, shopify, tenant, vault).put_pair()
        await owner.execute("UPDATE apps SET billing = $2 WHERE app_id = $1", tenant.app.app_id, billing)

    return move


@pytest.fixture
async def client(database: Database, web_pool: Pool) -> AsyncIterator[AdminClient]:
    async with admin_client(of_web(web_pool), database.settings) as made:
        yield made


@pytest.fixture
def offers(client: AdminClient, vault: Vault) -> Offers:
    return Offers(client, vault, is_production=False)


async def answered(url: str, answer: str = "approve") -> str:
    """Do what a merchant does on the page of a charge; return where Shopify sends them."""
    async with httpx.AsyncClient(trust_env=False) as browser:
        assert (await browser.get(url)).status_code == 200
        sent = await browser.post(url, data={"answer": answer})
    assert sent.status_code == 302
    return sent.headers["location"]


async def verified(database: Database, owner: SessionConnection, **settings: object) -> str:
    """Let the scheduler look once."""
    return await verify_plans(database.settings.model_copy(update=settings)).run(owner)


async def holds(owner: SessionConnection, tenant: Tenant) -> str:
    return (await store.plan_of_shop(owner, tenant.shop_id)).handle
