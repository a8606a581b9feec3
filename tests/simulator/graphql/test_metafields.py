"""Metafields and tags."""

from __future__ import annotations

import json

import pytest

from tests.simulator.receiver import Receiver

from .conftest import Admin, Json, codes

SET = """mutation ($metafields: [MetafieldsSetInput!]!) { metafieldsSet(metafields: $metafields) {
  metafields { id namespace key value type jsonValue compareDigest ownerType }
  userErrors { field code message elementIndex } } }"""
READ = """query ($id: ID!) { customer(id: $id) { metafield(namespace: "loyalty", key: "points") { value compareDigest }
  metafields(first: 50, namespace: "loyalty") { nodes { key } } } }"""


@pytest.fixture
async def customer(admin: Admin) -> str:
    found: str = (await admin.control("GET", "customers"))["customers"][0]["admin_graphql_api_id"]
    return found


def points(owner: str, value: object, **more: object) -> Json:
    field = {"ownerId": owner, "namespace": "loyalty", "key": "points", "type": "number_integer"}
    return field | {"value": str(value)} | more


async def put(admin: Admin, *fields: Json) -> Json:
    found: Json = (await admin.data(SET, metafields=list(fields)))["metafieldsSet"]
    return found


@pytest.mark.conformance
async def test_a_metafield_is_set_and_set_again(admin: Admin, customer: str) -> None:
    (first,) = (await put(admin, points(customer, 5)))["metafields"]
    (second,) = (await put(admin, points(customer, 7)))["metafields"]
    found = (await admin.data(READ, id=customer))["customer"]

    assert first["id"] == second["id"]
    assert (first["jsonValue"], first["ownerType"]) == (5, "CUSTOMER")
    assert first["compareDigest"] != second["compareDigest"] == found["metafield"]["compareDigest"]
    assert found["metafield"]["value"] == "7"
    assert found["metafields"]["nodes"] == [{"key": "points"}]


@pytest.mark.conformance
async def test_a_known_metafield_needs_no_type(admin: Admin, customer: str) -> None:
    await put(admin, points(customer, 5))

    assert codes(await put(admin, {**points(customer, 6), "type": None})) == []


@pytest.mark.conformance
async def test_a_digest_guards_against_changes_in_between(admin: Admin, customer: str) -> None:
    (first,) = (await put(admin, points(customer, 5, compareDigest=None)))["metafields"]
    taken = await put(admin, points(customer, 6, compareDigest=None))
    (second,) = (await put(admin, points(customer, 6, compareDigest=first["compareDigest"])))["metafields"]
    stale = await put(admin, points(customer, 7, compareDigest=first["compareDigest"]))

    assert codes(taken) == codes(stale) == ["STALE_OBJECT"]
    assert second["value"] == "6"
    assert (await admin.data(READ, id=customer))["customer"]["metafield"]["value"] == "6"


@pytest.mark.conformance
async def test_all_are_set_or_none(admin: Admin, customer: str) -> None:
    payload = await put(admin, points(customer, 5), points(customer, "five", key="other"))

    assert [(error["code"], error["elementIndex"], error["field"]) for error in payload["userErrors"]] == [
        ("INVALID_VALUE", 1, ["metafields", "1", "value"])
    ]
    assert payload["metafields"] is None
    assert (await admin.data(READ, id=customer))["customer"]["metafield"] is None


@pytest.mark.conformance
@pytest.mark.parametrize(("count", "expected"), [(25, []), (26, ["LESS_THAN_OR_EQUAL_TO"])])
async def test_25_at_a_time_are_the_most(admin: Admin, customer: str, count: int, expected: list[str]) -> None:
    payload = await put(admin, *(points(customer, number, key=f"key{number}") for number in range(count)))

    assert codes(payload) == expected


@pytest.mark.conformance
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"ownerId": "gid://shopify/Customer/1"}, "INVALID"),
        ({"key": "a"}, "TOO_SHORT"),
        ({"key": "a" * 65}, "TOO_LONG"),
        ({"key": "no spaces"}, "INVALID"),
        ({"value": ""}, "BLANK"),
        ({"type": "number"}, "INVALID_TYPE"),
        ({"type": None}, "BLANK"),
        ({"value": "1.5"}, "INVALID_VALUE"),
        ({"type": "json", "value": "{"}, "INVALID_VALUE"),
        ({"type": "boolean", "value": "yes"}, "INVALID_VALUE"),
        ({"type": "date", "value": "tomorrow"}, "INVALID_VALUE"),
    ],
)
async def test_a_metafield_that_cannot_be_is_refused(admin: Admin, customer: str, fields: Json, code: str) -> None:
    assert codes(await put(admin, points(customer, 5) | fields)) == [code]


async def test_an_apps_own_namespace_is_the_default(admin: Admin, customer: str) -> None:
    (bare,) = (await put(admin, {**points(customer, 5), "namespace": None}))["metafields"]
    (own,) = (await put(admin, points(customer, 5, namespace="$app:loyalty")))["metafields"]

    assert own["namespace"] == f"{bare['namespace']}--loyalty"


@pytest.mark.conformance
async def test_tags_are_added_once_and_told_of(admin: Admin, customer: str, receiver: Receiver) -> None:
    add = """mutation ($id: ID!, $tags: [String!]!) { tagsAdd(id: $id, tags: $tags) {
      node { ... on Customer { tags } ... on Order { tags } } userErrors { message } } }"""
    order = await admin.place(no_customer=True)
    await receiver.wait_for(2)
    data = await admin.data(add, id=customer, tags=["vip", "gold", "VIP"])
    of_order = await admin.data(add, id=order["admin_graphql_api_id"], tags=["points, earned"])
    told = (await receiver.wait_for(4))[2:]
    await admin.data(add, id=customer, tags=["Gold"])
    await admin.simulator.admin.settle()

    assert data["tagsAdd"]["node"] == {"tags": ["gold", "vip"]}
    assert of_order["tagsAdd"]["node"] == {"tags": ["earned", "points"]}
    tags = {request.topic: json.loads(request.body)["tags"] for request in told}
    assert tags == {"customers/update": "gold, vip", "orders/updated": "earned, points"}
    assert len(receiver.requests) == 4


@pytest.mark.conformance
async def test_what_does_not_exist_is_not_tagged(admin: Admin) -> None:
    data = await admin.data(
        'mutation { tagsAdd(id: "gid://shopify/Order/1", tags: ["a"]) { userErrors { field message } } }'
    )

    assert data["tagsAdd"]["userErrors"] == [{"field": ["id"], "message": "Order does not exist"}]
