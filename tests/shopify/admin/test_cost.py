"""Guesses of what calls cost, against another's reckoning of Shopify's rules, and what is learned from answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from graphql import (
    FragmentDefinitionNode,
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    OperationDefinitionNode,
    parse,
    type_from_ast,
)
from graphql.execution.values import get_variable_values

from sellflow.shopify.admin.cost import MOST, Estimates, guess, sizes_of
from sellflow.shopify.documents import orders
from sellflow.shopify.documents.document import Document
from sellflow.shopify.documents.nodes import Node
from sellflow.simulator.graphql.cost import cost_of
from tests.shopify.admin_schema import SCHEMAS, VALUES, schema
from tests.shopify.test_documents import DOCUMENTS

pytestmark = pytest.mark.skipif(not SCHEMAS.exists(), reason="Shopify's schemas are not here: make install")

SIZES: dict[str, dict[str, int]] = {
    "order_revisions": orders.ORDER_REVISIONS_SIZES,
    "order_by_id": orders.ORDER_BY_ID_SIZES,
    "refund_by_id": orders.REFUND_BY_ID_SIZES,
    "customers": {"first": 100},
    "webhook_subscriptions": {"first": 100},
    "bulk_operations": {"first": 10},
}
SENT = sorted(name for name, each in DOCUMENTS.items() if each.model is not Node)


def reckoned(document: Document[Any], sizes: Mapping[str, int]) -> int:
    """Return what the simulator would ask for: its reckoning knows the schema, and shares nothing with ours."""
    parsed = parse(document.text)
    operation = next(each for each in parsed.definitions if isinstance(each, OperationDefinitionNode))
    fragments = {each.name.value: each for each in parsed.definitions if isinstance(each, FragmentDefinitionNode)}
    definitions = operation.variable_definitions or ()
    fillers = {each.variable.name.value: filler(type_from_ast(schema(), each.type)) for each in definitions}
    values = get_variable_values(schema(), definitions, {**fillers, **sizes})
    assert not isinstance(values, list), values
    return cost_of(schema(), operation, fragments, values)


def filler(of: Any) -> Any:  # noqa: ANN401 - any input type, any JSON
    """Return some value of a type, with what must be there and nothing else."""
    if not isinstance(of, GraphQLNonNull):
        return None
    of = of.of_type
    if isinstance(of, GraphQLList):
        return []
    if isinstance(of, GraphQLEnumType):
        return next(iter(of.values))
    if isinstance(of, GraphQLInputObjectType):
        required = {name: each.type for name, each in of.fields.items() if isinstance(each.type, GraphQLNonNull)}
        return {name: filler(each) for name, each in required.items()}
    return VALUES[of.name]


@pytest.mark.conformance
@pytest.mark.parametrize("name", SENT)
def test_a_guess_is_never_too_low_and_not_far_too_high(name: str) -> None:
    sizes = SIZES.get(name, {})
    found, real = guess(DOCUMENTS[name], sizes), reckoned(DOCUMENTS[name], sizes)
    assert real <= found <= 2 * real + 15


@pytest.mark.conformance
@pytest.mark.parametrize("name", sorted(SIZES))
def test_the_usual_sizes_stay_below_what_a_single_query_may_cost(name: str) -> None:
    assert reckoned(DOCUMENTS[name], SIZES[name]) <= MOST


def test_what_shopify_asked_for_is_remembered_by_document_and_sizes() -> None:
    estimates = Estimates()
    small, large = {"first": 10, "query": "a"}, {"first": 100, "query": "b"}
    estimates.learn(DOCUMENTS["customers"], small, 37.0)
    assert estimates.estimate(DOCUMENTS["customers"], {"first": 10, "query": "another"}) == 37
    assert estimates.estimate(DOCUMENTS["customers"], large) == guess(DOCUMENTS["customers"], large)
    estimates.learn(DOCUMENTS["customers"], small, None)
    assert estimates.estimate(DOCUMENTS["customers"], small) == 37


def test_sizes_are_numbers_on_top_and_lists_at_any_depth_but_no_content() -> None:
    variables = {"first": 5, "test": True, "input": {"name": "x", "changes": [{"delta": 7}, {"delta": 8}]}}
    assert sizes_of(variables) == ((".first", 5), (".input.changes", 2))
