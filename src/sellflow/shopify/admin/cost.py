"""How many points a call will ask for: as Shopify told of one like it, or a guess from the document.

The guess follows what Shopify documents of costs (https://shopify.dev/docs/apps/build/apis/graphql-admin/rate-limits):
an object is 1, a scalar nothing, a mutation 10, a connection as large as its `first` or `last`. It serves until the
first answer, and is on the high side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sellflow.shopify.documents.document import Document

if TYPE_CHECKING:
    from graphql import DocumentNode, FieldNode, FragmentDefinitionNode, SelectionSetNode

OF_MUTATION = 10.0
#: What a connection costs beside its nodes, and how many nodes it has where nothing says so.
OF_CONNECTION = 2.0
USUAL_SIZE = 50.0
#: No single query may cost more.
MOST = 1000.0
#: Calls of one kind and size that are remembered; the rest is guessed again.
MOST_KINDS = 2000

Sizes = tuple[tuple[str, int], ...]


class Estimates:
    """What calls cost, by document and the sizes in their variables: all that the price of a query depends on."""

    def __init__(self) -> None:
        self._learned: dict[tuple[str, Sizes], float] = {}

    def estimate(self, document: Document[Any], variables: Mapping[str, object]) -> float:
        """Return the points to reserve for a call."""
        learned = self._learned.get((document.name, sizes_of(variables)))
        return guess(document, variables) if learned is None else learned

    def learn(self, document: Document[Any], variables: Mapping[str, object], requested: float | None) -> None:
        """Remember what Shopify asked for a call; the newest word holds, as prices change."""
        if requested is None or len(self._learned) > MOST_KINDS:
            return
        self._learned[document.name, sizes_of(variables)] = requested


def sizes_of(variables: Mapping[str, object]) -> Sizes:
    """Return the numbers of variables, and the lengths of lists at any depth: what a price can depend on."""
    return tuple(sorted(_sizes("", variables)))


def _sizes(name: str, value: object) -> Iterator[tuple[str, int]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _sizes(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple):
        yield name, len(value)
    elif isinstance(value, int) and not isinstance(value, bool) and "." not in name[1:]:
        yield name, value


def guess(document: Document[Any], variables: Mapping[str, object]) -> float:
    """Return what a call will probably ask for, by its text alone: without the schema, every list is one object."""
    from graphql import FragmentDefinitionNode, OperationDefinitionNode  # noqa: PLC0415

    parsed = _parsed(document.text)
    operation = next(each for each in parsed.definitions if isinstance(each, OperationDefinitionNode))
    fragments = {each.name.value: each for each in parsed.definitions if isinstance(each, FragmentDefinitionNode)}
    points = _of_selection(operation.selection_set, fragments, variables)
    return min(points + (OF_MUTATION if document.is_mutation else 0), MOST)


@lru_cache(maxsize=200)
def _parsed(text: str) -> DocumentNode:
    from graphql import parse  # noqa: PLC0415 - of all processes, only those that call Shopify need it

    return parse(text, no_location=True)


def _of_selection(
    selected: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode], variables: Mapping[str, object]
) -> float:
    from graphql import FieldNode, FragmentSpreadNode, InlineFragmentNode  # noqa: PLC0415

    points = 0.0
    for each in selected.selections:
        if isinstance(each, FieldNode):
            points += _of_field(each, fragments, variables)
        elif isinstance(each, FragmentSpreadNode):
            points += _of_selection(fragments[each.name.value].selection_set, fragments, variables)
        elif isinstance(each, InlineFragmentNode):
            points += _of_selection(each.selection_set, fragments, variables)
    return points


def _of_field(
    field: FieldNode, fragments: Mapping[str, FragmentDefinitionNode], variables: Mapping[str, object]
) -> float:
    if field.selection_set is None:
        return 0.0
    size = _size(field, variables)
    within = _of_selection(field.selection_set, fragments, variables)
    names = {getattr(getattr(each, "name", None), "value", "") for each in field.selection_set.selections}
    if names & {"nodes", "edges"}:
        # `nodes { … }` counts as one object already, of each of which there are so many.
        return OF_CONNECTION + (USUAL_SIZE if size is None else size) * within
    return (1.0 if size is None else size) * (1.0 + within)


def _size(field: FieldNode, variables: Mapping[str, object]) -> float | None:
    """Return the `first` or `last` of a field."""
    from graphql import IntValueNode, VariableNode  # noqa: PLC0415

    for each in field.arguments or ():
        if each.name.value not in {"first", "last"}:
            continue
        if isinstance(each.value, IntValueNode):
            return float(each.value.value)
        if isinstance(each.value, VariableNode):
            value = variables.get(each.value.name.value)
            return float(value) if isinstance(value, int) else USUAL_SIZE
    return None
