"""Stock: what the mutations change, what they refuse, and what the app is told."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from sellflow.simulator.graphql.stock import ITEM_OFFSET
from tests.simulator.receiver import Receiver

from .conftest import Admin, Json, Stock, codes

GROUP = """inventoryAdjustmentGroup { id reason referenceDocumentUri
    changes { name delta quantityAfterChange item { id } location { id } } } userErrors { field code message }"""
SET = f"""mutation Set($input: InventorySetQuantitiesInput!, $key: String!) {{
  inventorySetQuantities(input: $input) @idempotent(key: $key) {{ {GROUP} }} }}"""
ADJUST = f"""mutation Adjust($input: InventoryAdjustQuantitiesInput!, $key: String!) {{
  inventoryAdjustQuantities(input: $input) @idempotent(key: $key) {{ {GROUP} }} }}"""
MOVE = f"""mutation Move($input: InventoryMoveQuantitiesInput!, $key: String!) {{
  inventoryMoveQuantities(input: $input) @idempotent(key: $key) {{ {GROUP} }} }}"""
ACTIVATE = """mutation Activate($item: ID!, $at: ID!, $available: Int, $key: String!) {
  inventoryActivate(inventoryItemId: $item, locationId: $at, available: $available) @idempotent(key: $key) {
    inventoryLevel { id isActive quantities(names: ["available"]) { quantity } } userErrors { field message } } }"""
LEVEL = """query Level($item: ID!, $at: ID!, $all: Boolean) { inventoryItem(id: $item) {
  inventoryLevel(locationId: $at, includeInactive: $all) { isActive
    quantities(names: ["available", "damaged", "reserved", "on_hand"]) { name quantity } } } }"""
WAREHOUSE = "gid://shopify/Location/655441492"
DOCUMENT = "gid://our-app/Recount/7"


async def change(admin: Admin, mutation: str, **wanted: Any) -> Json:  # noqa: ANN401 - any JSON
    fields = {"reason": "correction", **wanted}
    data = await admin.data(mutation, input=fields, key=str(uuid.uuid4()))
    (found,) = data.values()
    payload: Json = found
    return payload


def entry(stock: Stock, **fields: object) -> Json:
    return {"inventoryItemId": stock.item, "locationId": stock.location, "changeFromQuantity": None, **fields}


async def quantities(stock: Stock, at: str | None = None, *, all_levels: bool = False) -> dict[str, int]:
    data = await stock.admin.data(LEVEL, item=stock.item, at=at or stock.location, all=all_levels)
    level = data["inventoryItem"]["inventoryLevel"]
    return {one["name"]: one["quantity"] for one in level["quantities"]} if level else {}


@pytest.mark.conformance
@pytest.mark.parametrize("name", ["available", "on_hand"])
async def test_a_quantity_is_set_and_told_of(stock: Stock, receiver: Receiver, name: str) -> None:
    payload = await change(stock.admin, SET, name=name, quantities=[entry(stock, quantity=41)])
    (request,) = await receiver.wait_for(1)
    told = json.loads(request.body)

    assert codes(payload) == []
    assert (await quantities(stock))[name] == 41
    assert request.topic == "inventory_levels/update"
    assert told["available"] == 41
    assert stock.item.endswith(f"/{told['inventory_item_id']}")
    assert stock.location.endswith(f"/{told['location_id']}")


@pytest.mark.conformance
async def test_setting_compares_with_what_was_expected(stock: Stock) -> None:
    known = await stock.available()
    stale = await change(
        stock.admin, SET, name="available", quantities=[entry(stock, quantity=3, changeFromQuantity=known + 1)]
    )
    fresh = await change(
        stock.admin, SET, name="available", quantities=[entry(stock, quantity=3, changeFromQuantity=known)]
    )

    assert [(error["code"], error["field"]) for error in stale["userErrors"]] == [
        ("CHANGE_FROM_QUANTITY_STALE", ["input", "quantities", "0", "changeFromQuantity"])
    ]
    assert stale["inventoryAdjustmentGroup"] is None
    assert codes(fresh) == []
    assert await stock.available() == 3


@pytest.mark.conformance
async def test_one_stale_entry_holds_back_all_others(admin: Admin, stock: Stock) -> None:
    known = await stock.available()
    data = await admin.data("{ inventoryItems(first: 2) { nodes { id } } }")
    other = entry(stock, quantity=9, inventoryItemId=data["inventoryItems"]["nodes"][1]["id"], changeFromQuantity=-1)
    payload = await change(admin, SET, name="available", quantities=[entry(stock, quantity=9), other])

    assert payload["userErrors"][0]["field"] == ["input", "quantities", "1", "changeFromQuantity"]
    assert await stock.available() == known


@pytest.mark.conformance
async def test_leaving_out_the_comparison_is_an_error_and_null_skips_it(stock: Stock) -> None:
    bare = {name: value for name, value in entry(stock, quantity=1).items() if name != "changeFromQuantity"}
    wanted = {"name": "available", "reason": "correction", "quantities": [bare]}
    error = await stock.admin.error(SET, input=wanted, key="one")

    assert error["message"] == "InventoryQuantityInput must include the following argument: changeFromQuantity."
    assert error["extensions"]["code"] == "INVALID_FIELD_ARGUMENTS"


SET_ERRORS: dict[str, tuple[Json, Json, list[str]]] = {
    "INVALID_NAME": ({"name": "reserved"}, {}, ["input", "name"]),
    "INVALID_REASON": ({"reason": "because"}, {}, ["input", "reason"]),
    "INVALID_REFERENCE_DOCUMENT": ({"referenceDocumentUri": "nowhere"}, {}, ["input", "referenceDocumentUri"]),
    "INVALID_INVENTORY_ITEM": (
        {},
        {"inventoryItemId": "gid://shopify/InventoryItem/1"},
        ["input", "quantities", "0", "inventoryItemId"],
    ),
    "INVALID_LOCATION": ({}, {"locationId": "gid://shopify/Location/1"}, ["input", "quantities", "0", "locationId"]),
    "INVALID_QUANTITY_NEGATIVE": ({}, {"quantity": -1}, ["input", "quantities", "0", "quantity"]),
    "INVALID_QUANTITY_TOO_HIGH": ({}, {"quantity": 1_000_000_001}, ["input", "quantities", "0", "quantity"]),
}


@pytest.mark.conformance
@pytest.mark.parametrize("code", SET_ERRORS)
async def test_what_cannot_be_set_is_refused(stock: Stock, code: str) -> None:
    fields, of_entry, place = SET_ERRORS[code]
    wanted = {"name": "available", "quantities": [entry(stock, **({"quantity": 1} | of_entry))]} | fields
    payload = await change(stock.admin, SET, **wanted)

    assert [(error["code"], error["field"]) for error in payload["userErrors"]] == [(code, place)]


@pytest.mark.conformance
async def test_a_pair_of_item_and_location_is_set_once(stock: Stock) -> None:
    twice = [entry(stock, quantity=1), entry(stock, quantity=2)]

    assert codes(await change(stock.admin, SET, name="available", quantities=twice)) == [
        "NO_DUPLICATE_INVENTORY_ITEM_ID_GROUP_ID_PAIR"
    ]


@pytest.mark.conformance
async def test_a_variants_number_is_no_inventory_items(stock: Stock) -> None:
    number = int(stock.item.rpartition("/")[2]) - ITEM_OFFSET
    mistaken = entry(stock, quantity=1, inventoryItemId=f"gid://shopify/InventoryItem/{number}")

    assert codes(await change(stock.admin, SET, name="available", quantities=[mistaken])) == ["INVALID_INVENTORY_ITEM"]


ADJUST_ERRORS: dict[str, tuple[Json, Json]] = {
    "INVALID_QUANTITY_NAME": ({"name": "on_hand"}, {"ledgerDocumentUri": DOCUMENT}),
    "INVALID_AVAILABLE_DOCUMENT": ({}, {"ledgerDocumentUri": DOCUMENT}),
    "INVALID_QUANTITY_DOCUMENT": ({"name": "damaged"}, {}),
    "INTERNAL_LEDGER_DOCUMENT": ({"name": "damaged"}, {"ledgerDocumentUri": "gid://shopify/Order/1"}),
    "INVALID_LEDGER_DOCUMENT": ({"name": "damaged"}, {"ledgerDocumentUri": "nowhere"}),
    "INVALID_QUANTITY_TOO_HIGH": ({}, {"delta": 2_000_000_001}),
    "INVALID_QUANTITY_TOO_LOW": ({}, {"delta": -2_000_001_000}),
    "CHANGE_FROM_QUANTITY_STALE": ({}, {"changeFromQuantity": -7}),
    "INVALID_REASON": ({"reason": "because"}, {}),
}


@pytest.mark.conformance
@pytest.mark.parametrize("code", ADJUST_ERRORS)
async def test_what_cannot_be_adjusted_is_refused(stock: Stock, code: str) -> None:
    fields, of_entry = ADJUST_ERRORS[code]
    wanted = {"name": "available", "changes": [entry(stock, **({"delta": 1} | of_entry))]} | fields

    assert codes(await change(stock.admin, ADJUST, **wanted)) == [code]


@pytest.mark.conformance
async def test_entries_that_meet_see_what_those_before_them_leave(stock: Stock) -> None:
    known = await stock.available()
    changes = [
        entry(stock, delta=2, changeFromQuantity=known),
        entry(stock, delta=3, changeFromQuantity=known + 2),
    ]

    assert codes(await change(stock.admin, ADJUST, name="available", changes=changes)) == []
    assert await stock.available() == known + 5


@pytest.mark.conformance
async def test_what_is_available_is_on_hand_and_so_is_what_is_damaged(stock: Stock) -> None:
    before = await quantities(stock)
    payload = await change(
        stock.admin, ADJUST, name="damaged", changes=[entry(stock, delta=2, ledgerDocumentUri=DOCUMENT)]
    )
    after = await quantities(stock)

    assert codes(payload) == []
    assert after == before | {"damaged": 2, "on_hand": before["on_hand"] + 2}


def terminal(stock: Stock, name: str, **fields: object) -> Json:
    document = {} if name == "available" else {"ledgerDocumentUri": DOCUMENT}
    return {"locationId": stock.location, "name": name, "changeFromQuantity": None, **document, **fields}


async def move(stock: Stock, quantity: int, source: Json, target: Json) -> Json:
    one = {"inventoryItemId": stock.item, "quantity": quantity, "from": source, "to": target}
    return await change(stock.admin, MOVE, referenceDocumentUri=DOCUMENT, changes=[one])


@pytest.mark.conformance
async def test_pieces_move_between_states_and_stay_on_hand(stock: Stock) -> None:
    before = await quantities(stock)
    payload = await move(stock, 2, terminal(stock, "available"), terminal(stock, "reserved"))
    after = await quantities(stock)

    assert codes(payload) == []
    assert after == before | {"available": before["available"] - 2, "reserved": 2}


@pytest.mark.conformance
@pytest.mark.parametrize(
    ("code", "target"),
    [
        ("DIFFERENT_LOCATIONS", {"locationId": WAREHOUSE}),
        ("SAME_QUANTITY_NAME", {"name": "available"}),
        ("CHANGE_FROM_QUANTITY_STALE", {"changeFromQuantity": 99}),
        ("INVALID_QUANTITY_NAME", {"name": "on_hand"}),
    ],
)
async def test_what_cannot_be_moved_is_refused(stock: Stock, code: str, target: Json) -> None:
    payload = await move(stock, 1, terminal(stock, "available"), terminal(stock, "reserved") | target)

    assert codes(payload) == [code]


@pytest.mark.conformance
async def test_an_item_is_stocked_at_another_location(stock: Stock, receiver: Receiver) -> None:
    assert await quantities(stock, WAREHOUSE) == {}
    data = await stock.admin.data(ACTIVATE, item=stock.item, at=WAREHOUSE, available=4, key="one")
    (request,) = await receiver.wait_for(1)

    assert data["inventoryActivate"]["inventoryLevel"]["isActive"] is True
    assert (await quantities(stock, WAREHOUSE))["available"] == 4
    assert json.loads(request.body)["available"] == 4


@pytest.mark.conformance
async def test_quantities_change_where_an_item_is_not_active_and_activation_keeps_them(stock: Stock) -> None:
    payload = await change(stock.admin, ADJUST, name="available", changes=[entry(stock, delta=6, locationId=WAREHOUSE)])
    hidden, seen = await quantities(stock, WAREHOUSE), await quantities(stock, WAREHOUSE, all_levels=True)
    data = await stock.admin.data(ACTIVATE, item=stock.item, at=WAREHOUSE, key="one")

    assert codes(payload) == []
    assert (hidden, seen["available"]) == ({}, 6)
    assert data["inventoryActivate"]["inventoryLevel"]["quantities"] == [{"quantity": 6}]


@pytest.mark.conformance
async def test_activation_sets_no_quantity_of_what_is_active(stock: Stock) -> None:
    data = await stock.admin.data(ACTIVATE, item=stock.item, at=stock.location, available=4, key="one")

    assert data["inventoryActivate"]["userErrors"][0]["field"] == ["available"]


async def test_a_level_that_changes_faster_than_it_is_told_of_is_told_of_as_it_is(
    stock: Stock, receiver: Receiver
) -> None:
    receiver.gate.clear()
    before = await stock.available()
    for number in range(100):
        await stock.adjust(f"{number}", 1)
    receiver.gate.set()
    await stock.admin.simulator.admin.settle()
    await stock.admin.simulator.outbox("demo-shop.myshopify.com").drain()

    assert json.loads(receiver.requests[-1].body)["available"] <= before + 100
    assert before + 100 in [json.loads(request.body)["available"] for request in receiver.requests]


@pytest.mark.conformance
async def test_an_array_of_more_than_250_entries_is_refused(stock: Stock) -> None:
    wanted = {"name": "available", "reason": "correction", "changes": [entry(stock, delta=1)] * 251}
    error = await stock.admin.error(ADJUST, input=wanted, key="one")

    assert error["message"] == "The input array size of 251 is greater than the maximum allowed of 250."
    assert error["extensions"]["code"] == "MAX_INPUT_SIZE_EXCEEDED"
    assert error["path"] == ["inventoryAdjustQuantities", "input", "changes"]


@pytest.mark.conformance
async def test_an_array_in_the_document_is_counted_too(admin: Admin) -> None:
    ids = ", ".join(['"gid://shopify/Order/1"'] * 251)

    assert (await admin.error(f"{{ nodes(ids: [{ids}]) {{ id }} }}"))["extensions"]["code"] == "MAX_INPUT_SIZE_EXCEEDED"


async def test_the_catalogue_and_the_stock_agree(admin: Admin, stock: Stock) -> None:
    data = await admin.data(
        """{ products(first: 10) { nodes { id title totalInventory collections(first: 3) { nodes { title } }
               variants(first: 3) { nodes { sku price inventoryQuantity inventoryItem { sku } } } } }
             locations(first: 5) { nodes { name isPrimary } } }"""
    )
    for product in data["products"]["nodes"]:
        variants = product["variants"]["nodes"]
        assert product["totalInventory"] == sum(one["inventoryQuantity"] for one in variants)
        assert all(one["sku"] == one["inventoryItem"]["sku"] for one in variants)
        assert len(product["collections"]["nodes"]) == 1
    assert [one["name"] for one in data["locations"]["nodes"]] == ["Main Street", "Warehouse"]
