"""Bulk operations: the whole shop in a file of JSON lines."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest

from tests.simulator.receiver import Receiver

from .conftest import Admin, Json, codes

RUN = """mutation ($query: String!) { bulkOperationRunQuery(groupObjects: false, query: $query) {
  bulkOperation { id status } userErrors { field code message } } }"""
FIELDS = "id status type errorCode objectCount rootObjectCount fileSize url partialDataUrl createdAt completedAt query"
LOOK = f"query ($id: ID!) {{ bulkOperation(id: $id) {{ {FIELDS} }} }}"
ORDERS = """{ orders { edges { node { id name totalPriceSet { shopMoney { amount } }
  lineItems { edges { node { id quantity } } } } } } }"""


async def begin(admin: Admin, query: str = ORDERS) -> Json:
    found: Json = (await admin.data(RUN, query=query))["bulkOperationRunQuery"]
    return found


async def look(admin: Admin, identifier: str) -> Json:
    found: Json = (await admin.data(LOOK, id=identifier))["bulkOperation"]
    return found


async def lines(admin: Admin, url: str) -> list[Json]:
    answer = await admin.api.get(urlsplit(url).path)
    assert answer.status_code == 200
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.conformance
async def test_connections_within_follow_their_parents_line_by_line(admin: Admin, receiver: Receiver) -> None:
    placed = [await admin.place() for _ in range(3)]
    await receiver.wait_for(6)
    begun = await begin(admin)
    identifier = begun["bulkOperation"]["id"]
    told = json.loads((await receiver.wait_for(7))[-1].body)
    done = await look(admin, identifier)
    found = await lines(admin, done["url"])
    expected = []
    for order in placed:
        price = order["total_price_set"]["shop_money"]["amount"]
        expected.append({"id": order["admin_graphql_api_id"], "name": order["name"], "price": float(price)})
        expected += [
            {
                "id": line["admin_graphql_api_id"],
                "quantity": line["quantity"],
                "__parentId": order["admin_graphql_api_id"],
            }
            for line in order["line_items"]
        ]
    for line in found:
        if "totalPriceSet" in line:
            line["price"] = float(line.pop("totalPriceSet")["shopMoney"]["amount"])

    assert begun["bulkOperation"]["status"] == "CREATED"
    assert (done["status"], done["type"], done["errorCode"]) == ("COMPLETED", "QUERY", None)
    assert found == expected
    assert (done["objectCount"], done["rootObjectCount"]) == (str(len(expected)), "3")
    assert int(done["fileSize"]) > 0
    assert receiver.topics()[-1] == "bulk_operations/finish"
    assert (told["admin_graphql_api_id"], told["status"], told["type"]) == (identifier, "completed", "query")
    assert (told["error_code"], told["completed_at"]) == (None, done["completedAt"])


@pytest.mark.conformance
async def test_two_levels_of_connections_point_at_the_one_above(admin: Admin) -> None:
    await admin.place(lines=[{"quantity": 2}, {}])
    order = (await admin.data("{ orders(first: 1) { nodes { id legacyResourceId } } }"))["orders"]["nodes"][0]
    await admin.api.post(f"/orders/{order['legacyResourceId']}/refunds", json={})
    query = """{ customers { nodes { id orders { nodes { id lineItems { nodes { id } } } } } } }"""
    begun = await begin(admin, query)
    await admin.simulator.admin.settle()
    found = await lines(admin, (await look(admin, begun["bulkOperation"]["id"]))["url"])
    by_id = {line["id"]: line for line in found}
    items = [line for line in found if "/LineItem/" in line["id"]]

    assert len(items) == 2
    assert by_id[items[0]["__parentId"]]["id"] == order["id"]
    assert "/Customer/" in by_id[order["id"]]["__parentId"]


async def test_progress_is_counted_while_it_runs(admin: Admin) -> None:
    for _ in range(5):
        await admin.place(lines=[{}])
    await admin.control("PUT", "admin-api/bulk", objects_a_step=2, hold=True)
    identifier = (await begin(admin))["bulkOperation"]["id"]
    seen = await look(admin, identifier)
    while seen["objectCount"] == "0":
        seen = await look(admin, identifier)
    await admin.control("PUT", "admin-api/bulk", objects_a_step=2)
    await admin.simulator.admin.settle()
    done = await look(admin, identifier)

    assert (seen["status"], seen["objectCount"], seen["rootObjectCount"]) == ("RUNNING", "4", "2")
    assert (seen["url"], seen["completedAt"]) == (None, None)
    assert (done["status"], done["objectCount"], done["rootObjectCount"]) == ("COMPLETED", "10", "5")


@pytest.mark.conformance
async def test_five_run_at_a_time(admin: Admin) -> None:
    await admin.control("PUT", "admin-api/bulk", hold=True)
    begun = [await begin(admin) for _ in range(6)]
    await admin.control("PUT", "admin-api/bulk", hold=False)
    await admin.simulator.admin.settle()

    assert [codes(one) for one in begun] == [[]] * 5 + [["LIMIT_REACHED"]]
    assert codes(await begin(admin)) == []


@pytest.mark.conformance
async def test_an_operation_is_cancelled(admin: Admin, receiver: Receiver) -> None:
    for _ in range(3):
        await admin.place()
    await receiver.wait_for(6)
    await admin.control("PUT", "admin-api/bulk", objects_a_step=1, hold=True)
    identifier = (await begin(admin))["bulkOperation"]["id"]
    cancel = """mutation ($id: ID!) { bulkOperationCancel(id: $id) { bulkOperation { status }
                                                                    userErrors { message } } }"""
    data = await admin.data(cancel, id=identifier)
    await admin.control("PUT", "admin-api/bulk", hold=False)
    told = json.loads((await receiver.wait_for(7))[-1].body)
    done = await look(admin, identifier)
    again = await admin.data(cancel, id=identifier)

    assert data["bulkOperationCancel"]["bulkOperation"]["status"] == "CANCELING"
    assert (done["status"], done["url"], told["status"]) == ("CANCELED", None, "canceled")
    assert again["bulkOperationCancel"]["userErrors"] != []


@pytest.mark.conformance
async def test_without_objects_there_is_no_file(admin: Admin) -> None:
    begun = await begin(admin)
    await admin.simulator.admin.settle()
    done = await look(admin, begun["bulkOperation"]["id"])

    assert (done["status"], done["objectCount"], done["url"]) == ("COMPLETED", "0", None)


BAD = {
    "no connection": "{ shop { id } }",
    "two roots": "{ orders { nodes { id } } customers { nodes { id } } }",
    "a node at the root": '{ node(id: "gid://shopify/Order/1") { id } }',
    "six connections": """{ products { nodes { id a: variants { nodes { id } } b: variants { nodes { id } }
      c: variants { nodes { id } } d: variants { nodes { id } } e: variants { nodes { id } } } } }""",
    "too deep": """{ customers { nodes { id orders { nodes { id lineItems { nodes { id product { variants { nodes {
      id } } } } } } } } } }""",
    "a connection within a list": "{ orders { nodes { id refunds { id refundLineItems { nodes { id } } } } } }",
    "a parent without its id": "{ orders { nodes { name lineItems { nodes { id } } } } }",
    "a variable": "query ($q: String!) { orders(query: $q) { nodes { id } } }",
    "a mutation": 'mutation { tagsAdd(id: "gid://shopify/Order/1", tags: []) { userErrors { message } } }',
    "no GraphQL": "orders {",
    "no field of the schema": "{ orders { nodes { colour } } }",
    "a field that is not simulated": "{ orders { nodes { id riskLevel } } }",
}


@pytest.mark.conformance
@pytest.mark.parametrize("case", BAD)
async def test_a_query_that_is_no_bulk_query_is_refused(admin: Admin, case: str) -> None:
    payload = await begin(admin, BAD[case])

    assert set(codes(payload)) == {"INVALID"}
    assert payload["bulkOperation"] is None


async def test_a_search_narrows_a_bulk_query(admin: Admin) -> None:
    orders = [await admin.place() for _ in range(2)]
    begun = await begin(admin, f'{{ orders(query: "name:{orders[1]["name"]}") {{ edges {{ node {{ id }} }} }} }}')
    await admin.simulator.admin.settle()
    found = await lines(admin, (await look(admin, begun["bulkOperation"]["id"]))["url"])

    assert found == [{"id": orders[1]["admin_graphql_api_id"]}]


async def test_operations_are_listed_and_the_last_is_the_current_one(admin: Admin) -> None:
    begun = [(await begin(admin))["bulkOperation"]["id"] for _ in range(2)]
    await admin.simulator.admin.settle()
    data = await admin.data(
        """{ currentBulkOperation { id }
             bulkOperations(first: 5, sortKey: CREATED_AT, query: "status:completed") { nodes { id } } }"""
    )

    assert data["currentBulkOperation"]["id"] == begun[1]
    assert [one["id"] for one in data["bulkOperations"]["nodes"]] == begun
