"""A shop that opens the app for the first time, again, after its removal, and with other scopes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sellflow.postgres.database import Pool, SessionConnection
from sellflow.postgres.transactions import of_worker
from sellflow.secrets import Vault
from sellflow.shopify.tokens import AccessTokens, Grant, TokenDelayedError, TokenKind
from sellflow.shopify.tokens.endpoint import TokenEndpoint
from sellflow.shopify.tokens.errors import CredentialsRefusedError, GrantRefusedError
from sellflow.shopify.tokens.sealing import put_grant
from sellflow.shops.install import Installer
from sellflow.shops.models import App
from tests.conftest import Tenant, make_tenant
from tests.shopify.simulated import SCOPES, SimulatedShopify

NEW = "new-shop.myshopify.com"


@pytest.fixture
async def app(owner: SessionConnection, shopify: SimulatedShopify, tenant: Tenant) -> App:
    """The tenant's app, known to the simulator together with a shop that we do not know."""
    await shopify.move_in(owner, tenant)
    await shopify.do(
        "PUT", f"/shops/{NEW}", {"webhook_url": "http://127.0.0.1:9/", "client_secret": "x", "currency": "EUR"}
    )
    await shopify.do("POST", f"/shops/{NEW}/install", {"client_id": tenant.app.client_id})
    return replace(tenant.app, shopify_url=shopify.pattern, scopes=SCOPES)


@pytest.fixture
async def tokens(worker_pool: Pool, vault: Vault) -> AccessTokens:
    return AccessTokens(transactions=of_worker(worker_pool), vault=vault, endpoint=TokenEndpoint())


async def session_token(shopify: SimulatedShopify, app: App, domain: str = NEW, **changes: object) -> str:
    made = await shopify.do("POST", f"/shops/{domain}/session-token", {"client_id": app.client_id, **changes})
    return str(made["session_token"])


async def exchanges(shopify: SimulatedShopify, domain: str) -> int:
    found = await shopify.do("GET", f"/shops/{domain}/oauth/calls")
    return int(found["calls"].get("token_exchange", {"received": 0})["received"])


async def test_a_first_look_installs_the_app_with_the_shops_own_currency(
    owner: SessionConnection, shopify: SimulatedShopify, app: App, installer: Installer, tokens: AccessTokens
) -> None:
    shop_id = await installer.install_from_session_token(app, NEW, await session_token(shopify, app))
    shop = await owner.fetchrow("SELECT * FROM shops WHERE shop_id = $1", shop_id)
    assert shop is not None
    assert (shop["domain"], shop["currency"], shop["app_id"]) == (NEW, "EUR", app.app_id)
    access = await tokens.get(shop_id)
    assert access.scopes == set(SCOPES)
    assert await owner.fetchval("SELECT kind FROM access_tokens WHERE shop_id = $1", shop_id) == "expiring"


async def test_a_second_look_asks_shopify_for_nothing(
    shopify: SimulatedShopify, app: App, installer: Installer
) -> None:
    first = await installer.install_from_session_token(app, NEW, await session_token(shopify, app))
    assert await installer.install_from_session_token(app, NEW, "not even looked at") == first
    assert await exchanges(shopify, NEW) == 1


async def test_a_page_that_asks_for_ten_things_at_once_installs_once(
    owner: SessionConnection, shopify: SimulatedShopify, app: App, installer: Installer, tokens: AccessTokens
) -> None:
    token = await session_token(shopify, app)
    found = await asyncio.gather(*(installer.install_from_session_token(app, NEW, token) for _ in range(10)))
    assert len(set(found)) == 1
    assert await exchanges(shopify, NEW) == 1
    access = await tokens.get(found[0])
    answer = await shopify.graphql(NEW, access.token, "{ shop { currencyCode } }")
    assert answer == {"shop": {"currencyCode": "EUR"}}
    assert await owner.fetchval("SELECT count(*) FROM token_leases") == 0


async def test_a_refused_session_token_installs_nothing(
    owner: SessionConnection, shopify: SimulatedShopify, app: App, installer: Installer
) -> None:
    with pytest.raises(GrantRefusedError, match="invalid_subject_token"):
        await installer.install_from_session_token(app, NEW, await session_token(shopify, app, age_seconds=3600))
    assert await owner.fetchval("SELECT count(*) FROM shops WHERE domain = $1", NEW) == 0
    assert await owner.fetchval("SELECT count(*) FROM token_leases") == 0


async def test_a_wrong_secret_is_told_as_such(shopify: SimulatedShopify, app: App, installer: Installer) -> None:
    wrong = replace(app, client_secret="another-secret-than-the-dashboard-has")
    with pytest.raises(CredentialsRefusedError, match="client id or secret is not the one in its dashboard"):
        await installer.install_from_session_token(wrong, NEW, await session_token(shopify, app))


