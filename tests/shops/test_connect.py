"""A shop that is connected without its merchant."""

from __future__ import annotations

import pytest

from sellflow.postgres.database import SessionConnection
from sellflow.postgres.transactions import of_session
from sellflow.secrets import Vault
from sellflow.shopify.tokens import AccessTokens, NotInstalledError
from sellflow.shopify.tokens.endpoint import TokenEndpoint
from sellflow.shops.connect import expect_claimed_token
from tests.conftest import Tenant
from tests.shopify.simulated import SimulatedShopify


async def test_a_shop_whose_shopify_starts_later_claims_its_token_with_its_first_call(
    owner: SessionConnection, shopify: SimulatedShopify, tenant: Tenant, vault: Vault
) -> None:
    await expect_claimed_token(owner, vault, tenant.shop_id)
    await shopify.move_in(owner, tenant)
    tokens = AccessTokens(transactions=of_session(owner), vault=vault, endpoint=TokenEndpoint())
    access = await tokens.get(tenant.shop_id)
    assert await shopify.accepts(tenant, access.token)
    await expect_claimed_token(owner, vault, tenant.shop_id)
    assert await tokens.get(tenant.shop_id) == access, "a token that is there stays"
    await tokens.close()


async def test_a_shop_that_removed_the_app_expects_no_token(
    owner: SessionConnection, tenant: Tenant, vault: Vault
) -> None:
    await expect_claimed_token(owner, vault, tenant.shop_id)
    await owner.execute("UPDATE shops SET uninstalled_at = now()")
    tokens = AccessTokens(transactions=of_session(owner), vault=vault, endpoint=TokenEndpoint())
    with pytest.raises(NotInstalledError, match="has removed the app"):
        await tokens.get(tenant.shop_id)
    await tokens.close()
