"""The page that plays the admin: it installs an app, and embeds it with the query that Shopify gives."""

from __future__ import annotations

import html
import re
from urllib.parse import parse_qsl, urlsplit

import pytest
from shopify_app import ShopifyApp

from tests.simulator.conftest import DOMAIN, Clock
from tests.simulator.merchant import CLIENT_ID, SCOPES, Merchant

PAGE = f"/shops/{DOMAIN}/admin/apps/{CLIENT_ID}"


async def page(merchant: Merchant, path: str = "") -> str:
    answer = await merchant.api.get(PAGE + path)
    assert answer.status_code == 200
    return answer.text


def frame_of(text: str) -> str:
    found = re.search(r'<iframe[^>]* src="([^"]*)"', text)
    assert found, text
    return html.unescape(found[1])


@pytest.mark.conformance
async def test_the_frame_has_the_signed_query_and_a_session_token(
    merchant: Merchant, library: ShopifyApp, clock: Clock
) -> None:
    url = frame_of(await page(merchant))
    query = dict(parse_qsl(urlsplit(url).query))

    assert url.startswith("http://app.test/?")
    assert query.keys() == {"embedded", "hmac", "host", "id_token", "locale", "session", "shop", "timestamp"}
    assert (query["embedded"], query["shop"]) == ("1", DOMAIN)
    verified = library.verify_app_home_req({"method": "GET", "headers": {}, "url": url, "body": ""}, "/patch")
    assert verified.ok
    assert verified.id_token is not None
    assert verified.id_token.claims["sid"] == query["session"]
    assert verified.id_token.claims["exp"] - verified.id_token.claims["iat"] == 60


async def test_a_deeper_page_of_the_app_is_embedded_at_its_own_path(merchant: Merchant) -> None:
    await merchant.register_app(app_url="http://app.test/shopify")

    assert frame_of(await page(merchant)).startswith("http://app.test/shopify?")
    assert frame_of(await page(merchant, "/customers/7")).startswith("http://app.test/shopify/customers/7?")


@pytest.mark.parametrize("path", ["/https://evil.test/", "///evil.test/x", "/%2F%2Fevil.test"])
async def test_no_path_leads_the_frame_away_from_the_app(merchant: Merchant, path: str) -> None:
    assert urlsplit(frame_of(await page(merchant, path))).netloc == "app.test"


async def test_a_missing_app_is_offered_for_installation(merchant: Merchant) -> None:
    await merchant.uninstall()
    text = await page(merchant)

    assert "<iframe" not in text
    assert 'id="install"' in text
    assert all(scope in text for scope in SCOPES)


async def test_an_app_that_asks_for_more_is_offered_for_an_update(merchant: Merchant) -> None:
    await merchant.register_app(scopes=[*SCOPES, "read_customers"])
    text = await page(merchant)

    assert "Update App" in text
    assert "read_customers" in text
    assert SCOPES[0] not in text
    await merchant.install()
    assert "<iframe" in await page(merchant)


async def test_what_an_app_calls_itself_is_no_markup(merchant: Merchant) -> None:
    await merchant.register_app(title="<script>alert(1)</script>")

    assert "<script>alert" not in await page(merchant)


async def test_nothing_comes_from_elsewhere(merchant: Merchant) -> None:
    text = await page(merchant)
    for path in re.findall(r'(?:src|href)="(/admin-page/[^"]*)"', text):
        loaded = await merchant.api.get(path)
        assert loaded.status_code == 200
        assert "http://" not in loaded.text.replace("http://127.0.0.1", "")
        assert "https://" not in loaded.text
    bridge = await merchant.api.get("/app-bridge.js")

    assert bridge.headers["content-type"].startswith("text/javascript")
    assert "https://" not in bridge.text