async def test_a_shop_whose_currency_cannot_be_read_is_installed_by_the_next_look(
    owner: SessionConnection, shopify: SimulatedShopify, app: App, installer: Installer
) -> None:
    await shopify.do("POST", f"/shops/{NEW}/admin-api/faults", {"kind": "error_before", "next": 3})
    with pytest.raises(TokenDelayedError, match="does not tell the shop's currency"):
        await installer.install_from_session_token(app, NEW, await session_token(shopify, app))
    assert await owner.fetchval("SELECT count(*) FROM shops WHERE domain = $1", NEW) == 0
    assert await installer.install_from_session_token(app, NEW, await session_token(shopify, app))


async def test_a_shop_that_comes_back_gets_a_token_and_keeps_its_id_and_currency(
    *,
    owner: SessionConnection,
    shopify: SimulatedShopify,
    app: App,
    installer: Installer,
    tenant: Tenant,
    tokens: AccessTokens,
) -> None:
    await owner.execute("UPDATE shops SET uninstalled_at = now(), currency = 'CHF'")
    token = await session_token(shopify, app, tenant.shop.domain)
    assert await installer.install_from_session_token(app, tenant.shop.domain, token) == tenant.shop_id
    shop = await owner.fetchrow("SELECT currency, uninstalled_at FROM shops WHERE shop_id = $1", tenant.shop_id)
    assert shop is not None
    assert tuple(shop) == ("CHF", None)
    assert await shopify.accepts(tenant, (await tokens.get(tenant.shop_id)).token)


@pytest.mark.parametrize("why", ["permanent", "broken", "scopes"])
async def test_a_token_that_is_outdated_is_exchanged_at_the_next_look(
    *,
    owner: SessionConnection,
    shopify: SimulatedShopify,
    app: App,
    installer: Installer,
    tenant: Tenant,
    tokens: AccessTokens,
    vault: Vault,
    why: str,
) -> None:
    domain = tenant.shop.domain
    await installer.install_from_session_token(app, domain, await session_token(shopify, app, domain))
    if why == "permanent":
        await put_grant(
            owner, vault, tenant.shop_id, Grant(kind=TokenKind.PERMANENT, access_token="shpat_old", scopes=SCOPES)
        )
    elif why == "broken":
        await owner.execute("UPDATE access_tokens SET broken_at = now(), last_error = 'refused'")
    else:
        await owner.execute(
            "UPDATE access_tokens SET scopes = '{read_orders}', granted_at = now() - interval '61 minutes'"
        )
    await installer.install_from_session_token(app, domain, await session_token(shopify, app, domain))
    assert await exchanges(shopify, domain) == 2
    access = await tokens.get(tenant.shop_id)
    assert await shopify.accepts(tenant, access.token)
    assert access.scopes == set(SCOPES)


async def test_scopes_that_the_merchant_did_not_grant_are_not_asked_for_with_every_look(
    shopify: SimulatedShopify, app: App, installer: Installer
) -> None:
    greedy = replace(app, scopes=(*SCOPES, "write_everything"))
    for _ in range(3):
        await installer.install_from_session_token(greedy, NEW, await session_token(shopify, app))
    assert await exchanges(shopify, NEW) == 1


async def test_a_browser_that_goes_away_meanwhile_loses_nothing(
    owner: SessionConnection, shopify: SimulatedShopify, app: App, installer: Installer, tenant: Tenant
) -> None:
    domain = tenant.shop.domain
    await shopify.plan(tenant, "latency", seconds=0.3)
    looking = asyncio.create_task(
        installer.install_from_session_token(app, domain, await session_token(shopify, app, domain))
    )
    while not await exchanges(shopify, domain):  # noqa: ASYNC110 - it happens in the simulator
        await asyncio.sleep(0.01)
    looking.cancel()
    await installer.close()
    assert await owner.fetchval("SELECT count(*) FROM access_tokens WHERE shop_id = $1", tenant.shop_id) == 1


async def test_a_shop_with_two_apps_is_two_shops_here(
    owner: SessionConnection, shopify: SimulatedShopify, app: App, installer: Installer
) -> None:
    second = await make_tenant(owner, "second")
    await shopify.move_in(owner, second)
    await shopify.do("POST", f"/shops/{NEW}/install", {"client_id": second.app.client_id})
    other = replace(second.app, shopify_url=shopify.pattern, scopes=SCOPES)
    ids = {
        await installer.install_from_session_token(each, NEW, await session_token(shopify, each))
        for each in (app, other)
    }
    assert len(ids) == 2
