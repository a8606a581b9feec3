"""App proxies: what a shopper asks of a storefront reaches the app, signed and without the shopper's cookies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from shopify_app import RequestInput, ShopifyApp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.simulator.conftest import DOMAIN, serving
from tests.simulator.merchant import Merchant

METHODS = ["GET", "POST"]


class AppServer:
    """The app behind the proxy: notes what it is asked."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Request] = []
        self.bodies: list[bytes] = []

    async def answer(self, request: Request) -> Response:
        self.asked.append(request)
        self.bodies.append(await request.body())
        return Response("hello", 201, headers={"Set-Cookie": "a=b", "X-App": "yes"}, media_type="application/liquid")

    def verdict(self, library: ShopifyApp) -> tuple[bool, str | None]:
        request = self.asked[-1]
        asked: RequestInput = {
            "method": request.method,
            "headers": dict(request.headers),
            "url": str(request.url),
            "body": self.bodies[-1].decode(),
        }
        verified = library.verify_app_proxy_req(asked)
        return verified.ok, verified.logged_in_customer_id


@asynccontextmanager
async def listening() -> AsyncIterator[AppServer]:
    server = AppServer()
    app = Starlette(routes=[Route("/{path:path}", server.answer, methods=METHODS)])
    async with serving(app) as url:
        server.url = url
        yield server


@pytest.fixture
async def shop_app(merchant: Merchant) -> AsyncIterator[AppServer]:
    async with listening() as server:
        await merchant.register_app(proxy={"url": f"{server.url}/proxy", "subpath": "points"})
        yield server


pytestmark = pytest.mark.conformance


async def ask(merchant: Merchant, path: str, **options: str) -> httpx.Response:
    return await merchant.api.get(f"/shops/{DOMAIN}/apps/{path}", headers=options)


async def test_a_request_reaches_the_app_signed(merchant: Merchant, shop_app: AppServer, library: ShopifyApp) -> None:
    answer = await ask(merchant, "points/balance/of%20mine?extra=1&extra=2&shop=evil&logged_in_customer_id=9")
    (asked,) = shop_app.asked

    assert (answer.status_code, answer.text, answer.headers["x-app"]) == (201, "hello", "yes")
    assert asked.url.path == "/proxy/balance/of mine"
    assert asked.query_params.getlist("extra") == ["1", "2"]
    assert asked.query_params.getlist("shop") == [DOMAIN]
    assert asked.query_params["path_prefix"] == "/apps/points"
    assert shop_app.verdict(library) == (True, "")


async def test_the_customer_of_the_storefront_is_named(
    merchant: Merchant, shop_app: AppServer, library: ShopifyApp
) -> None:
    known = (await merchant.do("GET", f"/shops/{DOMAIN}/customers"))["customers"][0]["id"]
    await ask(merchant, "points", cookie=f"simulated_customer={known}; other=secret")

    assert shop_app.verdict(library) == (True, str(known))
    assert "cookie" not in shop_app.asked[0].headers
    await ask(merchant, "points", cookie="simulated_customer=42")
    assert shop_app.verdict(library) == (True, "")


async def test_the_apps_cookies_do_not_reach_the_shopper(merchant: Merchant, shop_app: AppServer) -> None:
    assert "set-cookie" not in (await ask(merchant, "points")).headers


async def test_a_body_is_forwarded_as_it_came(merchant: Merchant, shop_app: AppServer, library: ShopifyApp) -> None:
    await merchant.api.post(f"/shops/{DOMAIN}/apps/points/redeem", content=b'{"points": 5}')

    assert shop_app.bodies == [b'{"points": 5}']
    assert shop_app.verdict(library) == (True, "")


async def test_a_storefront_is_reached_by_its_own_name(
    shopify_hosts: httpx.AsyncClient, shop_app: AppServer, library: ShopifyApp
) -> None:
    await shopify_hosts.get(f"https://{DOMAIN}/apps/points/balance")

    assert shop_app.verdict(library) == (True, "")


async def test_a_path_of_no_app_is_not_found(merchant: Merchant, shop_app: AppServer) -> None:
    assert (await ask(merchant, "coupons")).status_code == 404
    await merchant.uninstall()
    assert (await ask(merchant, "points")).status_code == 404
    assert shop_app.asked == []


async def test_an_app_that_does_not_answer_is_a_bad_gateway(merchant: Merchant) -> None:
    await merchant.register_app(proxy={"url": "http://127.0.0.1:1", "subpath": "points"})

    assert (await ask(merchant, "points")).status_code == 502
