"""Merchants on a socket: who gets in, and what Shopify's admin is told when they do not."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sellflow.app import WebApplication
from sellflow.postgres.database import Database, SessionConnection
from sellflow.shopify.session_tokens import SessionToken
from sellflow.shopify.tokens.errors import GrantRefusedError
from sellflow.shops.models import App
from sellflow.shops.store import install_shop, mark_uninstalled
from tests.conftest import Tenant
from tests.edge.callers import USER, merchant, service, session_token
from tests.edge.serving import serving, with_settings

SESSION = "/admin/api/session"
RETRY = "x-shopify-retry-invalid-session-request"


@pytest.fixture
async def client(database: Database, tenant: Tenant) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(database) as found:
        yield found


async def test_a_merchant_is_known_by_the_session_token(client: httpx.AsyncClient, tenant: Tenant) -> None:
    answer = await client.get(SESSION, headers=merchant(tenant))
    assert answer.json() == {"shop": "acme.myshopify.com", "app": "acme", "user_id": USER}


async def test_a_stale_token_is_asked_for_anew_and_a_forged_one_is_not(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    stale = await client.get(SESSION, headers=merchant(tenant, exp=int(time.time()) - 60))
    assert (stale.status_code, stale.json()["code"], stale.headers[RETRY]) == (401, "shopify.stale_session_token", "1")
    for headers, code in (
        ({}, "auth.missing_token"),
        ({"authorization": "Basic YTpi"}, "auth.missing_token"),
        (merchant(tenant, secret="forged"), "shopify.invalid_session_token"),
        (await service(owner, "deadletters:read"), "shopify.invalid_session_token"),
    ):
        answer = await client.get(SESSION, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, code)
        assert RETRY not in answer.headers
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_shop_that_removed_the_app_is_told_to_install_it(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    await mark_uninstalled(owner, [tenant.shop_id])
    answer = await client.get(SESSION, headers=merchant(tenant))
    assert (answer.status_code, answer.json()["code"]) == (403, "shopify.not_installed")


async def test_a_shop_of_another_app_is_not_this_one_s(
    client: httpx.AsyncClient, owner: SessionConnection, tenant: Tenant
) -> None:
    elsewhere = replace(tenant, shop=replace(tenant.shop, domain="elsewhere.myshopify.com"))
    assert (await client.get(SESSION, headers=merchant(elsewhere))).status_code == 403


async def test_a_new_shop_is_installed_by_its_first_token(
    database: Database, owner: SessionConnection, tenant: Tenant
) -> None:
    seen: list[str] = []

    async def install(app: App, said: SessionToken) -> int:
        seen.append(said.token)
        return (await install_shop(owner, app_id=app.app_id, domain=said.shop_domain, currency="EUR")).shop_id

    def change(app: WebApplication) -> None:
        app.api.state.install_shop = install

    new = replace(tenant, shop=replace(tenant.shop, domain="new.myshopify.com"))
    async with serving(database, change) as client:
        first, second = merchant(new), merchant(new, sub="43")
        assert (await client.get(SESSION, headers=first)).json()["shop"] == "new.myshopify.com"
        assert (await client.get(SESSION, headers=second)).json()["user_id"] == 43
    shown = [each["authorization"].removeprefix("Bearer ") for each in (first, second)]
    assert seen == shown, "each is looked at: scopes change, and tokens are refused"


async def test_a_shop_that_shopify_gives_no_token_for_gets_in_if_it_was_in_and_is_not_tried_again_at_once(
    database: Database, tenant: Tenant
) -> None:
    tried: list[str] = []

    async def install(_app: App, said: SessionToken) -> int:
        tried.append(said.shop_domain)
        raise GrantRefusedError("Shopify refuses the session token", error="invalid_subject_token")

    def change(app: WebApplication) -> None:
        app.api.state.install_shop = install

    new = replace(tenant, shop=replace(tenant.shop, domain="new.myshopify.com"))
    async with serving(database, change) as client:
        for _ in range(3):
            assert (await client.get(SESSION, headers=merchant(tenant))).status_code == 200
            refused = await client.get(SESSION, headers=merchant(new))
            assert (refused.status_code, refused.json()["code"]) == (403, "shopify.not_installed")
    assert sorted(tried) == ["acme.myshopify.com", "new.myshopify.com"]


@pytest.mark.conformance
async def test_a_document_is_framed_by_its_shop_and_shopify_alone(database: Database, tenant: Tenant) -> None:
    async with serving(with_settings(database, environment="production")) as client:
        answer = await client.get("/admin/acme", params={"id_token": session_token(tenant), "embedded": "1"})
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert policy.endswith("frame-ancestors https://acme.myshopify.com https://admin.shopify.com")
    assert 'data-api-key="client-acme"' in answer.text


@pytest.mark.conformance
@pytest.mark.parametrize("token", ["", "rubbish", "stale", "foreign"])
async def test_a_document_without_a_valid_token_goes_by_way_of_app_bridge(
    client: httpx.AsyncClient, tenant: Tenant, token: str
) -> None:
    shown = {
        "stale": session_token(tenant, exp=int(time.time()) - 60),
        "foreign": session_token(tenant, secret="another's"),
    }.get(token, token)
    query = {"shop": tenant.shop.domain, "host": "aG9zdA", "embedded": "1", "id_token": shown}
    answer = await client.get("/admin/acme", params=query)
    assert answer.status_code == 302
    there = urlsplit(answer.headers["location"])
    assert there.path == "/admin/bounce/acme"
    back = urlsplit(parse_qs(there.query)["shopify-reload"][0])
    assert (back.netloc, back.path) == ("", "/admin/acme")
    assert "id_token" not in parse_qs(back.query)
    assert parse_qs(back.query)["host"] == ["aG9zdA"]
    page = await client.get(answer.headers["location"])
    assert page.status_code == 200
    assert "https://cdn.shopify.com/shopifycloud/app-bridge.js" in page.text
    assert (
        "frame-ancestors https://acme.myshopify.com https://admin.shopify.com"
        in (page.headers["content-security-policy"])
    )


@pytest.mark.parametrize(
    "back",
    [
        "",
        "https://evil.example/admin/acme",
        "//evil.example/admin/acme",
        "/elsewhere",
        "/\\evil.example",
        "javascript:1",
    ],
)
async def test_the_bounce_page_leads_nowhere_else(client: httpx.AsyncClient, back: str) -> None:
    answer = await client.get("/admin/bounce/acme", params={"shopify-reload": back})
    assert answer.status_code == 400


async def test_what_stands_in_the_address_gets_into_neither_page_nor_policy(
    client: httpx.AsyncClient, tenant: Tenant
) -> None:
    hostile = "evil.example; script-src *"
    answer = await client.get("/admin/bounce/acme", params={"shopify-reload": "/admin/acme", "shop": hostile})
    assert hostile not in answer.headers["content-security-policy"]
    answer = await client.get("/admin/bounce/acme", params={"shopify-reload": "/admin/acme?<script>", "shop": "<b>"})
    assert "<b>" not in answer.text
    assert "<script>" not in answer.text.replace('<script src="', "")
    assert (await client.get("/admin/nobody")).status_code == 404
