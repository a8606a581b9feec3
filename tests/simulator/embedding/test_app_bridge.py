"""The stand-in for App Bridge, in a real browser: the page in the frame speaks with the admin around it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from shopify_app import ShopifyApp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tests.simulator.conftest import DOMAIN, serving
from tests.simulator.merchant import CLIENT_ID, SECRET, Merchant

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


def page(bridge: str) -> str:
    return f"""<!doctype html><meta name="shopify-api-key" content="{CLIENT_ID}"><script src="{bridge}"></script>
        <script>
          fetch("/api", {{ method: "POST", body: "points" }}).then((answer) => answer.text())
            .then((text) => fetch("/done", {{ method: "POST", body: text + " in " + shopify.config.shop }}));
        </script>"""


class EmbeddedApp:
    """An app of one page, which finds the first session token stale."""

    def __init__(self, bridge: str) -> None:
        self.bridge = bridge
        self.asked: list[tuple[str, bytes]] = []
        self.told = ""
        self.done = asyncio.Event()

    async def show(self, _request: Request) -> Response:
        return HTMLResponse(page(self.bridge))

    async def answer(self, request: Request) -> Response:
        self.asked.append((request.headers.get("Authorization", ""), await request.body()))
        if len(self.asked) == 1:
            return Response(status_code=401, headers={"X-Shopify-Retry-Invalid-Session-Request": "1"})
        return Response("42 points")

    async def finish(self, request: Request) -> Response:
        self.told = (await request.body()).decode()
        self.done.set()
        return Response()

    def served(self) -> Starlette:
        posts = [Route("/api", self.answer, methods=["POST"]), Route("/done", self.finish, methods=["POST"])]
        return Starlette(routes=[Route("/", self.show), *posts])


@asynccontextmanager
async def browsing(url: str, profile: Path) -> AsyncIterator[None]:
    """Show a page in a browser for as long as the block runs."""
    assert CHROMIUM
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--remote-debugging-port=0")
    browser = await asyncio.create_subprocess_exec(
        CHROMIUM, *options, url, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        browser.terminate()
        await browser.wait()


async def test_the_page_in_the_frame_sends_a_token_and_a_fresh_one_where_it_was_stale(
    base_url: str, tmp_path: Path
) -> None:
    embedded = EmbeddedApp(f"{base_url}/app-bridge.js")
    async with serving(embedded.served()) as app_url, httpx.AsyncClient(base_url=base_url, trust_env=False) as client:
        merchant = Merchant(client)
        shop = {"webhook_url": "http://127.0.0.1:1/", "client_secret": "hush", "products": 1, "customers": 0}
        await merchant.do("PUT", f"/shops/{DOMAIN}", shop)
        await merchant.register_app(app_url=app_url)
        await merchant.install()
        async with asyncio.timeout(20), browsing(f"{base_url}/shops/{DOMAIN}/admin/apps/{CLIENT_ID}", tmp_path):
            await embedded.done.wait()

    assert embedded.told == f"42 points in {DOMAIN}"
    (first, body), (second, again) = embedded.asked
    assert first != second
    assert body == again == b"points"
    headers = {"Authorization": second}
    verified = ShopifyApp(CLIENT_ID, SECRET).verify_app_home_req(
        {"method": "POST", "headers": headers, "url": f"{app_url}/api", "body": "points"}, "/patch"
    )
    assert verified.ok
