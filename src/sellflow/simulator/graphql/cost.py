"""What a query costs: Shopify's published table, and what it leaves open decided once (docs/decisions/0021).

The table (shopify.dev, GraphQL Admin API rate limits): scalars and enums cost 0, objects 1, interfaces and unions
as much as their most expensive selection, connections are sized by `first` and `last`, mutations cost 10.

Before execution a query is costed by what it asks for, afterwards by what came back; this is one walk, over the
document alone or over document and data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLIncludeDirective,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLSkipDirective,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
    get_named_type,
    get_nullable_type,
    is_abstract_type,
    is_leaf_type,
    is_list_type,
    is_object_type,
)
from graphql.execution.values import VariableValues, get_argument_values, get_directive_values

MUTATION = 10
# A connection's own price, besides its nodes: Shopify's engineers give it in their article on calculated query cost.
CONNECTION = 2

#: Stands for data that is not there yet.
UNKNOWN: Final = object()

Fragments = Mapping[str, FragmentDefinitionNode]
Arguments = Mapping[str, Any]


def cost_of(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    fragments: Fragments,
    variables: VariableValues,
    data: object = UNKNOWN,
) -> int:
    """Return an operation's requested cost, or with the `data` of its answer the actual one."""
    walk = _Walk(schema, fragments, variables)
    if operation.operation is OperationType.MUTATION:
        return walk.mutations(schema.mutation_type, operation.selection_set, data)
    return walk.selections(schema.query_type, [operation.selection_set], data)


