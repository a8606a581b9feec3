"""Orders and customers: what GraphQL says of them is what the webhooks said."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.simulator.receiver import Receiver

from .conftest import Admin, Json

BAG = "{ shopMoney { amount currencyCode } presentmentMoney { amount currencyCode } }"
ORDER = f"""
  id legacyResourceId name createdAt processedAt updatedAt cancelledAt cancelReason test tags email
  displayFinancialStatus displayFulfillmentStatus currencyCode presentmentCurrencyCode taxesIncluded discountCodes
  subtotalPriceSet {BAG} totalPriceSet {BAG} totalTaxSet {BAG} totalDiscountsSet {BAG} totalShippingPriceSet {BAG}
  currentSubtotalPriceSet {BAG} currentTotalPriceSet {BAG} currentTotalTaxSet {BAG} currentTotalDiscountsSet {BAG}
  currentShippingPriceSet {BAG}
  taxLines {{ title rate priceSet {BAG} }}
  customer {{ id legacyResourceId email updatedAt }}
  shippingLines(first: 1) {{ nodes {{ id title originalPriceSet {BAG} currentDiscountedPriceSet {BAG} }} }}
  lineItems(first: 6) {{ nodes {{
    id title sku quantity currentQuantity originalUnitPriceSet {BAG} taxLines {{ priceSet {BAG} }}
    discountAllocations {{ allocatedAmountSet {BAG} }} product {{ id }} variant {{ id }}
  }} }}
  refunds(first: 3) {{
    id legacyResourceId createdAt note totalRefundedSet {BAG}
    refundLineItems(first: 6) {{ nodes {{
      id quantity restockType lineItem {{ id }} subtotalSet {BAG} totalTaxSet {BAG}
    }} }}
    refundShippingLines(first: 1) {{ nodes {{ id subtotalAmountSet {BAG} taxAmountSet {BAG} }} }}
    transactions(first: 1) {{ nodes {{ id kind status test amountSet {BAG} parentTransaction {{ id }} }} }}
    orderAdjustments(first: 1) {{ nodes {{ id reason amountSet {BAG} }} }}
  }}
