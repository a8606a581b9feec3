"""Costs: Shopify's published table, field by field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from graphql import FragmentDefinitionNode, get_operation_ast, parse, validate
from graphql.execution.values import VariableValues, get_variable_values

from sellflow.simulator.graphql.cost import cost_of
from sellflow.simulator.graphql.schema import AdminSchema

from .conftest import Admin

CASES = {
    "scalars and enums are free": ("{ shop { id name currencyCode } }", 1),
    "an object is 1": ("{ shop { plan { displayName } } }", 2),
    "objects add up": ("{ shop { plan { displayName } primaryDomain { host } } }", 3),
    "one selected twice is paid once": ("{ shop { plan { displayName } plan { shopifyPlus } } }", 2),
    "under two names it is paid twice": ("{ shop { a: plan { displayName } b: plan { shopifyPlus } } }", 3),
    "a connection is 2 and its nodes": ("{ orders(first: 10) { nodes { id } } }", 12),
    "edges cost what nodes cost": ("{ orders(first: 10) { edges { cursor node { id } } } }", 12),
    "last sizes it, too": ("{ orders(last: 10) { nodes { id } } }", 12),
    "pageInfo is an object": ("{ orders(first: 10) { nodes { id } pageInfo { hasNextPage } } }", 13),
    "a connection of cursors alone": ("{ orders(first: 10) { edges { cursor } } }", 2),
    "connections within multiply": (
        "{ orders(first: 10) { nodes { id lineItems(first: 5) { nodes { id } } } } }",
        2 + 10 * (1 + 2 + 5),
    ),
    # As a developer worked it out from the article of Shopify's engineers: product, connection, variants, items.
    "an item for each of 250 variants": (
        """{ product(id: "gid://shopify/Product/1") {
             variants(first: 250) { nodes { inventoryItem { id tracked } } } } }""",
        503,
    ),
    "a money bag is three objects": (
        "{ orders(first: 1) { nodes { totalPriceSet { shopMoney { amount } presentmentMoney { amount } } } } }",
        2 + 1 + 3,
    ),
    "a plain list is sized by first": ("{ orders(first: 1) { nodes { refunds(first: 4) { id } } } }", 2 + 1 + 4),
    "a plain list without a size is one object": ("{ orders(first: 1) { nodes { taxLines { rate } } } }", 2 + 1 + 1),
    "nodes are sized by their ids": ('{ nodes(ids: ["gid://shopify/Order/1", "gid://shopify/Order/2"]) { id } }', 2),
    "an interface costs its most expensive selection": (
        """{ node(id: "gid://shopify/Order/1") {
             ... on Order { customer { id } totalPriceSet { shopMoney { amount } } }
             ... on Customer { defaultAddress { id } } } }""",
        1 + 3,
    ),
    "a union costs its most expensive selection": (
        """{ codeDiscountNodeByCode(code: "A") { codeDiscount {
             ... on DiscountCodeBasic { title combinesWith { orderDiscounts } codesCount { count } }
             ... on DiscountCodeFreeShipping { title } } } }""",
        1 + 1 + 2,
    ),
    "fragments cost what they hold": (
        "{ orders(first: 2) { nodes { ...F } } } fragment F on Order { customer { id } }",
        2 + 2 * 2,
    ),
    "what is skipped is free": ("{ shop { plan @skip(if: true) { displayName } id @include(if: false) } }", 1),
    "introspection is free": ("{ __schema { queryType { name } } shop { __typename } }", 1),
    "a mutation is 10": (
        'mutation { tagsAdd(id: "gid://shopify/Order/1", tags: ["a"]) { userErrors { message } } }',
        10,
    ),
    # Shopify's tutorial on web pixels shows a mutation at 10 that selects an object, too.
    "a mutation's payload is within its 10": (
        'mutation { tagsAdd(id: "gid://shopify/Order/1", tags: ["a"]) { node { id } userErrors { message } } }',
        10,
    ),
    "two mutations are 20": (
        """mutation { a: discountCodeDelete(id: "gid://shopify/DiscountCodeNode/1") { deletedCodeDiscountId }
                      b: discountCodeDelete(id: "gid://shopify/DiscountCodeNode/2") { deletedCodeDiscountId } }""",
        20,
    ),
}


def requested(loaded: AdminSchema, text: str, variables: dict[str, Any] | None = None) -> int:
    document = parse(text)
    assert not validate(loaded.schema, document)
    operation = get_operation_ast(document)
    assert operation is not None
    coerced = get_variable_values(loaded.schema, operation.variable_definitions or (), variables or {})
    assert isinstance(coerced, VariableValues)
    fragments = {one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)}
    return cost_of(loaded.schema, operation, fragments, coerced)


@pytest.mark.conformance
@pytest.mark.parametrize("case", CASES)
def test_a_query_costs_what_the_table_says(admin_schema: AdminSchema, case: str) -> None:
    text, points = CASES[case]

    assert requested(admin_schema, text) == points


@pytest.mark.conformance
def test_variables_size_connections(admin_schema: AdminSchema) -> None:
    text = "query ($n: Int = 3) { orders(first: $n) { nodes { id } } }"

    assert [requested(admin_schema, text, {}), requested(admin_schema, text, {"n": 7})] == [5, 9]


@pytest.mark.conformance
async def test_an_answer_costs_what_it_holds_and_the_rest_is_given_back(admin: Admin) -> None:
    await admin.place(no_customer=True)
    found = await admin.answer("{ orders(first: 100) { nodes { id customer { id } } } }")
    cost = found["extensions"]["cost"]

    assert (cost["requestedQueryCost"], cost["actualQueryCost"]) == (2 + 200, 2 + 2)
    assert cost["throttleStatus"] == {"maximumAvailable": 2000, "currentlyAvailable": 1996, "restoreRate": 100}


@pytest.mark.conformance
async def test_a_query_over_a_thousand_points_is_refused_whatever_is_in_the_bucket(admin: Admin) -> None:
    await admin.control("PUT", "admin-api/bucket", maximum=100_000, level=100_000)
    error = await admin.error("{ orders(first: 250) { nodes { id lineItems(first: 3) { nodes { id } } } } }")

    assert error["message"].startswith("Query cost is 1502, which exceeds the single query max cost limit (1000).")
    assert (error["extensions"]["code"], error["extensions"]["cost"]) == ("MAX_COST_EXCEEDED", 1502)
    assert error["extensions"]["maxCost"] == 1000
    assert (await admin.counts())["points_used"] == 0


async def test_the_journal_knows_what_every_call_cost(admin: Admin) -> None:
    await admin.answer("query First { orders(first: 8) { nodes { id } } }")
    await admin.answer("{ shop { id } }")
    lines = (await admin.api.get("/shops/demo-shop.myshopify.com/admin-api/calls")).text.splitlines()
    calls = [json.loads(line) for line in lines]

    assert [(call["operation"], call["requested"], call["actual"]) for call in calls] == [
        ("First", 10, 2),
        ("shop", 1, 1),
    ]
    assert calls[0]["at"] <= calls[1]["at"]
    assert (await admin.counts()) | {"calls": 2, "answered": 2, "points_used": 3} == await admin.counts()
