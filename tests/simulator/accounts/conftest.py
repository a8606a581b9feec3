"""A mobile app of the demo shop, and a customer who signs in with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from starlette.applications import Starlette

from sellflow.simulator.accounts.sessions import challenge_of
from tests.simulator.conftest import DOMAIN, RegisterShop

CLIENT_ID = "a-mobile-app"
VERIFIER = "a-verifier-of-at-least-forty-three-characters"
SCOPE = "openid email customer-account-api:full"

Json = dict[str, Any]


class Phone:
    """Calls the simulator as a mobile app would: everything but the shop's name is discovered."""

    def __init__(self, api: httpx.AsyncClient, home: str) -> None:
        self.api = api
        self.home = home
        self.places: Json = {}
        self.redirect = ""

    async def discover(self) -> None:
        self.places = (await self.api.get(f"{self.home}/.well-known/openid-configuration")).json()
        self.places |= (await self.api.get(f"{self.home}/.well-known/customer-account-api")).json()

    async def customers(self) -> list[Json]:
        found: list[Json] = (await self.api.get(f"/shops/{DOMAIN}/customers")).json()["customers"]
        return found

    async def ask(self, **changes: str | None) -> httpx.Response:
        asked = {
            "client_id": CLIENT_ID,
            "response_type": "code",
            "redirect_uri": self.redirect,
            "scope": SCOPE,
            "state": "a state",
            "nonce": "a nonce",
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
            **changes,
        }
        params = {name: value for name, value in asked.items() if value is not None}
        return await self.api.get(self.places["authorization_endpoint"], params=params)

    async def code(self, **changes: str | None) -> str:
        if "login_hint" not in changes:
            changes["login_hint"] = str((await self.customers())[0]["id"])
        return told(await self.ask(**changes))["code"]

    async def token(self, status: int = 200, **fields: str) -> Json:
        answer = await self.api.post(self.places["token_endpoint"], data={"client_id": CLIENT_ID, **fields})
        assert answer.status_code == status, answer.text
        found: Json = answer.json()
        return found

    async def collect(self, code: str, status: int = 200, **changes: str) -> Json:
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect,
            "code_verifier": VERIFIER,
        }
        return await self.token(status, **(fields | changes))

    async def sign_in(self, **changes: str | None) -> Json:
        return await self.collect(await self.code(**changes))

    async def refresh(self, token: str, status: int = 200) -> Json:
        return await self.token(status, grant_type="refresh_token", refresh_token=token)

    async def query(self, token: str, query: str, status: int = 200, **variables: object) -> Json:
        answer = await self.api.post(
            self.places["graphql_api"],
            json={"query": query, "variables": variables},
            headers={"Authorization": token},
        )
        assert answer.status_code == status, answer.text
        found: Json = answer.json()
        return found


def told(answer: httpx.Response) -> dict[str, str]:
    """Return what a redirect says."""
    assert answer.status_code == 302, answer.text
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


@pytest.fixture
async def phone(api: httpx.AsyncClient, register: RegisterShop) -> Phone:
    """Register the mobile app."""
    await register(customers=3)
    found = Phone(api, f"/shops/{DOMAIN}")
    client = await api.put(
        f"/shops/{DOMAIN}/customer-clients/{CLIENT_ID}", json={"logout_uris": ["https://shop.test/bye"]}
    )
    found.redirect = client.json()["redirect_uris"][0]
    await found.discover()
    return found


@pytest.fixture
async def named(app: Starlette, phone: Phone) -> AsyncIterator[Phone]:
    """Reach the shop by its own name."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=f"https://{DOMAIN}") as client:
        found = Phone(client, "")
        found.redirect = phone.redirect
        await found.discover()
        yield found


@pytest.fixture
def needs_schema() -> None:
    if not Path(".cache/shopify-schemas/customer_2026-10.json.gz").is_file():
        pytest.skip("Shopify's schemas are not fetched: make install")
