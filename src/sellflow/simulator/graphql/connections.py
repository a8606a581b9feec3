"""Pages of a connection: forwards and backwards, with cursors that stay valid while things change."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import orjson

from sellflow.simulator.graphql.fields import Call, NotSimulatedError, Value, bad_request
from sellflow.simulator.graphql.search import Search, matching

Item = TypeVar("Item")

# The largest page (shopify.dev, Pagination with GraphQL).
PAGE_LIMIT = 250

Key = tuple[Any, int]


@dataclass(frozen=True, slots=True)
class Order(Generic[Item]):
    """How a list may be sorted and searched.

    `number` breaks ties; `keys` has an entry for each simulated sort key of the schema, which returns numbers,
    strings or times.
    """

    number: Callable[[Item], int]
    keys: Mapping[str, Callable[[Item], object]]
    search: Search[Item]


def page(items: Iterable[Item], call: Call, order: Order[Item]) -> Value:
    """Return the connection that a field's arguments ask for.

    Raises
    ------
    GraphQLError
        If the arguments contradict each other, or ask for a sort or search that is not simulated.
    """
    if call.argument("savedSearchId") is not None:
        raise NotSimulatedError("the argument savedSearchId")
    query = call.argument("query")
    found = matching(items, query, order.search) if query else list(items)
    sort_key = call.argument("sortKey") or "ID"
    if sort_key not in order.keys:
        raise NotSimulatedError(f"the sort key {sort_key}")
    key_of = order.keys[sort_key]

    def key(item: Item) -> Key:
        return _sortable(key_of(item)), order.number(item)

    found.sort(key=key, reverse=bool(call.argument("reverse")))
    return _connection(found, call, key)


def plain_page(items: Iterable[Item], call: Call, number: Callable[[Item], int]) -> Value:
    """Return a connection that keeps the order of `items`; `number` tells them apart."""
    found = list(items)
    if call.argument("query"):
        raise NotSimulatedError("the argument query of this connection")
    if call.argument("reverse"):
        found.reverse()
    places = {number(item): place for place, item in enumerate(found)}
    return _connection(found, call, lambda item: (places[number(item)], number(item)))


def _connection(found: list[Item], call: Call, key: Callable[[Item], Key]) -> Value:
    if call.world.is_bulk:
        return _bulk(found, call)
    first, last = _sizes(call)
    descending = bool(call.argument("reverse")) and len(found) > 1 and key(found[0]) > key(found[-1])
    after, before = _cursor(call.argument("after")), _cursor(call.argument("before"))
    if after is not None:
        found = [item for item in found if (key(item) < after if descending else key(item) > after)]
        has_before = True
    else:
        has_before = False
    has_after = before is not None
    if before is not None:
        found = [item for item in found if (key(item) > before if descending else key(item) < before)]
    if first is not None:
        shown, has_after = found[:first], has_after or len(found) > first
    else:
        assert last is not None
        shown, has_before = found[-last:] if last else [], has_before or len(found) > last
    return _value(shown, key, has_before=has_before, has_after=has_after)


def _value(shown: list[Item], key: Callable[[Item], Key], *, has_before: bool, has_after: bool) -> Value:
    cursors = [_written(key(item)) for item in shown]
    return {
        "nodes": shown,
        "edges": [{"node": item, "cursor": cursor} for item, cursor in zip(shown, cursors, strict=True)],
        "pageInfo": {
            "hasNextPage": has_after,
            "hasPreviousPage": has_before,
            "startCursor": cursors[0] if cursors else None,
            "endCursor": cursors[-1] if cursors else None,
        },
    }


def _bulk(found: list[Item], call: Call) -> Value:
    """Return everything, of the connection at the root as much as one step of the operation reads."""
    window = call.world.window
    if call.is_root and window is not None:
        window.is_last = len(found) <= window.start + window.size
        found = found[window.start : window.start + window.size]
    return {"nodes": found, "edges": [{"node": item} for item in found]}


def _sizes(call: Call) -> tuple[int | None, int | None]:
    first, last = call.argument("first"), call.argument("last")
    if first is None and last is None:
        raise bad_request("you must provide one of first or last")
    if first is not None and last is not None:
        raise bad_request("providing both first and last is not supported")
    for name, size in (("first", first), ("last", last)):
        if size is not None and not 0 <= size <= PAGE_LIMIT:
            raise bad_request(f"{name} must lie between 0 and {PAGE_LIMIT}, not be {size}")
    return first, last


def _sortable(value: object) -> object:
    return value.astimezone(UTC).timestamp() if isinstance(value, datetime) else value


def _written(key: Key) -> str:
    return base64.urlsafe_b64encode(orjson.dumps({"last_id": key[1], "last_value": key[0]})).decode()


def _cursor(text: str | None) -> Key | None:
    if text is None:
        return None
    try:
        found = orjson.loads(base64.urlsafe_b64decode(text))
        return found["last_value"], int(found["last_id"])
    except (binascii.Error, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise bad_request("Invalid cursor for current pagination sort.", "INVALID_CURSOR") from error
