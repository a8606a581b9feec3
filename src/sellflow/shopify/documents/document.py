"""A document: the text of a `.graphql` file of this folder, and the model that its answer is read into."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel

if TYPE_CHECKING:
    from graphql import ValueNode, VariableNode

T = TypeVar("T", bound=BaseModel)

#: The variable of every document whose mutation is `@idempotent`: the client fills it in.
KEY_VARIABLE = "idempotencyKey"


@dataclass(frozen=True)
class Document(Generic[T]):
    """One operation, called as its file is; `fragments` names the files that its fragments are in.

    Where the whole of an answer may be asked for again without harm, it is a query; a mutation is sent by a stored
    call alone (see `sellflow.shopify.admin.stored_calls`).
    """

    name: str
    model: type[T]
    fragments: tuple[str, ...] = ()

    @cached_property
    def text(self) -> str:
        """The operation and its fragments, as they are sent."""
        return "\n".join(_read(name) for name in (self.name, *self.fragments))

    @cached_property
    def is_mutation(self) -> bool:
        """Whether it changes anything."""
        return re.search(r"^mutation\b", self.text, re.MULTILINE) is not None

    @cached_property
    def is_idempotent(self) -> bool:
        """Whether Shopify knows a call that comes twice by its key."""
        return "@idempotent(" in self.text

    def written_out(self, variables: Mapping[str, object]) -> str:
        """Return the text with the variables' values in their places: what is run in bulk may have no variables."""
        return _write_out(self.text, variables)


def _read(name: str) -> str:
    """Return a file without its comments: they are for readers, and each byte is sent with every call."""
    text = files(__package__).joinpath(f"{name}.graphql").read_text(encoding="utf-8")
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def _write_out(text: str, variables: Mapping[str, object]) -> str:
    from graphql import REMOVE, OperationDefinitionNode, Visitor, parse, parse_value, print_ast, visit  # noqa: PLC0415

    class WriteOut(Visitor):
        def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:  # noqa: ANN401
            for each in node.variable_definitions or ():
                if each.variable.name.value not in variables:
                    raise KeyError(f"${each.variable.name.value} has no value to be written out")

        def enter_variable_definition(self, *_: Any) -> Any:  # noqa: ANN401
            return REMOVE

        def enter_variable(self, node: VariableNode, *_: Any) -> ValueNode:  # noqa: ANN401
            # JSON is GraphQL's own notation for strings, numbers and lists; no document takes an object in bulk.
            return parse_value(json.dumps(variables[node.name.value]))

    return print_ast(visit(parse(text), WriteOut()))
