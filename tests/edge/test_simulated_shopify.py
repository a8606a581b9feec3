"""The edge and a simulated Shopify, each on a socket: shops are installed by a first look, customers log in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.postgres.transactions import of_worker
from sellflow.secrets import Vault
from sellflow.shopify.tokens import AccessTokens
from sellflow.shopify.tokens.endpoint import TokenEndpoint
from sellflow.shops.settings import change_settings
from tests.conftest import Tenant
from tests.edge.serving import serving
from tests.shopify.simulated import SCOPES, SimulatedShopify, simulating
from tests.simulator.accounts.conftest import CLIENT_ID, Phone

NEW = "new-shop.myshopify.com"
NONCE = "n-0S6_WzA2Mj"
SESSION, SETTINGS = "/admin/api/session", "/admin/api/settings"


@pytest.fixture
async def shopify(owner: SessionConnection, tenant: Tenant) -> AsyncIterator[SimulatedShopify]:
    """A simulated Shopify in which a shop has the app that we do not know yet."""
    async with simulating() as found:
        await found.move_in(owner, tenant)
        await found.do("PUT", f"/shops/{NEW}", {"webhook_url": "http://127.0.0.1:9/", "client_secret": "x"})
        await found.do("POST", f"/shops/{NEW}/install", {"client_id": tenant.app.client_id})
        yield found


@pytest.fixture
async def client(database: Database, shopify: SimulatedShopify) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(database, installs=True) as found:
        yield found


@pytest.fixture
def new(tenant: Tenant) -> Tenant:
    """The shop that is not known, of the tenant's app."""
    return replace(tenant, shop=replace(tenant.shop, domain=NEW))


async def shown(shopify: SimulatedShopify, tenant: Tenant) -> dict[str, str]:
    """The header that App Bridge sends from a shop's admin."""
    return {"authorization": f"Bearer {await shopify.session_token(tenant)}"}


async def shop_id_of(owner: SessionConnection, domain: str) -> int | None:
    found: int | None = await owner.fetchval(
        "SELECT shop_id FROM shops WHERE domain = $1 AND uninstalled_at IS NULL", domain
    )
    return found


async def test_a_session_token_of_an_unknown_shop_installs_it_and_is_answered(
    *,
    client: httpx.AsyncClient,
    owner: SessionConnection,
    shopify: SimulatedShopify,
    new: Tenant,
    worker_pool: Pool,
    vault: Vault,
) -> None:
    headers = await shown(shopify, new)
    answers = await asyncio.gather(*(client.get(path, headers=headers) for path in (SESSION, SETTINGS) * 3))
    assert [each.status_code for each in answers] == [200] * 6, [each.text for each in answers]
    assert (answers[0].json()["shop"], answers[0].json()["app"]) == (NEW, new.app.handle)
    assert (await shopify.calls(new, "token_exchange"))["granted"] == 1
    shop_id = await shop_id_of(owner, NEW)
    assert shop_id is not None
    access = await AccessTokens(transactions=of_worker(worker_pool), vault=vault, endpoint=TokenEndpoint()).get(shop_id)
    assert access.scopes == set(SCOPES)
    assert await shopify.accepts(new, access.token)


async def test_a_document_in_shopifys_admin_installs_its_shop_too(
    client: httpx.AsyncClient, owner: SessionConnection, shopify: SimulatedShopify, new: Tenant
) -> None:
    query = {"id_token": await shopify.session_token(new), "shop": NEW, "embedded": "1"}
    answer = await client.get(f"/admin/{new.app.handle}", params=query)
    assert (answer.status_code, NEW in answer.text) == (200, True)
    assert await shop_id_of(owner, NEW) is not None


async def test_a_shop_that_shopify_gives_no_token_for_is_not_installed(
    client: httpx.AsyncClient, owner: SessionConnection, shopify: SimulatedShopify, new: Tenant
) -> None:
    headers = await shown(shopify, new)
    await shopify.uninstall(new)
    answer = await client.get(SESSION, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "shopify.not_installed")
    assert await shop_id_of(owner, NEW) is None


@pytest.mark.conformance
@pytest.mark.parametrize("by", ["id_token", "access_token"])
async def test_a_customer_who_signed_in_at_shopify_gets_a_session_here(
    *, client: httpx.AsyncClient, owner: SessionConnection, shopify: SimulatedShopify, tenant: Tenant, by: str
) -> None:
    home = f"/shops/{tenant.shop.domain}"
    made = await shopify.do("PUT", f"{home}/customer-clients/{CLIENT_ID}")
    async with owner.transaction():
        wanted = {"customer_account_client_id": CLIENT_ID}
        await change_settings(owner, tenant.shop_id, wanted, by="test", version=None)
    customer = (await shopify.do("GET", f"{home}/customers"))["customers"][1]
    async with httpx.AsyncClient(base_url=shopify.url, trust_env=False) as api:
        phone = Phone(api, home)
        phone.redirect = made["redirect_uris"][0]
        await phone.discover()
        given = await phone.sign_in(login_hint=customer["email"], nonce=NONCE)
    proof = {"id_token": given["id_token"], "nonce": NONCE} if by == "id_token" else {by: given[by]}
    answer = await client.post("/mobile/sessions", json={"shop": tenant.shop.domain, **proof})
    assert answer.status_code == 201, answer.text
    headers = {"authorization": f"Bearer {answer.json()['token']}"}
    assert (await client.get("/v1/loyalty", headers=headers)).json()["balance"] == 0
    assert await owner.fetchval("SELECT customer_id FROM customer_sessions") == customer["id"]
    if by == "id_token":
        forged = await client.post("/mobile/sessions", json={"shop": tenant.shop.domain, **proof, "nonce": "another"})
        assert (forged.status_code, forged.json()["code"]) == (401, "auth.customer_refused")
