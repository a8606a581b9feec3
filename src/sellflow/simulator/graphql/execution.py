"""Carrying out documents: parsed, checked against the whole schema and against what is simulated, then resolved."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLAbstractType,
    GraphQLError,
    GraphQLResolveInfo,
    OperationDefinitionNode,
    OperationType,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    execute_sync,
    get_operation_ast,
    parse,
    validate,
    visit,
)
from graphql.execution.values import VariableValues, get_argument_values, get_directive_values, get_variable_values

from sellflow.simulator.graphql.cost import cost_of
from sellflow.simulator.graphql.fields import Call, NotSimulatedError, World, bad_request, user_error
from sellflow.simulator.graphql.idempotency import Attempt, Conflict
from sellflow.simulator.graphql.limits import check_arrays
from sellflow.simulator.graphql.registry import build_types, type_name
from sellflow.simulator.graphql.schema import AdminSchema

DOCUMENTS_KEPT = 256
# Checking a document takes time by the square of its fields. Shopify has a limit, too, and does not publish it.
MOST_TOKENS = 10_000
NEEDS_KEY = "The @idempotent directive is required for this mutation but was not provided."


class RefusedDocumentError(Exception):
    """A document that cannot be executed; `errors` say why."""

    def __init__(self, errors: list[GraphQLError]) -> None:
        super().__init__(f"{errors[0].message}")
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document that holds against the schema."""

    document: DocumentNode
    fragments: Mapping[str, FragmentDefinitionNode]


@dataclass(frozen=True, slots=True)
class Keyed:
    """A mutation's field with its idempotency key; `fingerprint` stands for what it was asked."""

    response_name: str
    field: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Plan:
    """One operation, ready to be carried out."""

    prepared: Prepared
    operation: OperationDefinitionNode
    variables: Mapping[str, Any]
    coerced: VariableValues
    requested: int
    keyed: tuple[Keyed, ...]

    @property
    def name(self) -> str:
        """What the journal calls it: its own name, or its first field's."""
        return self.operation.name.value if self.operation.name else self.roots[0]

    @property
    def roots(self) -> tuple[str, ...]:
        """The names of the fields at its root."""
        selected = self.operation.selection_set.selections
        return tuple(node.name.value for node in selected if isinstance(node, FieldNode)) or ("anonymous",)


class Engine:
    """Executes over the schema; documents that came before are not checked again."""

    def __init__(self, loaded: AdminSchema) -> None:
        self.schema = loaded.schema
        self.types = build_types()
        self._needs_key = loaded.needs_key
        self._prepared: OrderedDict[str, Prepared] = OrderedDict()

    def prepare(self, text: str) -> Prepared:
        """Return a document that holds.

        Raises
        ------
        RefusedDocumentError
            If it is no GraphQL, breaks the schema, or asks for what is not simulated.
        """
        known = self._prepared.get(text)
        if known is not None:
            self._prepared.move_to_end(text)
            return known
        try:
            document = parse(text, max_tokens=MOST_TOKENS)
        except GraphQLError as error:
            raise RefusedDocumentError([error]) from error
        if errors := validate(self.schema, document) or self._not_simulated(document):
            raise RefusedDocumentError(errors)
        fragments = {
            found.name.value: found for found in document.definitions if isinstance(found, FragmentDefinitionNode)
        }
        self._prepared[text] = Prepared(document, fragments)
        if len(self._prepared) > DOCUMENTS_KEPT:
            self._prepared.popitem(last=False)
        return self._prepared[text]

    def plan(self, prepared: Prepared, operation_name: str | None, variables: Mapping[str, Any]) -> Plan:
        """Return an operation with its variables and its requested cost.

        Raises
        ------
        RefusedDocumentError
            If there is no such operation, its variables do not fit, an array is too long or a key is missing.
        """
        operation = get_operation_ast(prepared.document, operation_name)
        if operation is None:
            message = f'No operation named "{operation_name}"' if operation_name else "An operation name is required"
            raise RefusedDocumentError([bad_request(message)])
        coerced = get_variable_values(self.schema, operation.variable_definitions or (), dict(variables))
        if isinstance(coerced, list):
            raise RefusedDocumentError([_invalid_variable(error) for error in coerced])
        try:
            check_arrays(self.schema, prepared.document, operation, coerced)
            keyed = tuple(self._keyed(operation, coerced))
            requested = cost_of(self.schema, operation, prepared.fragments, coerced)
        except GraphQLError as error:
            raise RefusedDocumentError([error]) from error
        return Plan(prepared, operation, variables, coerced, requested, keyed)

    def execute(self, plan: Plan, world: World, attempts: Mapping[str, Attempt | Conflict]) -> ExecutionResult:
        """Carry out an operation; `attempts` says how the keys of its mutations may be used."""
        return execute_sync(
            self.schema,
            plan.prepared.document,
            context_value=_Run(world, attempts, self),
            variable_values=dict(plan.variables),
            operation_name=plan.operation.name.value if plan.operation.name else None,
            field_resolver=_resolve,
            type_resolver=_resolve_type,
        )

    def actual_cost(self, plan: Plan, data: object) -> int:
        """Return what an answer cost, never more than what was requested."""
        actual = cost_of(self.schema, plan.operation, plan.prepared.fragments, plan.coerced, data)
        return min(plan.requested, actual)

    def _keyed(self, operation: OperationDefinitionNode, coerced: VariableValues) -> Iterator[Keyed]:
        directive = self.schema.get_directive("idempotent")
        if operation.operation is not OperationType.MUTATION or directive is None:
            return
        assert self.schema.mutation_type is not None
        for node in operation.selection_set.selections:
            if not isinstance(node, FieldNode) or node.name.value not in self.schema.mutation_type.fields:
                continue
            found = get_directive_values(directive, node, coerced)
            if found is None:
                if node.name.value in self._needs_key:
                    raise GraphQLError(NEEDS_KEY, node, extensions={"code": "BAD_REQUEST"})
                continue
            if not found["key"].strip():
                message = "The idempotency key cannot be an empty string or whitespace only."
                raise GraphQLError(message, node, extensions={"code": "BAD_REQUEST"})
            arguments = get_argument_values(self.schema.mutation_type.fields[node.name.value], node, coerced)
            name = node.alias.value if node.alias else node.name.value
            yield Keyed(name, node.name.value, found["key"], f"{node.name.value} {_canonical(arguments)}")

    def _not_simulated(self, document: DocumentNode) -> list[GraphQLError]:
        """Find what is asked for in vain before anything is done: a mutation must not succeed and then complain."""
        info = TypeInfo(self.schema)
        finder = _NotSimulated(info, self)
        visit(document, TypeInfoVisitor(info, finder))
        return finder.errors


