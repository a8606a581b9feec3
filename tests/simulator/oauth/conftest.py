"""An app in the demo shop, and Shopify's own library to use it with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from shopify_app import ShopifyApp
from starlette.applications import Starlette

from tests.simulator.conftest import RegisterShop
from tests.simulator.merchant import CLIENT_ID, SECRET, Merchant, installed


@pytest.fixture
async def merchant(api: httpx.AsyncClient, register: RegisterShop) -> Merchant:
    """Install the app in the demo shop."""
    await register()
    return await installed(Merchant(api))


@pytest.fixture
def library() -> ShopifyApp:
    """Give Shopify's own library, set up for the app."""
    return ShopifyApp(CLIENT_ID, SECRET)


@pytest.fixture
async def shopify_hosts(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client for which every host is the simulator: libraries build `https://{shop}` themselves."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        yield client