class _Walk:
    def __init__(self, schema: GraphQLSchema, fragments: Fragments, variables: VariableValues) -> None:
        self._schema = schema
        self._fragments = fragments
        self._variables = variables

    def mutations(self, root: GraphQLObjectType | None, selected: SelectionSetNode, data: object) -> int:
        """Return 10 for each mutation, or what its payload selects where that is more."""
        assert root is not None
        total = 0
        for name, nodes in self._collect(root, [selected]).items():
            of_payload = self._field(root, nodes, _at(data, name))
            total += max(MUTATION, of_payload) if of_payload or nodes[0].name.value in root.fields else 0
        return total

    def selections(self, kind: GraphQLNamedType | None, sets: Sequence[SelectionSetNode], data: object) -> int:
        """Return the cost of what is selected of an object; of an abstract type, the most expensive selection."""
        assert kind is not None
        if is_object_type(kind):
            return self._object(kind, sets, data)
        return max(self._object(one, sets, data) for one in {kind, *self._conditions(sets)})

    def _object(self, kind: GraphQLNamedType, sets: Sequence[SelectionSetNode], data: object) -> int:
        return sum(self._field(kind, nodes, _at(data, name)) for name, nodes in self._collect(kind, sets).items())

    def _field(self, parent: GraphQLNamedType, nodes: list[FieldNode], data: object) -> int:
        definition = self._definition(parent, nodes[0])
        if definition is None or is_leaf_type(kind := get_named_type(definition.type)):
            return 0
        sets = [node.selection_set for node in nodes if node.selection_set]
        arguments = get_argument_values(definition, nodes[0], self._variables)
        if kind.name.endswith("Connection"):
            return self._connection(kind, sets, data, arguments)
        if is_list_type(get_nullable_type(definition.type)):
            return self._list(kind, sets, data, arguments)
        return 1 if data is None else 1 + self.selections(kind, sets, data)

    def _list(self, kind: GraphQLNamedType, sets: list[SelectionSetNode], data: object, arguments: Arguments) -> int:
        """Return the cost of a plain list: sized by `first` or by the ids asked for, else the price of one object."""
        if data is UNKNOWN:
            size = arguments.get("first") or len(arguments.get("ids", ())) or 1
            return cast("int", size) * (1 + self.selections(kind, sets, UNKNOWN))
        found = data if isinstance(data, list) else []
        return sum(1 if item is None else 1 + self.selections(kind, sets, item) for item in found)

    def _connection(
        self, kind: GraphQLNamedType, sets: list[SelectionSetNode], data: object, arguments: Arguments
    ) -> int:
        if data is None:
            return CONNECTION
        size = arguments.get("first") or arguments.get("last") or 0
        total = CONNECTION
        for name, nodes in self._collect(kind, sets).items():
            definition = self._definition(kind, nodes[0])
            if definition is None or is_leaf_type(get_named_type(definition.type)):
                continue
            if nodes[0].name.value in ("nodes", "edges"):
                items = [UNKNOWN] * size if data is UNKNOWN else _at(data, name)
                total += self._items(definition, nodes, cast("list[object]", items))
            else:
                total += self._field(kind, nodes, _at(data, name))
        return total

    def _items(self, definition: GraphQLField, nodes: list[FieldNode], items: list[object]) -> int:
        """Return the cost of a connection's nodes, which are all that `edges` cost, too."""
        kind = get_named_type(definition.type)
        sets = [node.selection_set for node in nodes if node.selection_set]
        if nodes[0].name.value == "nodes":
            return self._each(kind, sets, items)
        total = 0
        for name, inner in self._collect(kind, sets).items():
            if inner[0].name.value == "node":
                inner_sets = [node.selection_set for node in inner if node.selection_set]
                node_type = get_named_type(cast("GraphQLObjectType", kind).fields["node"].type)
                total += self._each(node_type, inner_sets, [_at(item, name) for item in items])
        return total

    def _each(self, kind: GraphQLNamedType, sets: list[SelectionSetNode], items: list[object]) -> int:
        if items and items[0] is UNKNOWN:
            return len(items) * (1 + self.selections(kind, sets, UNKNOWN))
        return sum(1 + self.selections(kind, sets, item) for item in items if item is not None)

    def _definition(self, parent: GraphQLNamedType, node: FieldNode) -> GraphQLField | None:
        """Return a field's definition; introspection has none here, and is free."""
        fields: Mapping[str, GraphQLField] = getattr(parent, "fields", {})
        return fields.get(node.name.value)

    def _collect(self, kind: GraphQLNamedType, sets: Iterable[SelectionSetNode]) -> dict[str, list[FieldNode]]:
        """Return the fields selected of an object of type `kind`, those of one name in the answer together."""
        found: dict[str, list[FieldNode]] = {}
        for selected in sets:
            for node in self._flat(kind, selected.selections):
                found.setdefault(node.alias.value if node.alias else node.name.value, []).append(node)
        return found

    def _flat(self, kind: GraphQLNamedType, nodes: Iterable[SelectionNode]) -> Iterable[FieldNode]:
        for node in nodes:
            if not self._is_included(node):
                continue
            if isinstance(node, FieldNode):
                yield node
            elif self._applies(kind, fragment := self._fragment(node)):
                yield from self._flat(kind, fragment.selection_set.selections)

    def _fragment(self, node: SelectionNode) -> InlineFragmentNode | FragmentDefinitionNode:
        if isinstance(node, FragmentSpreadNode):
            return self._fragments[node.name.value]
        assert isinstance(node, InlineFragmentNode)
        return node

    def _applies(self, kind: GraphQLNamedType, fragment: InlineFragmentNode | FragmentDefinitionNode) -> bool:
        condition = fragment.type_condition
        if condition is None or condition.name.value == kind.name:
            return True
        wanted = self._schema.get_type(condition.name.value)
        return wanted is not None and is_abstract_type(wanted) and self._schema.is_sub_type(wanted, cast("Any", kind))

    def _conditions(self, sets: Iterable[SelectionSetNode]) -> set[GraphQLNamedType]:
        """Return the types that fragments within `sets` name."""
        found: set[GraphQLNamedType] = set()
        for selected in sets:
            for node in selected.selections:
                if isinstance(node, FieldNode):
                    continue
                fragment = self._fragment(node)
                if fragment.type_condition and (kind := self._schema.get_type(fragment.type_condition.name.value)):
                    found.add(kind)
                found |= self._conditions([fragment.selection_set])
        return found

    def _is_included(self, node: SelectionNode) -> bool:
        skip = get_directive_values(GraphQLSkipDirective, node, self._variables)
        include = get_directive_values(GraphQLIncludeDirective, node, self._variables)
        return not (skip and skip["if"]) and not (include and not include["if"])


def _at(data: object, name: str) -> object:
    """Return what an answer holds under `name`, UNKNOWN where there is no answer yet."""
    if data is UNKNOWN:
        return UNKNOWN
    return data.get(name) if isinstance(data, dict) else None
