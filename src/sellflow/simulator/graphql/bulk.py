"""Bulk operations: a query without pages, carried out in the background, answered with a file of JSON lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    get_named_type,
    get_nullable_type,
    is_list_type,
    parse,
)

from sellflow.simulator.graphql import connections
from sellflow.simulator.graphql.connections import page
from sellflow.simulator.graphql.fields import (
    Call,
    Fields,
    Value,
    moment,
    moment_or_none,
    number_of,
    payload,
    refused,
    user_error,
)
from sellflow.simulator.graphql.records import BulkOperation
from sellflow.simulator.ids import gid
from sellflow.simulator.notices import Notice

# Shopify's bulk operations guide, for API versions since 2026-01.
MOST_AT_ONCE = 5
MOST_CONNECTIONS = 5
DEEPEST_NESTING = 2

Fragments = Mapping[str, FragmentDefinitionNode]

OPERATIONS: connections.Order[BulkOperation] = connections.Order(
    number=lambda found: found.id,
    keys={
        "CREATED_AT": lambda found: found.created_at,
        "COMPLETED_AT": lambda found: found.completed_at or found.created_at,
    },
    search={
        "id": lambda found: found.id,
        "status": lambda found: found.status.lower(),
        "created_at": lambda found: found.created_at,
        "completed_at": lambda found: found.completed_at,
        "operation_type": lambda _found: "query",
    },
)


def _own(call: Call) -> list[BulkOperation]:
    return [one for one in call.world.admin.bulk_operations.values() if one.client_id == call.world.client_id]


def find_operation(call: Call, identifier: str) -> BulkOperation | None:
    """Return the app's operation that an identifier names."""
    found = call.world.admin.bulk_operations.get(number_of(identifier, "BulkOperation"))
    return found if found and found.client_id == call.world.client_id else None


def all_operations(_source: object, call: Call) -> Value:
    """Resolve `bulkOperations`."""
    return page(_own(call), call, OPERATIONS)


def current(_source: object, call: Call) -> BulkOperation | None:
    """Resolve `currentBulkOperation`: the last one, running or not."""
    if call.argument("type") == "MUTATION":
        return None
    return next(reversed(_own(call)), None)


def run_query(_source: object, call: Call) -> Value:
    """Resolve `bulkOperationRunQuery`."""
    text = call.arguments["query"]
    complaints = _complaints(text) or call.world.check(text)
    if complaints:
        errors = [user_error(["query"], message, "INVALID") for message in complaints]
        return refused(*errors, bulkOperation=None)
    if sum(one.is_running for one in _own(call)) >= MOST_AT_ONCE:
        message = "Bulk operations limit reached. Please try again later."
        return refused(user_error(None, message, "LIMIT_REACHED"), bulkOperation=None)
    made = BulkOperation(call.world.shopify.ids(), call.world.client_id, text, call.world.now)
    call.world.admin.bulk_operations[made.id] = made
    call.world.begun.append(made)
    return payload(bulkOperation=made)


def cancel(_source: object, call: Call) -> Value:
    """Resolve `bulkOperationCancel`: it is cancelling until its next step."""
    found = find_operation(call, call.arguments["id"])
    if found is None:
        return refused(user_error(["id"], "Bulk operation does not exist"), bulkOperation=None)
    if not found.is_running:
        message = f"A bulk operation cannot be canceled when it is {found.status.lower()}"
        return refused(user_error(None, message), bulkOperation=found)
    found.status = "CANCELING"
    return payload(bulkOperation=found)


def finish_notice(operation: BulkOperation) -> Notice:
    """Return the webhook that tells of an operation's end."""
    body = {
        "admin_graphql_api_id": gid("BulkOperation", operation.id),
        "completed_at": moment_or_none(operation.completed_at),
        "created_at": moment(operation.created_at),
        "error_code": operation.error_code.lower() if operation.error_code else None,
        "status": operation.status.lower(),
        "type": "query",
    }
    return Notice("bulk_operations/finish", None, orjson.dumps(body))


