"""Input arrays of 250 entries at most (shopify.dev, Shopify API limits)."""

from __future__ import annotations

from collections.abc import Mapping

from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    visit,
)
from graphql.execution.values import VariableValues, get_argument_values

ARRAY_LIMIT = 250


def check_arrays(
    schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode, variables: VariableValues
) -> None:
    """Refuse arguments that hold too long an array.

    Raises
    ------
    GraphQLError
        With the code MAX_INPUT_SIZE_EXCEEDED.
    """
    info = TypeInfo(schema)
    visitor = TypeInfoVisitor(info, _Arrays(info, variables))
    visit(operation, visitor)
    for definition in document.definitions:
        if not isinstance(definition, OperationDefinitionNode):
            visit(definition, visitor)


class _Arrays(Visitor):
    def __init__(self, info: TypeInfo, variables: VariableValues) -> None:
        super().__init__()
        self._info = info
        self._variables = variables

    def enter_field(self, node: FieldNode, *_: object) -> None:
        definition = self._info.get_field_def()
        if definition is None or not node.arguments:
            return
        arguments = get_argument_values(definition, node, self._variables)
        _check(arguments, [node.name.value], node)


def _check(value: object, path: list[str], node: FieldNode) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check(inner, [*path, name], node)
    elif isinstance(value, list):
        if len(value) > ARRAY_LIMIT:
            raise GraphQLError(
                f"The input array size of {len(value)} is greater than the maximum allowed of {ARRAY_LIMIT}.",
                node,
                path=path,
                extensions={"code": "MAX_INPUT_SIZE_EXCEEDED"},
            )
        for place, inner in enumerate(value):
            _check(inner, [*path, f"{place}"], node)
