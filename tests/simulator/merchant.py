"""The merchant of the demo shop, and the app that is installed there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from .conftest import DOMAIN

CLIENT_ID = "an-app"
SECRET = "the-secret-of-an-app-in-development"
SCOPES = ["read_orders", "write_products"]
TOKEN_PATH = f"/shops/{DOMAIN}/admin/oauth/access_token"
CREDENTIALS = {"client_id": CLIENT_ID, "client_secret": SECRET}
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
OFFLINE = "urn:shopify:params:oauth:token-type:offline-access-token"
ONLINE = "urn:shopify:params:oauth:token-type:online-access-token"

Json = dict[str, Any]


class Merchant:
    """Calls the simulator as the merchant, the app and Shopify's admin would."""

    def __init__(self, api: httpx.AsyncClient) -> None:
        self.api = api

    async def do(self, method: str, path: str, body: Mapping[str, object] | None = None, status: int = 200) -> Json:
        answer = await self.api.request(method, path, json=dict(body or {}))
        assert answer.status_code == status, answer.text
        found: Json = answer.json()
        return found

    async def register_app(self, **fields: object) -> Json:
        wanted: Json = {"client_secret": SECRET, "scopes": SCOPES, "app_url": "http://app.test/"}
        return await self.do("PUT", f"/apps/{CLIENT_ID}", wanted | fields)

    async def install(self, **fields: object) -> Json:
        return await self.do("POST", f"/shops/{DOMAIN}/install", {"client_id": CLIENT_ID, **fields})

    async def uninstall(self) -> None:
        await self.do("POST", f"/shops/{DOMAIN}/uninstall")

    async def session_token(self, **fields: object) -> str:
        made = await self.do("POST", f"/shops/{DOMAIN}/session-token", {"client_id": CLIENT_ID, **fields})
        token: str = made["session_token"]
        return token

    async def token(self, status: int = 200, **fields: object) -> Json:
        return await self.do("POST", TOKEN_PATH, CREDENTIALS | fields, status)

    async def exchange(self, session_token: str | None = None, status: int = 200, **fields: object) -> Json:
        asked = {
            "grant_type": EXCHANGE,
            "subject_token": session_token or await self.session_token(),
            "subject_token_type": ID_TOKEN,
            "requested_token_type": OFFLINE,
            "expiring": 1,
        }
        return await self.token(status, **(asked | fields))

    async def refresh(self, token: str, status: int = 200) -> Json:
        return await self.token(status, grant_type="refresh_token", refresh_token=token)

    async def migrate(self, token: str, status: int = 200) -> Json:
        return await self.exchange(token, status, subject_token_type=OFFLINE)

    async def is_accepted(self, token: str, domain: str = DOMAIN) -> bool:
        answer = await self.api.get(
            f"/shops/{domain}/admin/oauth/access_scopes.json", headers={"X-Shopify-Access-Token": token}
        )
        assert answer.status_code in (200, 401)
        return answer.status_code == 200


async def installed(merchant: Merchant) -> Merchant:
    """Register the app and install it."""
    await merchant.register_app()
    await merchant.install()
    return merchant
