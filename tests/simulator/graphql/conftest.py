"""A client of the simulated Admin API, in a shop with a token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from sellflow.settings import Settings
from sellflow.simulator.app import create_app
from sellflow.simulator.graphql.execution import Engine
from sellflow.simulator.graphql.schema import AdminSchema, load_schema
from sellflow.simulator.models import API_VERSION
from sellflow.simulator.service import Simulator
from tests.simulator.conftest import DOMAIN, Clock, RegisterShop

Json = dict[str, Any]
PATH = f"/shops/{DOMAIN}/admin/api/{API_VERSION}/graphql.json"


@pytest.fixture(scope="session")
def admin_schema() -> AdminSchema:
    return load_schema(Settings().shopify_schema_dir, API_VERSION)


@pytest.fixture(scope="session")
def engine(admin_schema: AdminSchema) -> Engine:
    return Engine(admin_schema)


@pytest.fixture
def app(clock: Clock, engine: Engine) -> Starlette:
    """Give a simulator that has read the schema already: each test would wait half a second for it."""
    made = create_app(total_seconds=5, now=clock)
    made.state.simulator.admin.use(engine)
    return made


class Admin:
    """Calls the Admin API of the demo shop, and the routes that control it."""

    def __init__(self, api: httpx.AsyncClient, simulator: Simulator, token: str) -> None:
        self.api = api
        self.simulator = simulator
        self.token = token

    async def call(self, query: str, variables: Json | None = None, **extra: object) -> httpx.Response:
        body = {"query": query, "variables": variables or {}, **extra}
        return await self.api.post(PATH, json=body, headers={"X-Shopify-Access-Token": self.token})

    async def answer(self, query: str, /, **variables: Any) -> Json:  # noqa: ANN401 - any JSON
        """Return an answer, errors and all."""
        answer = await self.call(query, variables)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    async def data(self, query: str, /, **variables: Any) -> Json:  # noqa: ANN401 - any JSON
        """Return the data of an answer without errors."""
        found = await self.answer(query, **variables)
        assert "errors" not in found, found["errors"]
        data: Json = found["data"]
        return data

    async def error(self, query: str, /, **variables: Any) -> Json:  # noqa: ANN401 - any JSON
        """Return the only error of an answer."""
        (error,) = (await self.answer(query, **variables))["errors"]
        found: Json = error
        return found

    async def control(self, method: str, path: str, status: int = 200, /, **body: object) -> Json:
        answer = await self.api.request(method, f"/shops/{DOMAIN}/{path}", json=body)
        assert answer.status_code == status, answer.text
        found: Json = answer.json()
        return found

    async def place(self, **body: object) -> Json:
        return await self.control("POST", "orders", 201, **body)

    async def counts(self) -> Json:
        found: Json = (await self.control("GET", "admin-api"))["counts"]
        return found


@pytest.fixture
async def admin(api: httpx.AsyncClient, app: Starlette, register: RegisterShop) -> AsyncIterator[Admin]:
    await register(customers=4)
    minted = await api.post(f"/shops/{DOMAIN}/access-token", json={"scopes": ["read_orders", "write_inventory"]})
    yield Admin(api, app.state.simulator, minted.json()["access_token"])
    await app.state.simulator.admin.settle()


ADJUST = """mutation Adjust($input: InventoryAdjustQuantitiesInput!, $key: String!) {
  inventoryAdjustQuantities(input: $input) @idempotent(key: $key) {
    inventoryAdjustmentGroup { id changes { name delta quantityAfterChange } } userErrors { field code message } } }"""


class Stock:
    """The first item of the shop, at its first location."""

    def __init__(self, admin: Admin, item: str, location: str) -> None:
        self.admin = admin
        self.item = item
        self.location = location

    def change(self, delta: int, expected: int | None = None) -> Json:
        change = {"inventoryItemId": self.item, "locationId": self.location, "delta": delta}
        return {"name": "available", "reason": "correction", "changes": [change | {"changeFromQuantity": expected}]}

    async def adjust(self, key: str, delta: int, expected: int | None = None) -> Json:
        data = await self.admin.data(ADJUST, input=self.change(delta, expected), key=key)
        found: Json = data["inventoryAdjustQuantities"]
        return found

    async def available(self) -> int:
        data = await self.admin.data(
            """query ($id: ID!, $at: ID!) { inventoryItem(id: $id) { inventoryLevel(locationId: $at) {
                 quantities(names: ["available"]) { quantity } } } }""",
            id=self.item,
            at=self.location,
        )
        found: int = data["inventoryItem"]["inventoryLevel"]["quantities"][0]["quantity"]
        return found


@pytest.fixture
async def stock(admin: Admin) -> Stock:
    data = await admin.data("{ inventoryItems(first: 1) { nodes { id } } locations(first: 1) { nodes { id } } }")
    return Stock(admin, data["inventoryItems"]["nodes"][0]["id"], data["locations"]["nodes"][0]["id"])


def codes(payload: Json) -> list[str]:
    return [error["code"] for error in payload["userErrors"]]