def _complaints(text: str) -> list[str]:
    """Return which of a bulk query's own rules a query breaks; the schema's are checked elsewhere."""
    try:
        document = parse(text)
    except GraphQLError as error:
        return [f"Invalid bulk query: {error.message}"]
    operations = [found for found in document.definitions if isinstance(found, OperationDefinitionNode)]
    if len(operations) != 1 or operations[0].operation is not OperationType.QUERY:
        return ["Bulk queries must be exactly one query operation."]
    fragments = {found.name.value: found for found in document.definitions if isinstance(found, FragmentDefinitionNode)}
    roots = list(fields_of(operations[0].selection_set, fragments))
    if len(roots) != 1:
        return ["Bulk queries cannot contain multiple top level fields."]
    if roots[0].name.value in ("node", "nodes"):
        return ["Bulk queries cannot contain a top level `node` or `nodes` field."]
    return _connection_complaints(roots[0], fragments)


def within_lists(schema: GraphQLSchema, text: str) -> list[str]:
    """Return the connections of a query that holds which are within plain lists, such as a refund's lines."""
    document = parse(text)
    fragments = {found.name.value: found for found in document.definitions if isinstance(found, FragmentDefinitionNode)}
    operation = next(found for found in document.definitions if isinstance(found, OperationDefinitionNode))
    found = _listed(schema.query_type, operation.selection_set, fragments, is_in_list=False)
    return [node.name.value for node in found]


def _listed(
    kind: object, selected: SelectionSetNode | None, fragments: Fragments, *, is_in_list: bool
) -> Iterator[FieldNode]:
    known = getattr(kind, "fields", {})
    is_page = getattr(kind, "name", "").endswith("Connection")
    for node in fields_of(selected, fragments):
        definition = known.get(node.name.value)
        if definition is None:
            continue
        is_list = not is_page and is_list_type(get_nullable_type(definition.type))
        inner = get_named_type(definition.type)
        if is_in_list and inner.name.endswith("Connection"):
            yield node
        yield from _listed(inner, node.selection_set, fragments, is_in_list=is_in_list or is_list)


def _connection_complaints(root: FieldNode, fragments: Fragments) -> list[str]:
    found = list(_connections(root, fragments, 0))
    if not found:
        return ["Bulk queries must contain at least one connection."]
    complaints = []
    if len(found) > MOST_CONNECTIONS:
        complaints.append(f"Bulk queries cannot contain more than {MOST_CONNECTIONS} connections.")
    if max(depth for _, depth in found) > DEEPEST_NESTING:
        complaints.append(
            f"Bulk queries cannot contain connections with a nesting depth greater than {DEEPEST_NESTING}."
        )
    without_id = [node.name.value for node, _ in found if _lacks_id(node, fragments)]
    if without_id:
        complaints.append(
            "The parent 'node' field for a nested connection must select the 'id' field without an alias and must be "
            f"of 'ID' return type. Connection fields without 'id': {', '.join(without_id)}."
        )
    return complaints


def _connections(field: FieldNode, fragments: Fragments, depth: int) -> Iterator[tuple[FieldNode, int]]:
    """Yield connections with how many others they are within."""
    is_one = is_connection(field, fragments)
    if is_one:
        yield field, depth
    for inner in fields_of(field.selection_set, fragments):
        yield from _connections(inner, fragments, depth + is_one)


def _lacks_id(connection: FieldNode, fragments: Fragments) -> bool:
    """Whether a connection has others within but its nodes would be without the id that those refer to."""
    for selected in node_selections(connection, fragments):
        fields = list(fields_of(selected, fragments))
        nested = any(True for field in fields for _ in _connections(field, fragments, 0))
        if nested and not any(field.name.value == "id" and field.alias is None for field in fields):
            return True
    return False


