"""A client of a Shopify on a loopback socket, under the worker's login."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from sellflow.postgres.database import Pool
from sellflow.postgres.transactions import of_worker
from sellflow.settings import Settings
from sellflow.shopify.admin.client import AdminClient
from sellflow.shopify.tokens.models import Access
from tests.conftest import Tenant
from tests.shopify.admin.shopify_server import Shopify, shopify_serving

SHOP_ANSWER = {
    "shop": {
        "id": "gid://shopify/Shop/1",
        "name": "Acme",
        "email": "owner@acme.example",
        "myshopifyDomain": "acme.myshopify.com",
        "currencyCode": "USD",
        "ianaTimezone": "Europe/Berlin",
        "primaryDomain": {"host": "acme.example", "url": "https://acme.example"},
        "plan": {"publicDisplayName": "Basic", "partnerDevelopment": True, "shopifyPlus": False},
    }
}


@dataclass
class FixedTokens:
    """Tokens that need no installation: the first, and another for each that was refused."""

    base_url: str
    token: str = "shpat"
    refused: list[str] = field(default_factory=list)

    @property
    def _token(self) -> str:
        return f"{self.token}_{len(self.refused)}" if self.token == "shpat" else self.token

    async def get(self, shop_id: int) -> Access:
        return Access(shop_id, "acme.myshopify.com", self.base_url, self._token, frozenset())

    async def renew(self, shop_id: int, refused_token: str) -> Access:
        self.refused.append(refused_token)
        return await self.get(shop_id)


@pytest.fixture
async def shopify() -> AsyncIterator[Shopify]:
    async with shopify_serving() as server:
        server.data = SHOP_ANSWER
        yield server


@pytest.fixture
def tokens(shopify: Shopify) -> FixedTokens:
    return FixedTokens(shopify.url)


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings under which a test need not wait long for what never comes."""
    return settings.model_copy(
        update={"shopify_timeout": 2.0, "shopify_foreground_patience": 3.0, "shopify_background_patience": 5.0}
    )


@pytest.fixture
async def client(worker_pool: Pool, tokens: FixedTokens, quick: Settings, tenant: Tenant) -> AsyncIterator[AdminClient]:
    made = AdminClient(transactions=of_worker(worker_pool), tokens=tokens, settings=quick)
    yield made
    await made.close()
