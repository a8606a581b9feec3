"""The real Admin schema of the pinned version, and what a document must be to be sent against it."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLEnumType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLUnionType,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    VariableNode,
    build_client_schema,
    parse,
    validate,
)
from graphql.validation import NoDeprecatedCustomRule

from sellflow.settings import load_settings
from sellflow.shopify.documents.document import KEY_VARIABLE

SCHEMAS = Path(__file__).parents[2] / ".cache" / "shopify-schemas"

#: How the schema's descriptions say that a mutation needs a key, and from which version on.
REQUIRED_SINCE = re.compile(r"As of (?:version )?`?(\d{4}-\d{2})`?,\s+the\s+idempotency\s+key\s+is\s+required")
SUPPORTED = re.compile(r"idempotency\s+key\s+using\s+the\s+`@idempotent`\s+directive")

VALUES: dict[str, object] = {
    "ID": "gid://shopify/Thing/42",
    "String": "words",
    "Int": 7,
    "Float": 0.5,
    "Boolean": True,
    "UnsignedInt64": "42",
    "DateTime": "2026-10-01T12:00:00Z",
    "Date": "2026-10-01",
    "Decimal": "12.50",
    "Money": "12.50",
    "URL": "https://shop.example/page",
}


@cache
def schema() -> GraphQLSchema:
    version = load_settings().shopify_api_version
    with gzip.open(SCHEMAS / f"admin_{version}.json.gz") as file:
        return build_client_schema(json.load(file)["data"], assume_valid=True)


def complaints(text: str) -> list[str]:
    """Say what is wrong with a document: against the schema, deprecated, or without the key that it needs."""
    document = parse(text)
    wrong = [error.message for error in validate(schema(), document)]
    wrong += [error.message for error in validate(schema(), document, [NoDeprecatedCustomRule])]
    return wrong + list(_idempotency(document))


def needs_key(mutation: str) -> bool:
    """Whether the schema's text says that a mutation must carry an idempotency key in the pinned version."""
    since = REQUIRED_SINCE.search(_description(mutation))
    return since is not None and since[1] <= load_settings().shopify_api_version


def takes_key(mutation: str) -> bool:
    """Whether the schema's text says that it may carry one."""
    return SUPPORTED.search(_description(mutation)) is not None


def mutations() -> dict[str, str]:
    """Every mutation with its description."""
    root = schema().mutation_type
    assert root
    return {name: _description(name) for name in root.fields}


def _description(mutation: str) -> str:
    root = schema().mutation_type
    assert root
    return root.fields[mutation].description or "" if mutation in root.fields else ""


def _idempotency(document: DocumentNode) -> Iterator[str]:
    for operation in document.definitions:
        if not isinstance(operation, OperationDefinitionNode) or operation.operation is not OperationType.MUTATION:
            continue
        for field in operation.selection_set.selections:
            assert isinstance(field, FieldNode)
            yield from _idempotency_of(field)


def _idempotency_of(field: FieldNode) -> Iterator[str]:
    name = field.name.value
    keys = [(each.arguments or ())[0].value for each in field.directives or () if each.name.value == "idempotent"]
    if needs_key(name) and not keys:
        yield f"{name} needs @idempotent(key: ${KEY_VARIABLE}): the schema says so"
    if keys and not takes_key(name):
        yield f"{name} does not document that it supports @idempotent"
    if any(not isinstance(key, VariableNode) or key.name.value != KEY_VARIABLE for key in keys):
        yield f"the key of {name} must be ${KEY_VARIABLE}, which the client fills in"


def answer_to(text: str, *, full: bool) -> dict[str, Any]:
    """Return an answer to a document, as the schema shapes it: with all there, or with nothing that may lack."""
    document = parse(text)
    operation = next(each for each in document.definitions if isinstance(each, OperationDefinitionNode))
    fragments = {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}
    root = schema().get_root_type(operation.operation)
    assert root
    return _object(root, operation.selection_set.selections, fragments, full=full)


def _object(
    parent: GraphQLObjectType,
    selections: Sequence[SelectionNode],
    fragments: dict[str, FragmentDefinitionNode],
    *,
    full: bool,
) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for each in selections:
        if isinstance(each, FieldNode):
            made[(each.alias or each.name).value] = _value(
                parent.fields[each.name.value].type, each, fragments, full=full
            )
            continue
        inner = fragments[each.name.value] if hasattr(each, "name") else each
        if full or inner.type_condition.name.value == parent.name:  # type: ignore[union-attr]
            of = schema().type_map[inner.type_condition.name.value]  # type: ignore[union-attr]
            assert isinstance(of, GraphQLObjectType)
            made |= _object(of, inner.selection_set.selections, fragments, full=full)  # type: ignore[union-attr]
    return made


def _value(
    of: GraphQLOutputType, field: FieldNode, fragments: dict[str, FragmentDefinitionNode], *, full: bool
) -> object:
    if isinstance(of, GraphQLNonNull):
        return _present(of.of_type, field, fragments, full=full)
    return _present(of, field, fragments, full=full) if full else None


def _present(
    of: GraphQLOutputType, field: FieldNode, fragments: dict[str, FragmentDefinitionNode], *, full: bool
) -> object:
    if isinstance(of, GraphQLList):
        return [_value(of.of_type, field, fragments, full=full)] if full else []
    if isinstance(of, GraphQLEnumType):
        return next(name for name, value in of.values.items() if not value.deprecation_reason)
    if isinstance(of, GraphQLUnionType | GraphQLInterfaceType):
        of = schema().get_possible_types(of)[0]
    if isinstance(of, GraphQLObjectType):
        assert field.selection_set
        return _object(of, field.selection_set.selections, fragments, full=full)
    assert isinstance(of, GraphQLScalarType)
    return VALUES[of.name]


def keys_of(value: object) -> object:
    """Return the names in a JSON value, without what they hold."""
    if isinstance(value, dict):
        return {name: keys_of(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [keys_of(inner) for inner in value]
    return None
