"""The demo shop of a development installation: one app, one shop, one point for each unit of money."""

from __future__ import annotations

from decimal import Decimal

from sellflow.loyalty.models import Rounding
from sellflow.loyalty.program_store import set_spend_rule
from sellflow.postgres.database import SessionConnection
from sellflow.secrets import Vault
from sellflow.settings import Settings
from sellflow.shopify.domains import PLACEHOLDER
from sellflow.shops.connect import expect_claimed_token
from sellflow.shops.models import Shop
from sellflow.shops.store import add_app, install_shop, set_shopify_url

DEMO_APP = "demo"
DEMO_CLIENT_ID = "demo-client-id"
DEMO_DOMAIN = "sellflow-demo.myshopify.com"
DEMO_CURRENCY = "USD"


async def seed_demo_shop(connection: SessionConnection, vault: Vault, settings: Settings) -> Shop:
    """Make the demo app and shop where they are missing; an earning rule that was changed stays changed."""
    secret = settings.demo_app_secret.get_secret_value()
    app = await add_app(connection, vault, handle=DEMO_APP, client_id=DEMO_CLIENT_ID, client_secret=secret)
    shop = await install_shop(connection, app_id=app.app_id, domain=DEMO_DOMAIN, currency=DEMO_CURRENCY)
    await set_shopify_url(connection, DEMO_APP, f"{settings.simulator_url}/shops/{PLACEHOLDER}")
    await expect_claimed_token(connection, vault, shop.shop_id)
    has_program = await connection.fetchval("SELECT true FROM programs WHERE shop_id = $1 LIMIT 1", shop.shop_id)
    if not has_program:
        await set_spend_rule(connection, shop.shop_id, points_per_unit=Decimal(1), rounding=Rounding.DOWN)
    return shop