class _NotSimulated(Visitor):
    def __init__(self, info: TypeInfo, engine: Engine) -> None:
        super().__init__()
        self.errors: list[GraphQLError] = []
        self._info = info
        self._fields = engine.types.fields

    def enter_field(self, node: FieldNode, *_: object) -> None:
        """Look a field up among the simulated ones of its type, where the type has a table."""
        parent = self._info.get_parent_type()
        table = self._fields.get(parent.name) if parent else None
        name = node.name.value
        if parent is None or table is None or name in table or name.startswith("__"):
            return
        error = NotSimulatedError(f"{parent.name}.{name}")
        self.errors.append(GraphQLError(error.message, node, extensions=error.extensions))


@dataclass(frozen=True, slots=True)
class _Run:
    world: World
    attempts: Mapping[str, Attempt | Conflict]
    engine: Engine


def _resolve(source: object, info: GraphQLResolveInfo[_Run], **arguments: Any) -> object:  # noqa: ANN401 - by the schema
    run = info.context
    parent, name = info.parent_type.name, info.field_name
    if isinstance(source, Mapping):
        if name not in source:
            raise NotSimulatedError(f"{parent}.{name}")
        return source[name]
    resolver = run.engine.types.fields.get(parent, {}).get(name)
    if resolver is None:
        raise NotSimulatedError(f"{parent}.{name}")
    call = Call(run.world, arguments, is_root=info.path.prev is None)
    attempt = run.attempts.get(f"{info.path.key}") if parent == "Mutation" else None
    if attempt is None:
        return resolver(source, call)
    return _once(attempt, resolver(source, call) if _is_to_run(attempt) else None)


def _is_to_run(attempt: Attempt | Conflict) -> bool:
    return isinstance(attempt, Attempt) and not attempt.is_done


def _once(attempt: Attempt | Conflict, result: object) -> object:
    """Return a mutation's payload: the one it has now, the one it had, or why it has none."""
    if isinstance(attempt, Conflict):
        return _Refusal(attempt)
    if not attempt.is_done:
        attempt.finish(result)
    return attempt.result


class _Refusal(dict[str, object]):
    """A payload with nothing but the complaint about its idempotency key."""

    def __init__(self, conflict: Conflict) -> None:
        super().__init__(userErrors=[user_error(None, conflict.message, conflict.value)])

    def __contains__(self, _name: object) -> bool:
        return True

    def __missing__(self, _name: str) -> None:
        return None


def _resolve_type(value: object, info: GraphQLResolveInfo[_Run], abstract: GraphQLAbstractType) -> str:
    run = info.context
    name = type_name(value, run.engine.types)
    if name is None:
        raise NotSimulatedError(f"{type(value).__name__} as {abstract.name}")
    return name


def _canonical(value: object) -> str:
    """Write arguments so that equal ones read equal: the order of an object's fields does not count."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_canonical(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    return repr(value)


def _invalid_variable(error: GraphQLError) -> GraphQLError:
    return GraphQLError(error.message, error.nodes, extensions={"code": "INVALID_VARIABLE"})
