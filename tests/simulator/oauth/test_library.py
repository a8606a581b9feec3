"""Shopify's own Python library works against the simulator, by the host names that it builds itself."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from shopify_app import RequestInput, ShopifyApp

from tests.simulator.conftest import DOMAIN
from tests.simulator.merchant import CLIENT_ID, SCOPES, SECRET, Merchant

pytestmark = pytest.mark.conformance

LONG_AGO = "2020-01-01T00:00:00Z"


def app_home(token: str) -> RequestInput:
    return {"method": "GET", "headers": {}, "url": f"https://app.test/?id_token={token}", "body": ""}


async def test_it_verifies_a_session_token_and_exchanges_and_refreshes_it(
    merchant: Merchant, library: ShopifyApp, shopify_hosts: httpx.AsyncClient
) -> None:
    verified = library.verify_app_home_req(app_home(await merchant.session_token(user_id=7)), "/patch")
    assert verified.ok
    assert (verified.shop, verified.user_id) == ("demo-shop", "7")

    exchanged = await library.exchange_using_token_exchange_async(
        "offline", verified.id_token, verified.invalid_token_response, http_client=shopify_hosts
    )
    assert exchanged.ok, exchanged.log
    assert exchanged.access_token is not None
    assert exchanged.access_token.scope == ",".join(SCOPES)

    refreshed = await library.refresh_token_exchanged_access_token_async(
        replace(exchanged.access_token, expires=LONG_AGO), http_client=shopify_hosts
    )
    assert refreshed.ok, refreshed.log
    assert refreshed.access_token is not None
    assert await merchant.is_accepted(refreshed.access_token.token)


async def test_it_reads_the_user_of_an_online_token(
    merchant: Merchant, library: ShopifyApp, shopify_hosts: httpx.AsyncClient
) -> None:
    verified = library.verify_app_home_req(app_home(await merchant.session_token(user_id=7)), "/patch")
    exchanged = await library.exchange_using_token_exchange_async(
        "online", verified.id_token, verified.invalid_token_response, http_client=shopify_hosts
    )

    assert exchanged.access_token is not None
    assert exchanged.access_token.user is not None
    assert exchanged.access_token.user.id == 7


async def test_it_gets_a_token_by_its_credentials(
    merchant: Merchant, library: ShopifyApp, shopify_hosts: httpx.AsyncClient
) -> None:
    given = await library.exchange_using_client_credentials_async("demo-shop", http_client=shopify_hosts)

    assert given.access_token is not None
    assert await merchant.is_accepted(given.access_token.token)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"age_seconds": 120}, "redirect_to_patch_id_token_page"),
        ({"claims": {"aud": "another"}}, "invalid_aud"),
        ({"secret": "a-secret-that-somebody-else-guessed"}, "redirect_to_patch_id_token_page"),
    ],
)
async def test_it_refuses_the_hostile_tokens(
    merchant: Merchant, library: ShopifyApp, fields: dict[str, object], code: str
) -> None:
    refused = library.verify_app_home_req(app_home(await merchant.session_token(**fields)), "/patch")

    assert (refused.ok, refused.log.code) == (False, code)


async def test_it_understands_the_refusals(
    merchant: Merchant, library: ShopifyApp, shopify_hosts: httpx.AsyncClient
) -> None:
    verified = library.verify_app_home_req(app_home(await merchant.session_token()), "/patch")
    assert verified.id_token is not None
    for app, token, code in [
        (library, replace(verified.id_token, token="eyJ.e30.x"), "invalid_subject_token"),
        (ShopifyApp(CLIENT_ID, "another-secret"), verified.id_token, "invalid_client"),
    ]:
        refused = await app.exchange_using_token_exchange_async(
            "offline", token, verified.invalid_token_response, http_client=shopify_hosts
        )
        assert (refused.ok, refused.log.code) == (False, code)


async def test_it_goes_on_while_secrets_rotate(merchant: Merchant, shopify_hosts: httpx.AsyncClient) -> None:
    rotated = "the-next-secret-of-an-app-in-development"
    await merchant.register_app(client_secret=rotated, old_client_secret=SECRET)
    app = ShopifyApp(CLIENT_ID, rotated, old_client_secret=SECRET)
    verified = app.verify_app_home_req(app_home(await merchant.session_token()), "/patch")
    exchanged = await app.exchange_using_token_exchange_async(
        "offline", verified.id_token, verified.invalid_token_response, http_client=shopify_hosts
    )

    assert exchanged.ok, exchanged.log


async def test_an_admin_is_reached_by_the_shops_name(merchant: Merchant, shopify_hosts: httpx.AsyncClient) -> None:
    for path in ("/admin", f"/admin/apps/{CLIENT_ID}"):
        assert (await shopify_hosts.get(f"https://{DOMAIN}{path}")).status_code == 200


async def test_the_routes_that_control_the_simulator_are_not_a_shops(
    merchant: Merchant, shopify_hosts: httpx.AsyncClient
) -> None:
    answer = await shopify_hosts.post(f"https://{DOMAIN}/uninstall")

    assert answer.status_code == 404
    assert (await merchant.do("GET", f"/shops/{DOMAIN}/installations"))["installations"]