"""
ONE_ORDER = f"query One($id: ID!) {{ order(id: $id) {{ {ORDER} }} }}"


async def graphql_of(admin: Admin, order: Json) -> Json:
    data = await admin.data(ONE_ORDER, id=order["admin_graphql_api_id"])
    found: Json = data["order"]
    return found


def same_moment(written: str | None, rest: str | None) -> bool:
    if written is None or rest is None:
        return written is rest
    assert written.endswith("Z")
    return datetime.fromisoformat(written) == datetime.fromisoformat(rest)


def same_bag(bag: Json, rest: Json) -> bool:
    return all(
        Decimal(bag[mine]["amount"]) == Decimal(rest[theirs]["amount"])
        and bag[mine]["currencyCode"] == rest[theirs]["currency_code"]
        for mine, theirs in (("shopMoney", "shop_money"), ("presentmentMoney", "presentment_money"))
    )


ORDER_BAGS = {
    "subtotalPriceSet": "subtotal_price_set",
    "totalPriceSet": "total_price_set",
    "totalTaxSet": "total_tax_set",
    "totalDiscountsSet": "total_discounts_set",
    "totalShippingPriceSet": "total_shipping_price_set",
    "currentSubtotalPriceSet": "current_subtotal_price_set",
    "currentTotalPriceSet": "current_total_price_set",
    "currentTotalTaxSet": "current_total_tax_set",
    "currentTotalDiscountsSet": "current_total_discounts_set",
    "currentShippingPriceSet": "current_shipping_price_set",
}


def assert_same_order(found: Json, rest: Json) -> None:
    assert (found["id"], found["legacyResourceId"]) == (rest["admin_graphql_api_id"], str(rest["id"]))
    assert (found["name"], found["test"], found["email"]) == (rest["name"], rest["test"], rest["email"])
    assert found["displayFinancialStatus"] == rest["financial_status"].upper()
    for mine, theirs in (
        ("createdAt", "created_at"),
        ("processedAt", "processed_at"),
        ("updatedAt", "updated_at"),
        ("cancelledAt", "cancelled_at"),
    ):
        assert same_moment(found[mine], rest[theirs]), mine
    for mine, theirs in ORDER_BAGS.items():
        assert same_bag(found[mine], rest[theirs]), mine
    assert found["discountCodes"] == [code["code"] for code in rest["discount_codes"]]
    assert (found["customer"] or {}).get("id") == (rest["customer"] or {}).get("admin_graphql_api_id")
    assert_same_lines(found["lineItems"]["nodes"], rest["line_items"])
    assert len(found["refunds"]) == len(rest["refunds"])
    for refund, theirs in zip(found["refunds"], rest["refunds"], strict=True):
        assert_same_refund(refund, theirs)


def assert_same_lines(found: list[Json], rest: list[Json]) -> None:
    for line, theirs in zip(found, rest, strict=True):
        assert line["id"] == theirs["admin_graphql_api_id"]
        assert (line["quantity"], line["currentQuantity"]) == (theirs["quantity"], theirs["current_quantity"])
        assert line["sku"] == theirs["sku"]
        assert line["variant"]["id"].endswith(f"/{theirs['variant_id']}")
        assert same_bag(line["originalUnitPriceSet"], theirs["price_set"])
        pairs = zip(line["discountAllocations"], theirs["discount_allocations"], strict=True)
        assert all(same_bag(one["allocatedAmountSet"], other["amount_set"]) for one, other in pairs)
        taxes = zip(line["taxLines"], theirs["tax_lines"], strict=True)
        assert all(same_bag(one["priceSet"], other["price_set"]) for one, other in taxes)


def assert_same_refund(found: Json, rest: Json) -> None:
    assert (found["id"], found["note"]) == (rest["admin_graphql_api_id"], rest["note"])
    assert same_moment(found["createdAt"], rest["created_at"])
    for line, theirs in zip(found["refundLineItems"]["nodes"], rest["refund_line_items"], strict=True):
        assert line["lineItem"]["id"].endswith(f"/{theirs['line_item_id']}")
        assert (line["quantity"], line["restockType"].lower()) == (theirs["quantity"], theirs["restock_type"])
        assert same_bag(line["subtotalSet"], theirs["subtotal_set"])
        assert same_bag(line["totalTaxSet"], theirs["total_tax_set"])
    for moved, theirs in zip(found["transactions"]["nodes"], rest["transactions"], strict=True):
        assert (moved["id"], moved["kind"].lower()) == (theirs["admin_graphql_api_id"], theirs["kind"])
        assert Decimal(moved["amountSet"]["presentmentMoney"]["amount"]) == Decimal(theirs["amount"])
    shipping = zip(found["refundShippingLines"]["nodes"], rest["refund_shipping_lines"], strict=True)
    assert all(same_bag(one["subtotalAmountSet"], other["subtotal_amount_set"]) for one, other in shipping)
    discrepancies = [one for one in rest["order_adjustments"] if one["kind"] == "refund_discrepancy"]
    adjusted = zip(found["orderAdjustments"]["nodes"], discrepancies, strict=True)
    assert all(same_bag(one["amountSet"], other["amount_set"]) for one, other in adjusted)


HISTORIES: dict[str, list[tuple[str, Json]]] = {
    "paid": [],
    "refunded in part": [("refunds", {"amount": "7.50"}), ("refunds", {"shipping": True})],
    "refunded": [("refunds", {})],
    "edited": [("edit", {"add": [{"quantity": 2}]}), ("pay", {}), ("refunds", {"amount": "1"})],
    "cancelled": [("cancel", {"refund": True, "reason": "fraud"})],
}


@pytest.mark.conformance
@pytest.mark.parametrize("currency", [None, "JPY", "KWD"])
@pytest.mark.parametrize("history", HISTORIES)
async def test_an_order_reads_as_its_last_webhook_wrote_it(
    admin: Admin, receiver: Receiver, history: str, currency: str | None
) -> None:
    order = await admin.place(presentment_currency=currency, shipping="5")
    for path, body in HISTORIES[history]:
        answer = await admin.api.post(f"/orders/{order['id']}/{path}", json=body)
        assert answer.status_code == 200, answer.text
        order = answer.json()

    assert_same_order(await graphql_of(admin, order), order)


async def test_refunds_carry_what_refunds_create_said(admin: Admin, receiver: Receiver) -> None:
    order = await admin.place()
    await admin.api.post(f"/orders/{order['id']}/refunds", json={"amount": "1.25"})
    requests = await receiver.wait_for(4)
    (told,) = [json.loads(request.body) for request in requests if request.topic == "refunds/create"]
    (refund,) = (await graphql_of(admin, order))["refunds"]

    assert_same_refund(refund, told)


def titles(data: Json) -> list[str]:
    return [node["name"] for node in data["orders"]["nodes"]]


PAGE = """query Page($first: Int, $last: Int, $after: String, $before: String, $sort: OrderSortKeys, $reverse: Boolean,
                     $query: String) {
  orders(first: $first, last: $last, after: $after, before: $before, sortKey: $sort, reverse: $reverse, query: $query) {
    edges { cursor } nodes { name }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}"""


def walks() -> Iterator[tuple[str, bool]]:
    for sort in ("ID", "CREATED_AT", "UPDATED_AT", "PROCESSED_AT", "ORDER_NUMBER"):
        yield sort, False
        yield sort, True


@pytest.mark.conformance
@pytest.mark.parametrize(("sort", "reverse"), list(walks()))
async def test_pages_forwards_hold_every_order_once(admin: Admin, sort: str, *, reverse: bool) -> None:
    placed = [(await admin.place())["name"] for _ in range(5)]
    seen: list[str] = []
    after = None
    for _ in range(3):
        data = await admin.data(PAGE, first=2, after=after, sort=sort, reverse=reverse)
        seen += titles(data)
        info = data["orders"]["pageInfo"]
        assert info["hasPreviousPage"] is (after is not None)
        assert info["hasNextPage"] is (len(seen) < 5)
        after = info["endCursor"]

    assert seen == (placed[::-1] if reverse else placed)


@pytest.mark.conformance
@pytest.mark.parametrize("reverse", [False, True])
async def test_pages_backwards_hold_every_order_once(admin: Admin, *, reverse: bool) -> None:
    placed = [(await admin.place())["name"] for _ in range(5)]
    seen: list[str] = []
    before = None
    for _ in range(3):
        data = await admin.data(PAGE, last=2, before=before, sort="UPDATED_AT", reverse=reverse)
        seen = titles(data) + seen
        info = data["orders"]["pageInfo"]
        assert info["hasNextPage"] is (before is not None)
        assert info["hasPreviousPage"] is (len(seen) < 5)
        before = info["startCursor"]

    assert seen == (placed[::-1] if reverse else placed)


async def test_a_cursor_outlives_the_change_of_the_order_it_came_from(admin: Admin) -> None:
    orders = [await admin.place() for _ in range(3)]
    first = await admin.data(PAGE, first=1, sort="UPDATED_AT")
    await admin.api.post(f"/orders/{orders[0]['id']}/refunds", json={"amount": "1"})
    rest = await admin.data(PAGE, first=5, sort="UPDATED_AT", after=first["orders"]["pageInfo"]["endCursor"])

    assert titles(rest) == [orders[1]["name"], orders[2]["name"], orders[0]["name"]]


TEXT_CURSOR = base64.urlsafe_b64encode(b'{"last_id": 1, "last_value": "a"}').decode()


@pytest.mark.conformance
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "you must provide one of first or last"),
        ({"first": 2, "last": 2}, "providing both first and last is not supported"),
        ({"first": 251}, "first must lie between 0 and 250, not be 251"),
        ({"first": 1, "after": "rubbish"}, "Invalid cursor for current pagination sort."),
        ({"first": 1, "sort": "UPDATED_AT", "after": TEXT_CURSOR}, "Invalid cursor for current pagination sort."),
        ({"first": 1, "after": "bnVsbA=="}, "Invalid cursor for current pagination sort."),
    ],
)
async def test_a_page_that_cannot_be_is_refused(admin: Admin, arguments: Json, message: str) -> None:
    await admin.place()

    assert (await admin.error(PAGE, **arguments))["message"] == message


async def test_a_search_finds_orders_updated_since(admin: Admin) -> None:
    old = await admin.place()
    since = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    new = await admin.place()
    shopify = admin.simulator.shopify
    shopify._orders[new["id"]] = replace(shopify.order(new["id"]), updated_at=since)
    shopify.version += 1
    queries = {
        f"updated_at:>='{since.isoformat()}'": [new["name"]],
        f'updated_at:>"{since.isoformat()}"': [],
        f"updated_at:<{since:%Y-%m-%dT%H:%M:%SZ}": [old["name"]],
        f"updated_at:>='{since.isoformat()}' AND created_at:>=2020-01-01": [new["name"]],
        f"name:{old['name']}": [old["name"]],
        f"id:{old['id']}": [old["name"]],
        f"-id:{old['id']} status:any": [new["name"]],
        "financial_status:paid": [old["name"], new["name"]],
        "financial_status:refunded": [],
    }

    for query, names in queries.items():
        assert titles(await admin.data(PAGE, first=5, query=query)) == names, query


@pytest.mark.parametrize("query", ["colour:red", "(tag:a)", "tag:a OR tag:b", "free text"])
async def test_a_search_that_is_not_simulated_says_so(admin: Admin, query: str) -> None:
    error = await admin.error(PAGE, first=5, query=query)

    assert error["extensions"]["code"] == "NOT_SIMULATED"
    assert "is not simulated" in error["message"]


async def test_an_order_of_another_shop_is_not_found(admin: Admin, register: Any) -> None:  # noqa: ANN401
    await register("other-shop.myshopify.com")
    answer = await admin.api.post("/shops/other-shop.myshopify.com/orders", json={})

    assert (await admin.data(ONE_ORDER, id=answer.json()["admin_graphql_api_id"]))["order"] is None


async def test_a_token_of_one_shop_opens_no_other(admin: Admin, register: Any) -> None:  # noqa: ANN401
    await register("other-shop.myshopify.com")
    answer = await admin.api.post(
        "/shops/other-shop.myshopify.com/admin/api/2026-10/graphql.json",
        json={"query": "{ shop { id } }"},
        headers={"X-Shopify-Access-Token": admin.token},
    )

    assert answer.status_code == 401


async def test_customers_read_as_their_rest_resources_do(admin: Admin) -> None:
    listed = (await admin.control("GET", "customers"))["customers"]
    data = await admin.data(
        """{ customers(first: 10) { nodes {
               id legacyResourceId email firstName lastName note tags state createdAt updatedAt
               defaultAddress { address1 city zip countryCodeV2 } numberOfOrders amountSpent { amount } } } }"""
    )

    for found, rest in zip(data["customers"]["nodes"], sorted(listed, key=lambda one: one["id"]), strict=True):
        assert (found["id"], found["email"]) == (rest["admin_graphql_api_id"], rest["email"])
        assert (found["firstName"], found["lastName"]) == (rest["first_name"], rest["last_name"])
        assert same_moment(found["updatedAt"], rest["updated_at"])
        assert found["defaultAddress"]["zip"] == rest["default_address"]["zip"]


async def test_a_customer_has_orders_and_what_was_spent(admin: Admin) -> None:
    (customer, *_) = (await admin.control("GET", "customers"))["customers"]
    order = await admin.place(customer_id=customer["id"], lines=[{"price": "10"}], shipping="0")
    data = await admin.data(
        """query ($id: ID!) { customer(id: $id) {
             numberOfOrders amountSpent { amount } lastOrder { name } orders(first: 5) { nodes { name } } } }""",
        id=customer["admin_graphql_api_id"],
    )

    assert data["customer"]["numberOfOrders"] == "1"
    assert Decimal(data["customer"]["amountSpent"]["amount"]) == Decimal(order["total_price"])
    assert data["customer"]["lastOrder"]["name"] == order["name"]
    assert data["customer"]["orders"]["nodes"] == [{"name": order["name"]}]


async def test_nodes_are_found_by_their_ids_in_the_order_asked_for(admin: Admin) -> None:
    order = await admin.place()
    refunded = (await admin.api.post(f"/orders/{order['id']}/refunds", json={"amount": "1"})).json()
    refund = refunded["refunds"][0]["admin_graphql_api_id"]
    found = await admin.data("query ($id: ID!) { refund(id: $id) { id order { id } } }", id=refund)
    ids = [order["admin_graphql_api_id"], "gid://shopify/Order/1", order["customer"]["admin_graphql_api_id"]]
    data = await admin.data(
        """query ($ids: [ID!]!) { nodes(ids: $ids) {
             __typename id ... on Order { name } ... on Customer { email } } }""",
        ids=ids,
    )

    assert found["refund"] == {"id": refund, "order": {"id": order["admin_graphql_api_id"]}}
    assert data["nodes"][0] == {"__typename": "Order", "id": ids[0], "name": order["name"]}
    assert data["nodes"][1] is None
    assert data["nodes"][2]["email"] == order["customer"]["email"]
