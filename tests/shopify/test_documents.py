"""Every document is one that the real Admin schema accepts, and its model is what the schema answers."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest

from sellflow.shopify.documents import bulk_operations, customers, installation, inventory, orders, rewards
from sellflow.shopify.documents.document import Document
from sellflow.shopify.documents.nodes import Node, number_of
from tests.shopify.admin_schema import SCHEMAS, answer_to, complaints, keys_of, mutations, needs_key, takes_key

ROOMS = (bulk_operations, customers, installation, inventory, orders, rewards)
DOCUMENTS: dict[str, Document[Any]] = {
    each.name: each for room in ROOMS for each in vars(room).values() if isinstance(each, Document)
}
ANSWERED = sorted(name for name, each in DOCUMENTS.items() if each.model is not Node)

pytestmark = pytest.mark.skipif(not SCHEMAS.exists(), reason="Shopify's schemas are not here: make install")


def test_every_file_is_a_document_or_a_fragment_of_one() -> None:
    used = {name for each in DOCUMENTS.values() for name in (each.name, *each.fragments)}
    found = {each.name for each in files("sellflow.shopify.documents").iterdir() if each.name.endswith(".graphql")}
    assert found == {f"{name}.graphql" for name in used}


@pytest.mark.conformance
@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_a_document_is_valid_in_the_pinned_version_and_uses_nothing_deprecated(name: str) -> None:
    assert complaints(DOCUMENTS[name].text) == []


@pytest.mark.conformance
@pytest.mark.parametrize("name", ANSWERED)
def test_a_model_holds_all_that_its_document_selects_and_nothing_else(name: str) -> None:
    document = DOCUMENTS[name]
    answer = answer_to(document.text, full=True)
    assert keys_of(document.model.model_validate(answer).model_dump(by_alias=True)) == keys_of(answer)


@pytest.mark.conformance
@pytest.mark.parametrize("name", ANSWERED)
def test_a_model_lets_everything_be_null_that_the_schema_does(name: str) -> None:
    document = DOCUMENTS[name]
    document.model.model_validate(answer_to(document.text, full=False))


@pytest.mark.conformance
@pytest.mark.parametrize("name", ["bulk_customers", "bulk_orders"])
def test_what_is_run_in_bulk_is_valid_with_its_variables_written_into_it(name: str) -> None:
    text = DOCUMENTS[name].written_out({"query": 'updated_at:>="2026-01-01T00:00:00Z" AND "\\'})
    assert "$" not in text
    assert complaints(text) == []


@pytest.mark.conformance
@pytest.mark.parametrize(
    ("name", "type_name"), [("bulk_customers", "Customer"), ("bulk_orders", "Order"), ("bulk_orders", "LineItem")]
)
def test_a_line_of_a_bulk_result_has_its_model(name: str, type_name: str) -> None:
    answer = answer_to(DOCUMENTS[name].text, full=True)
    line = next(iter(answer.values()))["edges"][0]["node"]
    children = line.pop("lineItems", {"edges": [{"node": None}]})["edges"][0]["node"]
    line = children if type_name == "LineItem" else line
    model = bulk_operations.BULK_MODELS[type_name]
    assert keys_of(model.model_validate(line).model_dump(by_alias=True)) == keys_of(line)


def test_a_variable_without_a_value_is_not_written_out() -> None:
    with pytest.raises(KeyError, match=r"\$query has no value"):
        DOCUMENTS["bulk_orders"].written_out({})


@pytest.mark.conformance
def test_the_schema_itself_says_which_mutations_need_a_key() -> None:
    required = {name for name in mutations() if needs_key(name)}
    assert required <= {name for name in mutations() if takes_key(name)}
    # Should the words change, the rule would find nothing and be content with anything.
    assert {"inventoryAdjustQuantities", "inventoryMoveQuantities", "inventoryActivate", "refundCreate"} <= required
    assert not {"metafieldsSet", "giftCardCreate", "storeCreditAccountCredit"} & required
    unread = {
        name
        for name, text in mutations().items()
        if "idempotency key is required" in " ".join(text.split()) and name not in required
    }
    assert unread == set()


@pytest.mark.parametrize("name", sorted(name for name, each in DOCUMENTS.items() if each.is_idempotent))
def test_a_mutation_that_lost_its_key_is_complained_about(name: str) -> None:
    spoilt = DOCUMENTS[name].text.replace("@idempotent(key: $idempotencyKey)", "")
    assert any("needs @idempotent" in each for each in complaints(spoilt))


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        ("inventory_set", "$idempotencyKey)", '"always the same")', "must be $idempotencyKey"),
        (
            "metafields_set",
            "metafieldsSet(metafields: $metafields)",
            'metafieldsSet(metafields: $metafields) @idempotent(key: "k")',
            "does not document that it supports @idempotent",
        ),
        ("order_by_id", "subtotalPriceSet", "subtotalPrice", "deprecated"),
        ("shop", "ianaTimezone", "timeZone", "Cannot query field 'timeZone'"),
        ("customers", "$first: Int!", "$first: String!", "expecting type 'Int'"),
        ("discount_code_create", "code field", "code fields", "Cannot query field 'fields'"),
    ],
)
def test_a_mutated_document_is_complained_about(name: str, old: str, new: str, complaint: str) -> None:
    text = DOCUMENTS[name].text
    assert old in text
    assert any(complaint in each for each in complaints(text.replace(old, new)))


def test_only_the_changes_of_stock_know_a_call_by_its_key() -> None:
    keyed = {name for name, each in DOCUMENTS.items() if each.is_idempotent}
    assert keyed == {"inventory_adjust", "inventory_set", "inventory_move", "inventory_activate"}
    assert all(DOCUMENTS[name].is_mutation for name in keyed)
    assert not DOCUMENTS["order_by_id"].is_mutation


@pytest.mark.conformance
def test_the_number_at_the_end_of_a_global_id_is_that_of_webhooks() -> None:
    assert number_of("gid://shopify/Order/1234") == 1234
    assert number_of("gid://shopify/InventoryLevel/99?inventory_item_id=5") == 99
