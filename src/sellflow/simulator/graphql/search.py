"""Shopify's search syntax, as far as a list needs it: `updated_at:>='2026-11-22T08:00:00Z' tag:vip -status:open`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TypeAlias, TypeVar

from sellflow.simulator.graphql.fields import NotSimulatedError, bad_request

Item = TypeVar("Item")
Found: TypeAlias = datetime | int | Decimal | str | bool | list[str] | None
Search: TypeAlias = Mapping[str, Callable[[Item], Found]]

_TERM = re.compile(
    r"""(?P<not>-|NOT\s+)?(?P<field>[a-z_]+):(?P<operator><=|>=|<|>|)(?P<value>"[^"]*"|'[^']*'|[^\s()]+)"""
)
_AND = re.compile(r"\s+(?:AND\s+)?")


def matching(items: Iterable[Item], query: str, search: Search[Item]) -> list[Item]:
    """Return the items that a query finds: all of its terms must hold.

    Raises
    ------
    GraphQLError
        If the query has a part that is not simulated. (Shopify ignores a field that it does not know, and finds
        everything: what a developer should rather hear of.)
    """
    terms = [_Term(match, search) for match in _terms(query)]
    return [item for item in items if all(term.holds(item) for term in terms)]


def _terms(query: str) -> Iterable[re.Match[str]]:
    text, place = query.strip(), 0
    while place < len(text):
        match = _TERM.match(text, place)
        if match is None:
            raise NotSimulatedError(f"the search {text[place:]!r} (terms like field:value joined by AND are)")
        yield match
        place = match.end()
        if place < len(text):
            gap = _AND.match(text, place)
            if gap is None:
                raise NotSimulatedError(f"the search {text[place:]!r}")
            place = gap.end()


class _Term:
    def __init__(self, match: re.Match[str], search: Search[Item]) -> None:
        name = match["field"]
        if name not in search:
            raise NotSimulatedError(f"the search field {name!r} (of this list {', '.join(search)} are)")
        self._read: Callable[..., Found] = search[name]
        self._operator = match["operator"]
        self._value = match["value"].strip("\"'")
        self._is_negated = bool(match["not"])

    def holds(self, item: object) -> bool:
        found = self._read(item)
        values: list[Found] = list(found) if isinstance(found, list) else [found]
        return any(self._compares(value) for value in values) is not self._is_negated

    def _compares(self, found: Found) -> bool:
        if self._value == "*":
            return found is not None
        if found is None:
            return False
        if isinstance(found, bool):
            return f"{found}".lower() == self._value.lower()
        if isinstance(found, datetime):
            return self._ordered(_second(found), self._moment())
        if isinstance(found, int | Decimal):
            return self._ordered(Decimal(found), self._number())
        return self._ordered(f"{found}".lower(), self._value.lower())

    def _ordered(self, found: datetime | Decimal | str, wanted: datetime | Decimal | str) -> bool:
        one, other = (found, wanted)
        match self._operator:
            case ">=":
                return one >= other  # type: ignore[operator] # both of one type
            case "<=":
                return one <= other  # type: ignore[operator]
            case ">":
                return one > other  # type: ignore[operator]
            case "<":
                return one < other  # type: ignore[operator]
            case _:
                return one == other

    def _moment(self) -> datetime:
        try:
            at = datetime.fromisoformat(self._value)
        except ValueError as error:
            raise bad_request(f"{self._value!r} is no time that a search understands") from error
        return at if at.tzinfo else at.replace(tzinfo=UTC)

    def _number(self) -> Decimal:
        try:
            return Decimal(self._value.rpartition("/")[2])
        except InvalidOperation as error:
            raise bad_request(f"{self._value!r} is no number") from error


def _second(at: datetime) -> datetime:
    """Compare at seconds, which is all of a time that the API shows."""
    return at.replace(microsecond=0)
