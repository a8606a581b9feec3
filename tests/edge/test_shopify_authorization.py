"""The authorization code grant, as a browser walks through it, and as an attacker would like to."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from sellflow.app import WebApplication
from sellflow.postgres.database import Database, SessionConnection
from sellflow.roles import build_registry
from sellflow.shopify.query_signatures import sign_query
from sellflow.shopify.signatures import is_signed
from tests.conftest import SECRET, Tenant
from tests.edge.serving import with_settings
from tests.shopify.simulated import SCOPES, SimulatedShopify, simulating

PUBLIC = "https://sellflow.test"
BEGIN = "/auth/shopify/acme"
CALLBACK = f"{PUBLIC}{BEGIN}/callback"


@pytest.fixture
async def shopify(owner: SessionConnection, tenant: Tenant) -> AsyncIterator[SimulatedShopify]:
    async with simulating() as found:
        await found.move_in(owner, tenant, is_installed=False)
        app = {"client_secret": SECRET, "scopes": SCOPES, "redirect_urls": [CALLBACK]}
        await found.do("PUT", f"/apps/{tenant.app.client_id}", app)
        yield found


@asynccontextmanager
async def browsing(application: WebApplication) -> AsyncIterator[httpx.AsyncClient]:
    """A browser: it keeps cookies, and follows no redirect by itself."""
    transport = httpx.ASGITransport(application)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC) as client:
        yield client


@pytest.fixture
async def application(database: Database) -> AsyncIterator[WebApplication]:
    made = WebApplication(with_settings(database, public_url=PUBLIC), build_registry(database.settings))
    async with made.api.router.lifespan_context(made.api):
        yield made


@pytest.fixture
async def browser(application: WebApplication, shopify: SimulatedShopify) -> AsyncIterator[httpx.AsyncClient]:
    async with browsing(application) as client:
        yield client


async def approved(browser: httpx.AsyncClient, shop: str = "acme.myshopify.com") -> str:
    """Begin, let the merchant approve at the simulator, and return where the browser is sent back to."""
    begun = await browser.get(BEGIN, params={"shop": shop})
    assert begun.status_code == 302, begun.text
    async with httpx.AsyncClient(trust_env=False) as outside:
        answer = await outside.get(begun.headers["location"])
    assert answer.status_code == 302, answer.text
    return str(answer.headers["location"])


def with_query(address: str, **changes: str) -> str:
    """The address with a changed query, signed anew as only Shopify could."""
    parameters = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()} | changes
    parameters.pop("hmac")
    return f"{CALLBACK}?{urlencode(parameters | {'hmac': sign_query(parameters, SECRET)})}"


async def test_a_merchant_who_approves_has_the_app_installed(
    browser: httpx.AsyncClient, owner: SessionConnection, shopify: SimulatedShopify
) -> None:
    done = await browser.get(await approved(browser))
    assert done.status_code == 302, done.text
    assert done.headers["location"] == f"{shopify.url}/shops/acme.myshopify.com/admin/apps/client-acme"
    row = await owner.fetchrow("SELECT kind, scopes FROM access_tokens")
    assert row is not None
    assert (row["kind"], row["scopes"]) == ("expiring", list(SCOPES))
    assert await owner.fetchval("SELECT count(*) FROM authorizations") == 0


async def test_the_shop_is_asked_for_what_the_app_wants_and_told_where_to_come_back(browser: httpx.AsyncClient) -> None:
    begun = await browser.get(BEGIN, params={"shop": "ACME.myshopify.com"})
    target = urlsplit(begun.headers["location"])
    asked = {name: values[0] for name, values in parse_qs(target.query).items()}
    assert target.path == "/shops/acme.myshopify.com/admin/oauth/authorize"
    assert asked["client_id"] == "client-acme"
    assert asked["scope"] == ",".join(SCOPES)
    assert asked["redirect_uri"] == CALLBACK
    assert len(asked["state"]) >= 43
    cookie = begun.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "Secure", "SameSite=lax", "Path=/auth/shopify"))
    assert begun.headers["cache-control"] == "no-store"


async def test_a_launch_that_shopify_signed_begins_too_and_a_forged_one_does_not(browser: httpx.AsyncClient) -> None:
    launch = {"shop": "acme.myshopify.com", "timestamp": str(int(time.time()))}
    assert (await browser.get(BEGIN, params=launch | {"hmac": sign_query(launch, SECRET)})).status_code == 302
    forged = await browser.get(BEGIN, params=launch | {"hmac": sign_query(launch, "another")})
    assert (forged.status_code, forged.json()["code"]) == (400, "shopify.invalid_query")


@pytest.mark.parametrize("shop", ["", "evil.com", "acme.myshopify.com.evil.com", "acme.myshopify.com/x", "a@b"])
async def test_nobody_is_sent_anywhere_but_to_a_shop(browser: httpx.AsyncClient, shop: str) -> None:
    refused = await browser.get(BEGIN, params={"shop": shop})
    assert (refused.status_code, refused.json()["code"]) == (400, "shopify.hostile_domain")
    assert "set-cookie" not in refused.headers


async def test_a_code_comes_back_once(browser: httpx.AsyncClient) -> None:
    back = await approved(browser)
    assert (await browser.get(back)).status_code == 302
    again = await browser.get(back)
    assert (again.status_code, again.json()["code"]) == (403, "shopify.unknown_state")


async def test_another_browser_cannot_end_what_this_one_began(
    browser: httpx.AsyncClient, application: WebApplication, owner: SessionConnection
) -> None:
    back = await approved(browser)
    async with browsing(application) as other:
        refused = await other.get(back)
    assert (refused.status_code, refused.json()["code"]) == (403, "shopify.unknown_state")
    assert await owner.fetchval("SELECT count(*) FROM access_tokens") == 0


async def test_a_state_is_good_for_its_own_shop_and_time_alone(
    browser: httpx.AsyncClient, owner: SessionConnection
) -> None:
    back = await approved(browser)
    assert (await browser.get(with_query(back, shop="other.myshopify.com"))).status_code == 403
    back = await approved(browser)
    await owner.execute("UPDATE authorizations SET expires_at = now()")
    assert (await browser.get(back)).status_code == 403
    back = await approved(browser)
    assert (await browser.get(with_query(back, state="guessed"))).status_code == 403


async def test_what_shopify_did_not_sign_ends_nothing(browser: httpx.AsyncClient, owner: SessionConnection) -> None:
    back = await approved(browser)
    for forged in (
        back.replace("code=", "code=x"),
        f"{back}&shop=acme.myshopify.com",
        re.sub("hmac=[0-9a-f]{64}&?", "", back),
        with_query(back, timestamp=str(int(time.time()) - 100)),
    ):
        refused = await browser.get(forged)
        assert (refused.status_code, refused.json()["code"]) == (400, "shopify.invalid_query"), forged
    assert await owner.fetchval("SELECT count(*) FROM authorizations") == 1
    assert (await browser.get(back)).status_code == 302


async def test_a_code_that_shopify_refuses_is_told(browser: httpx.AsyncClient) -> None:
    refused = await browser.get(with_query(await approved(browser), code="made-up"))
    assert (refused.status_code, refused.json()["code"]) == (400, "shopify.grant_refused")


async def test_an_app_that_does_not_exist_and_an_installation_without_address(
    browser: httpx.AsyncClient, application: WebApplication
) -> None:
    assert (await browser.get("/auth/shopify/nobody", params={"shop": "acme.myshopify.com"})).status_code == 404
    application.api.state.settings = application.api.state.settings.model_copy(update={"public_url": ""})
    refused = await browser.get(BEGIN, params={"shop": "acme.myshopify.com"})
    assert (refused.status_code, refused.json()["code"]) == (503, "configuration.no_public_url")


@pytest.mark.conformance
async def test_no_cookie_and_nothing_else_that_a_browser_sees_can_be_replayed_as_a_webhook(
    browser: httpx.AsyncClient,
) -> None:
    """A cookie signed with the app's secret would be the signature of a webhook with the cookie's value as its body."""
    begun = await browser.get(BEGIN, params={"shop": "acme.myshopify.com"})
    seen = [*browser.cookies.values(), *(v[0] for v in parse_qs(urlsplit(begun.headers["location"]).query).values())]
    seen += [part for text in list(seen) for part in text.split(".")]
    for signature in seen:
        assert not any(is_signed(body.encode(), signature, [SECRET]) for body in seen)
        replayed = await browser.post(
            "/webhooks/shopify/acme",
            content=seen[0],
            headers={
                "x-shopify-hmac-sha256": signature,
                "x-shopify-topic": "orders/paid",
                "x-shopify-shop-domain": "acme.myshopify.com",
                "x-shopify-webhook-id": "replayed",
            },
        )
        assert replayed.status_code == 401
