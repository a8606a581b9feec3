"""The client against the simulated Shopify, which answers through the real schema and shares no code with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from sellflow.postgres.database import Pool, SessionConnection
from sellflow.postgres.transactions import of_worker
from sellflow.secrets import build_vault
from sellflow.settings import Settings
from sellflow.shopify.admin.bulk import BulkBusyError, BulkFailedError, BulkOperations
from sellflow.shopify.admin.bulk_results import read_objects
from sellflow.shopify.admin.client import AdminClient
from sellflow.shopify.admin.pages import read_pages
from sellflow.shopify.admin.stored_calls import CallFailedError, StoredCalls, Wish
from sellflow.shopify.documents.bulk_operations import BULK_CUSTOMERS, BULK_MODELS, BULK_ORDERS
from sellflow.shopify.documents.customers import CUSTOMERS
from sellflow.shopify.documents.installation import CURRENT_APP_INSTALLATION, SHOP
from sellflow.shopify.documents.inventory import INVENTORY_ADJUST, INVENTORY_LEVEL
from sellflow.shopify.documents.orders import ORDER_BY_ID, ORDER_BY_ID_SIZES, ORDER_REVISIONS, ORDER_REVISIONS_SIZES
from sellflow.shopify.documents.rewards import DISCOUNT_CODE_CREATE, DISCOUNT_CODE_LOOKUP
from sellflow.simulator.graphql.stock import ITEM_OFFSET
from sellflow.simulator.refund_payloads import LOCATION_ID
from tests.conftest import Tenant
from tests.shopify.admin.conftest import FixedTokens
from tests.shopify.admin_schema import SCHEMAS
from tests.shopify.simulated import SimulatedShopify, simulating

pytestmark = pytest.mark.skipif(not SCHEMAS.exists(), reason="Shopify's schemas are not here: make install")

SCOPES = ["read_orders", "read_customers", "write_inventory", "write_discounts"]
NEW_CODE = {
    "title": "Ten off",
    "code": "TEN",
    "startsAt": "2026-10-01T00:00:00Z",
    "customerGets": {"value": {"percentage": 0.1}, "items": {"all": True}},
    "context": {"all": "ALL"},
}


class Shop:
    """A shop of the simulator, and what calls it."""

    def __init__(self, simulated: SimulatedShopify, tenant: Tenant, client: AdminClient, calls: StoredCalls) -> None:
        self.simulated = simulated
        self.id = tenant.shop_id
        self.path = f"/shops/{tenant.shop.domain}"
        self.client = client
        self.calls = calls
        self.bulk = BulkOperations(client, calls)

    async def fault(self, kind: str, operation: str) -> None:
        await self.simulated.do(
            "POST", f"{self.path}/admin-api/faults", {"kind": kind, "operation": operation, "next": 1}
        )


@pytest.fixture
async def shop(worker_pool: Pool, quick: Settings, tenant: Tenant) -> AsyncIterator[Shop]:
    async with simulating() as simulated:
        path = f"/shops/{tenant.shop.domain}"
        await simulated.do("PUT", path, {"webhook_url": "http://127.0.0.1:9/", "client_secret": "x", "customers": 7})
        for _ in range(5):
            await simulated.do("POST", f"{path}/orders")
        token = (await simulated.do("POST", f"{path}/access-token", {"scopes": SCOPES}))["access_token"]
        tokens = FixedTokens(f"{simulated.url}{path}", token)
        settings = quick.model_copy(update={"shopify_timeout": 20.0, "shopify_foreground_patience": 20.0})
        client = AdminClient(transactions=of_worker(worker_pool), tokens=tokens, settings=settings)
        yield Shop(simulated, tenant, client, StoredCalls(client, build_vault(settings)))
        await client.close()


async def test_queries_are_answered_into_their_models(shop: Shop, owner: SessionConnection) -> None:
    assert (await shop.client.fetch(shop.id, SHOP)).shop.currency_code == "USD"
    installation = await shop.client.fetch(shop.id, CURRENT_APP_INSTALLATION)
    granted = {each.handle for each in installation.current_app_installation.access_scopes}
    assert set(SCOPES) <= granted
    found = await shop.client.fetch(shop.id, ORDER_REVISIONS, {**ORDER_REVISIONS_SIZES, "sortKey": "ID"})
    assert len(found.orders.nodes) == 5
    whole = await shop.client.fetch(shop.id, ORDER_BY_ID, {**ORDER_BY_ID_SIZES, "id": found.orders.nodes[0].id})
    assert whole.order is not None
    assert whole.order.line_items.nodes
    shown = await shop.simulated.do("GET", f"{shop.path}/admin-api")
    [bucket] = shown["buckets"].values()
    level = await owner.fetchval("SELECT (restored_bucket(b, clock_timestamp())).level FROM admin_buckets b")
    assert level == pytest.approx(bucket["level"], abs=60)


async def test_pages_are_walked_through_and_gone_on_with(shop: Shop) -> None:
    told: list[int] = []

    async def progress(total: int) -> None:
        told.append(total)

    variables = {"first": 3, "sortKey": "ID"}
    leaves = [
        leaf
        async for leaf in read_pages(
            shop.client, shop.id, CUSTOMERS, variables, lambda found: found.customers, progress=progress
        )
    ]
    assert told == [leaf.total for leaf in leaves]
    numbers = [node.number for leaf in leaves for node in leaf.nodes]
    assert len(set(numbers)) == len(numbers) == leaves[-1].total
    rest = [
        node.number
        async for leaf in read_pages(
            shop.client, shop.id, CUSTOMERS, variables, lambda found: found.customers, after=leaves[0].cursor
        )
        for node in leaf.nodes
    ]
    assert rest == numbers[3:]


async def test_pages_that_would_cost_too_much_are_made_smaller(shop: Shop) -> None:
    variables = {"refunds": 250, "first": 16, "sortKey": "ID"}
    leaves = read_pages(shop.client, shop.id, ORDER_REVISIONS, variables, lambda found: found.orders)
    found = [leaf async for leaf in leaves]
    assert found[-1].total == 5
    assert len(found) > 1


@pytest.mark.conformance
@pytest.mark.parametrize("fault", ["drop_after", "error_after", "drop_before", "error_before"])
async def test_a_change_of_stock_is_made_once_whatever_befalls_its_answer(shop: Shop, fault: str) -> None:
    change = await _some_change(shop)
    before = await _available(shop, change)
    await shop.fault(fault, "inventory_adjust")
    wish = Wish(INVENTORY_ADJUST, {"input": change}, "adjustment:1")
    answer = await shop.calls.call(shop.id, wish)
    assert answer.inventory_adjust_quantities is not None
    assert await _available(shop, change) == before + 3


@pytest.mark.conformance
async def test_a_refused_change_says_why(shop: Shop) -> None:
    change = await _some_change(shop)
    change["changes"][0]["locationId"] = "gid://shopify/Location/999999"
    with pytest.raises(CallFailedError) as raised:
        await shop.calls.call(shop.id, Wish(INVENTORY_ADJUST, {"input": change}, "adjustment:2"))
    assert raised.value.codes == {"INVALID_LOCATION"}


async def test_a_code_whose_making_is_in_doubt_is_found(shop: Shop) -> None:
    await shop.calls.call(shop.id, Wish(DISCOUNT_CODE_CREATE, {"discount": NEW_CODE}, "code:1"))
    found = await shop.client.fetch(shop.id, DISCOUNT_CODE_LOOKUP, {"code": "ten"})
    assert found.code_discount_node_by_code is not None
    assert found.code_discount_node_by_code.code_discount.title == "Ten off"
    with pytest.raises(CallFailedError) as raised:
        await shop.calls.call(shop.id, Wish(DISCOUNT_CODE_CREATE, {"discount": NEW_CODE}, "code:2"))
    assert raised.value.codes == {"TAKEN"}


@pytest.mark.conformance
async def test_a_bulk_operation_gives_orders_with_their_lines(shop: Shop) -> None:
    begun = await shop.bulk.start(shop.id, BULK_ORDERS.written_out({"query": None}), purpose="import:1")
    again = await shop.bulk.start(shop.id, BULK_ORDERS.written_out({"query": None}), purpose="import:1")
    assert begun.id == again.id
    done = await shop.bulk.wait(shop.id, begun.id)
    assert done.url is not None
    found = [each async for each in read_objects(shop.client.transport, done.url)]
    assert len(found) == 5
    for each in found:
        assert each.kind == "Order"
        BULK_MODELS["Order"].model_validate(each.fields)
        assert each.children
        for child in each.children:
            BULK_MODELS[child.kind].model_validate(child.fields)


async def test_a_bulk_operation_whose_beginning_is_in_doubt_is_found_and_not_begun_twice(shop: Shop) -> None:
    await shop.fault("drop_after", "bulk_query_run")
    begun = await shop.bulk.start(shop.id, BULK_CUSTOMERS.written_out({"query": None}), purpose="import:1")
    again = await shop.bulk.start(shop.id, BULK_CUSTOMERS.written_out({"query": None}), purpose="import:1")
    assert begun.id == again.id
    await shop.fault("drop_before", "bulk_query_run")
    other = await shop.bulk.start(shop.id, BULK_CUSTOMERS.written_out({"query": None}), purpose="import:2")
    assert other.id != begun.id


async def test_a_shop_with_too_many_bulk_operations_is_busy_and_takes_it_later(shop: Shop) -> None:
    await shop.simulated.do("PUT", f"{shop.path}/admin-api/bulk", {"hold": True})
    query = BULK_CUSTOMERS.written_out({"query": None})
    begun = [await shop.bulk.start(shop.id, query, purpose=f"import:{number}") for number in range(5)]
    with pytest.raises(BulkBusyError):
        await shop.bulk.start(shop.id, query, purpose="import:5")
    await shop.bulk.cancel(shop.id, begun[0].id)
    await shop.simulated.do("PUT", f"{shop.path}/admin-api/bulk", {"hold": False})
    await shop.bulk.wait(shop.id, begun[1].id)
    await shop.bulk.start(shop.id, query, purpose="import:5")
    with pytest.raises(BulkFailedError):
        await shop.bulk.look(shop.id, "gid://shopify/BulkOperation/999999")


async def test_order_revisions_are_cheap(shop: Shop) -> None:
    found = await shop.client.fetch(shop.id, ORDER_REVISIONS, {"first": 5, "refunds": 10, "sortKey": "UPDATED_AT"})
    assert len(found.orders.nodes) == 5


async def _some_change(shop: Shop) -> dict[str, Any]:
    """Return an adjustment by 3 of some item at the first location."""
    [known] = (await shop.simulated.do("GET", "/shops"))["shops"]
    variant = known["products"][0]["variants"][0]["id"]
    change = {
        "delta": 3,
        "inventoryItemId": f"gid://shopify/InventoryItem/{variant + ITEM_OFFSET}",
        "locationId": f"gid://shopify/Location/{LOCATION_ID}",
        "changeFromQuantity": None,
    }
    return {"name": "available", "reason": "correction", "changes": [change]}


async def _available(shop: Shop, change: dict[str, Any]) -> int:
    [one] = change["changes"]
    where = {"item": one["inventoryItemId"], "location": one["locationId"], "names": ["available"]}
    found = await shop.client.fetch(shop.id, INVENTORY_LEVEL, where)
    assert found.inventory_item is not None
    assert found.inventory_item.inventory_level is not None
    return found.inventory_item.inventory_level.quantities[0].quantity
