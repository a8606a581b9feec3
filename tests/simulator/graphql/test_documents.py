"""Every document that the product sends is one that the simulator answers."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
from graphql import OperationDefinitionNode, parse

from sellflow.shopify import documents
from sellflow.shopify.documents.document import Document
from sellflow.simulator.graphql import endpoint
from sellflow.simulator.graphql.execution import Engine

from .conftest import Admin, Json


def found_documents() -> dict[str, Document]:  # type: ignore[type-arg]
    modules = [
        importlib.import_module(f"{documents.__name__}.{found.name}")
        for found in pkgutil.iter_modules(documents.__path__)
    ]
    return {one.name: one for module in modules for one in vars(module).values() if isinstance(one, Document)}


DOCUMENTS = found_documents()
BULK = ("bulk_orders", "bulk_customers")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_asks_for_nothing_that_is_not_simulated(engine: Engine, name: str) -> None:
    engine.prepare(DOCUMENTS[name].text)


QUERIES = [name for name, one in DOCUMENTS.items() if not one.is_mutation and name not in BULK]


@pytest.fixture
async def arguments(admin: Admin) -> Json:
    """Give a value for every variable that a query of the product has."""
    order = await admin.place()
    await admin.api.post(f"/orders/{order['id']}/refunds", json={"amount": "1"})
    data = await admin.data("{ inventoryItems(first: 1) { nodes { id } } locations(first: 1) { nodes { id } } }")
    return {
        "first": 2,
        "lines": 5,
        "refunds": 2,
        "refundLines": 5,
        "sortKey": "UPDATED_AT",
        "code": "NOBODY",
        "names": ["available"],
        "query": "created_at:>=2020-01-01",
        "id": order["admin_graphql_api_id"],
        "item": data["inventoryItems"]["nodes"][0]["id"],
        "location": data["locations"]["nodes"][0]["id"],
    }


@pytest.mark.parametrize("name", QUERIES)
async def test_a_query_of_the_product_is_answered(
    admin: Admin, arguments: Json, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Values made on the way have no table to be checked against: this is where they are."""
    # What its documents cost is the product's own affair: here it matters that they are answered whole.
    monkeypatch.setattr(endpoint, "SINGLE_QUERY_LIMIT", 100_000)
    await admin.control("PUT", "admin-api/bucket", maximum=100_000, level=100_000)
    text = DOCUMENTS[name].text
    (operation, *_) = [one for one in parse(text).definitions if isinstance(one, OperationDefinitionNode)]
    wanted = {one.variable.name.value for one in operation.variable_definitions or ()}
    given = {key: value for key, value in arguments.items() if key in wanted}
    if name == "bulk_operation":
        given["id"] = "gid://shopify/BulkOperation/1"
    answer = await admin.answer(text, **given)

    assert "errors" not in answer, answer["errors"]


@pytest.mark.parametrize("name", BULK)
async def test_a_bulk_query_of_the_product_runs(admin: Admin, name: str) -> None:
    await admin.place()
    run = """mutation ($query: String!) { bulkOperationRunQuery(groupObjects: false, query: $query) {
      bulkOperation { id } userErrors { message } } }"""
    text = DOCUMENTS[name].written_out({"query": "updated_at:>=2020-01-01"})
    data = await admin.data(run, query=text)
    await admin.simulator.admin.settle()
    done = await admin.data("{ currentBulkOperation { status objectCount } }")

    assert data["bulkOperationRunQuery"]["userErrors"] == []
    assert done["currentBulkOperation"]["status"] == "COMPLETED"
    assert int(done["currentBulkOperation"]["objectCount"]) > 1
