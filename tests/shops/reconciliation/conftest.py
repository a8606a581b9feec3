"""A shop of the simulated Shopify that has our app."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.shops.install import Installer
from tests.conftest import Tenant
from tests.shopify.simulated import SimulatedShopify
from tests.shops.reconciliation.world import World, living


@pytest.fixture
async def world(  # noqa: PLR0917 - each is a fixture of its own
    database: Database,
    owner: SessionConnection,
    worker_pool: Pool,
    tenant: Tenant,
    shopify: SimulatedShopify,
    installer: Installer,
) -> AsyncIterator[World]:
    async with living(
        database=database,
        owner=owner,
        pool=worker_pool,
        tenant=tenant,
        shopify=shopify,
        installer=installer,
    ) as found:
        yield found
