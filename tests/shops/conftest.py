"""A simulated Shopify, and the web role's way of installing apps from it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sellflow.postgres.database import Database, Pool
from sellflow.secrets import Vault
from sellflow.shopify.tokens.endpoint import TokenEndpoint
from sellflow.shops.install import Installer
from tests.shopify.simulated import SimulatedShopify, simulating


@pytest.fixture
async def shopify() -> AsyncIterator[SimulatedShopify]:
    async with simulating() as found:
        yield found


@pytest.fixture
async def installer(database: Database, web_pool: Pool, vault: Vault) -> AsyncIterator[Installer]:
    made = Installer(pool=web_pool, vault=vault, endpoint=TokenEndpoint(), settings=database.settings)
    yield made
    await made.close()