def is_connection(field: FieldNode, fragments: Fragments) -> bool:
    """Whether a field is a connection, which shows in what is selected of it."""
    return any(inner.name.value in ("edges", "nodes") for inner in fields_of(field.selection_set, fragments))


def node_selections(connection: FieldNode, fragments: Fragments) -> Iterator[SelectionSetNode]:
    """Yield what is selected of a connection's nodes."""
    for field in fields_of(connection.selection_set, fragments):
        if field.name.value == "nodes" and field.selection_set:
            yield field.selection_set
        elif field.name.value == "edges":
            for inner in fields_of(field.selection_set, fragments):
                if inner.name.value == "node" and inner.selection_set:
                    yield inner.selection_set


def fields_of(selected: SelectionSetNode | None, fragments: Fragments) -> Iterator[FieldNode]:
    """Yield fields with those of fragments among them."""
    for node in selected.selections if selected else ():
        if isinstance(node, FieldNode):
            yield node
        elif isinstance(node, InlineFragmentNode):
            yield from fields_of(node.selection_set, fragments)
        elif isinstance(node, FragmentSpreadNode):
            yield from fields_of(fragments[node.name.value].selection_set, fragments)


def lines_of(data: object, selected: SelectionSetNode, fragments: Fragments) -> Iterator[tuple[Value, bool]]:
    """Yield the objects of an answer's root as the file has them, and whether each stands at the root."""
    assert isinstance(data, dict)
    for field in fields_of(selected, fragments):
        for node in _nodes(data, field, fragments):
            for place, line in enumerate(_flat(node, field, fragments, None)):
                yield line, place == 0


def _flat(node: Value, connection: FieldNode, fragments: Fragments, parent: object) -> Iterator[Value]:
    """Yield a node without its connections, then theirs, each with `__parentId`."""
    own: Value = {}
    nested: list[FieldNode] = []
    for selected in node_selections(connection, fragments):
        for field in fields_of(selected, fragments):
            name = field.alias.value if field.alias else field.name.value
            if is_connection(field, fragments):
                nested.append(field)
            elif name in node:
                own[name] = node[name]
    yield own if parent is None else {**own, "__parentId": parent}
    for field in nested:
        for child in _nodes(node, field, fragments):
            yield from _flat(child, field, fragments, node.get("id"))


def _nodes(data: Value, field: FieldNode, fragments: Fragments) -> list[Value]:
    name = field.alias.value if field.alias else field.name.value
    found: Any = data.get(name)
    if not isinstance(found, dict):
        return []
    if not is_connection(field, fragments):
        return [inner for one in fields_of(field.selection_set, fragments) for inner in _nodes(found, one, fragments)]
    for inner in fields_of(field.selection_set, fragments):
        key = inner.alias.value if inner.alias else inner.name.value
        if inner.name.value == "nodes":
            return list(found[key])
        if inner.name.value == "edges":
            return [edge["node"] for edge in found[key]]
    return []


OPERATION: Fields[BulkOperation] = {
    "id": lambda found, _: gid("BulkOperation", found.id),
    "status": lambda found, _: found.status,
    "type": lambda _found, _: "QUERY",
    "query": lambda found, _: found.query,
    "createdAt": lambda found, _: moment(found.created_at),
    "completedAt": lambda found, _: moment_or_none(found.completed_at),
    "errorCode": lambda found, _: found.error_code,
    "objectCount": lambda found, _: f"{found.objects}",
    "rootObjectCount": lambda found, _: f"{found.roots}",
    "fileSize": lambda found, _: None if found.file_size is None else f"{found.file_size}",
    "url": lambda found, _: found.url if found.status == "COMPLETED" else None,
    "partialDataUrl": lambda found, _: found.url if found.status in ("CANCELED", "FAILED") else None,
}

FIELDS: Mapping[str, Fields[Any]] = {"BulkOperation": OPERATION}
