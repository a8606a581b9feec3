"""A shop that has a token of the simulated Shopify."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sellflow.postgres.database import Pool, SessionConnection
from sellflow.postgres.transactions import of_worker
from sellflow.secrets import Vault
from sellflow.shopify.tokens import Access, AccessTokens, store
from sellflow.shopify.tokens.endpoint import TokenEndpoint
from sellflow.shopify.tokens.models import Client
from sellflow.shopify.tokens.sealing import put_grant
from tests.conftest import Tenant
from tests.shopify.simulated import SimulatedShopify, simulating


@pytest.fixture
async def shopify() -> AsyncIterator[SimulatedShopify]:
    async with simulating() as found:
        yield found


@pytest.fixture
async def endpoint() -> AsyncIterator[TokenEndpoint]:
    made = TokenEndpoint(timeout=2.0, longest=4.0)
    yield made
    await made.close()


class Installed:
    """A shop with an app, its stored token, and what moves its time on."""

    def __init__(self, owner: SessionConnection, shopify: SimulatedShopify, tenant: Tenant, vault: Vault) -> None:
        self.owner = owner
        self.shopify = shopify
        self.tenant = tenant
        self.shop_id = tenant.shop_id
        self._vault = vault

    async def client(self) -> Client:
        found = await store.find_client(self.owner, self._vault, self.shop_id)
        assert found is not None
        return found

    async def put_pair(self) -> str:
        """Exchange a session token, store the pair and return the access token."""
        endpoint = TokenEndpoint()
        grant = await endpoint.exchange(await self.client(), await self.shopify.session_token(self.tenant))
        await endpoint.close()
        await put_grant(self.owner, self._vault, self.shop_id, grant)
        return grant.access_token

    async def let_pass(self, seconds: float, *, refresh: float = 0.0) -> None:
        """Let the token be so much older, at Shopify's and here."""
        await self.shopify.age(self.tenant, access_seconds=seconds, refresh_seconds=refresh)
        await self.owner.execute(
            "UPDATE access_tokens SET expires_at = expires_at - make_interval(secs => $2) WHERE shop_id = $1",
            self.shop_id,
            seconds,
        )

    async def let_retry(self) -> None:
        """Let the pause after a failure be over."""
        await self.owner.execute(
            "UPDATE access_tokens SET retry_at = clock_timestamp() WHERE shop_id = $1", self.shop_id
        )

    async def let_leases_run_out(self) -> None:
        """Let so much time pass that nobody's lease is valid."""
        await self.owner.execute("UPDATE token_leases SET expires_at = clock_timestamp()")

    async def refreshes(self) -> dict[str, int]:
        """Return how often Shopify was asked to refresh."""
        return await self.shopify.calls(self.tenant, "refresh_token")

    async def row(self) -> dict[str, object]:
        found = await self.owner.fetchrow("SELECT * FROM access_tokens WHERE shop_id = $1", self.shop_id)
        assert found is not None
        return dict(found)

    async def works(self, access: Access) -> bool:
        """Say whether Shopify takes what was given out."""
        return await self.shopify.accepts(self.tenant, access.token)


@pytest.fixture
async def installed(owner: SessionConnection, shopify: SimulatedShopify, tenant: Tenant, vault: Vault) -> Installed:
    await shopify.move_in(owner, tenant)
    made = Installed(owner, shopify, tenant, vault)
    await made.put_pair()
    return made


@pytest.fixture
async def tokens(worker_pool: Pool, vault: Vault) -> AsyncIterator[AccessTokens]:
    """Tokens as a worker gives them out."""
    made = AccessTokens(
        transactions=of_worker(worker_pool),
        vault=vault,
        endpoint=TokenEndpoint(timeout=2.0, longest=4.0),
        patience=10.0,
    )
    yield made
    await made.close()
