"""What every resolver shares: the call it answers, and how a type's fields are tabled.

A type of the schema is a table of its simulated fields. What is not in a table is not simulated, and whoever asks
for it is told so: nothing is answered with a silent null. Values that only one call makes, such as a mutation's
payload, are mappings of their fields instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias, TypeVar

from graphql import GraphQLError

from sellflow.simulator.backend import Shopify
from sellflow.simulator.graphql.records import BulkOperation
from sellflow.simulator.graphql.shops import AdminShop, Lane
from sellflow.simulator.models import Shop
from sellflow.simulator.notices import Notice

Source = TypeVar("Source")
Arguments = Mapping[str, Any]  # what GraphQL coerced by the schema
Value = dict[str, object]


@dataclass(slots=True)
class Window:
    """The part of a root connection, kept in `items`, that one step of a bulk operation reads."""

    start: int
    size: int
    is_last: bool = True
    items: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class Types:
    """The simulated types: their fields by name, the names of what stands for them, and who finds one by its id."""

    fields: Mapping[str, Mapping[str, Callable[[Any, Call], object]]]
    names: Mapping[type, str]
    finders: Mapping[str, Callable[[Call, str], object]]


@dataclass(slots=True)
class World:
    """What a request may see and change.

    `check` says what speaks against a bulk query. The webhooks that the request causes gather in `notices`, and the
    bulk operations that it starts in `begun`.
    """

    types: Types
    shopify: Shopify
    domain: str
    admin: AdminShop
    lane: Lane
    client_id: str
    scopes: tuple[str, ...]
    base_url: str
    now: datetime
    check: Callable[[str], list[str]]
    is_bulk: bool = False
    window: Window | None = None
    notices: list[Notice] = field(default_factory=list)
    begun: list[BulkOperation] = field(default_factory=list)

    @property
    def shop(self) -> Shop:
        """The shop whose API it is."""
        return self.shopify.shop(self.domain)


@dataclass(frozen=True, slots=True)
class Call:
    """One field being resolved."""

    world: World
    arguments: Arguments
    is_root: bool = False

    def argument(self, name: str) -> Any:  # noqa: ANN401 - typed by the schema
        """Return an argument, None where it is left out."""
        return self.arguments.get(name)


Resolver: TypeAlias = Callable[[Source, Call], object]
Fields: TypeAlias = Mapping[str, Resolver[Source]]


class NotSimulatedError(GraphQLError):
    """A field, type or argument of the schema that the simulator does not know."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not simulated", extensions={"code": "NOT_SIMULATED"})


def bad_request(message: str, code: str = "BAD_REQUEST") -> GraphQLError:
    """Return an error of the request's own making."""
    return GraphQLError(message, extensions={"code": code})


def moment(at: datetime) -> str:
    """Write a `DateTime`: UTC at seconds, such as `2026-11-22T13:17:32Z`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment_or_none(at: datetime | None) -> str | None:
    """Write a `DateTime` that may be missing."""
    return moment(at) if at else None


def moment_of(text: str) -> datetime:
    """Return the time that a `DateTime` of an input names.

    Raises
    ------
    GraphQLError
        If it is none.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise bad_request(f"'{text}' is not a valid DateTime", "INVALID_VARIABLE") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def decimal_of(value: object) -> Decimal:
    """Return the number that a `Decimal` of an input is, whether it came as text or as a number.

    Raises
    ------
    GraphQLError
        If it is none.
    """
    try:
        found = Decimal(f"{value}")
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite():
        raise bad_request(f"'{value}' is not a valid Decimal", "INVALID_VARIABLE")
    return found


def number_of(identifier: str, resource: str) -> int:
    """Return the number in a `gid://shopify/{resource}/{number}`; 0, which nothing has, where it names another type.

    Raises
    ------
    GraphQLError
        If it is no identifier at all.
    """
    head, _, rest = identifier.removeprefix("gid://shopify/").partition("/")
    number = rest.partition("?")[0]
    if not identifier.startswith("gid://shopify/") or not number.isdecimal():
        raise bad_request(f"Invalid global id '{identifier}'", "argumentLiteralsIncompatible")
    return int(number) if head == resource else 0


def resource_of(identifier: str) -> str:
    """Return the type that an identifier names."""
    number_of(identifier, "")
    return identifier.removeprefix("gid://shopify/").partition("/")[0]


def find(call: Call, identifier: str) -> object | None:
    """Return what an identifier names, None where the shop has no such thing.

    Raises
    ------
    GraphQLError
        If it is no identifier, or of a type that is not simulated.
    """
    resource = resource_of(identifier)
    if resource not in call.world.types.finders:
        raise NotSimulatedError(f"finding a {resource} by its id")
    return call.world.types.finders[resource](call, identifier)


def id_of(source: object, call: Call) -> str:
    """Return the global id of a value that has one."""
    fields = call.world.types.fields[call.world.types.names[type(source)]]
    return f"{fields['id'](source, call)}"


def user_error(field_path: list[str] | None, message: str, code: str | None = None, **more: object) -> Value:
    """Return an entry of a payload's `userErrors`."""
    return {"field": field_path, "message": message, "code": code, **more}


def payload(**values: object) -> Value:
    """Return a mutation's payload without complaints."""
    return {"userErrors": [], **values}


def refused(*errors: Value, **values: object) -> Value:
    """Return a mutation's payload that says why nothing was done; `values` name its other fields."""
    return {**values, "userErrors": list(errors)}
