"""Pages of a connection: forwards and backwards, with cursors that stay valid while things change."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast

import orjson

from sellflow.simulator.graphql.fields import Call, NotSimulatedError, Value, bad_request
from sellflow.simulator.graphql.search import Search, matching

Item = TypeVar("Item")

# The largest page (shopify.dev, Pagination with GraphQL).
PAGE_LIMIT = 250
LISTS_KEPT = 8

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


@dataclass(frozen=True, slots=True)
class Sorted(Generic[Item]):
    """Items and what they are sorted by, both ascending."""

    items: list[Item]
    keys: list[Key]


def page(items: Iterable[Item], call: Call, order: Order[Item], *, name: str | None = None) -> Value:
    """Return the connection that a field's arguments ask for.

    A list with a `name` is kept as it is sorted and searched until something of the shop changes: whoever reads a
    hundred thousand orders page by page would wait for the sorting each time.

    Raises
    ------
    GraphQLError
        If the arguments contradict each other, or ask for a sort or search that is not simulated.
    """
    if call.argument("savedSearchId") is not None:
        raise NotSimulatedError("the argument savedSearchId")
    query, sort_key = call.argument("query") or "", call.argument("sortKey") or "ID"
    if sort_key not in order.keys:
        raise NotSimulatedError(f"the sort key {sort_key}")
    if name is None:
        return _connection(_sorted(items, query, order, sort_key), call)
    kept = call.world.admin.kept_lists
    version, asked = call.world.shopify.version, (name, query, sort_key)
    if asked not in kept or kept[asked][0] != version:
        if len(kept) >= LISTS_KEPT:
            kept.clear()
        kept[asked] = (version, _sorted(items, query, order, sort_key))
    return _connection(kept[asked][1], call)


def plain_page(items: Iterable[Item], call: Call, number: Callable[[Item], int]) -> Value:
    """Return a connection that keeps the order of `items`; `number` tells them apart."""
    if call.argument("query"):
        raise NotSimulatedError("the argument query of this connection")
    found = list(items)
    return _connection(Sorted(found, [(place, number(item)) for place, item in enumerate(found)]), call)


def _sorted(items: Iterable[Item], query: str, order: Order[Item], sort_key: str) -> Sorted[Item]:
    found = matching(items, query, order.search) if query else list(items)
    key_of = order.keys[sort_key]
    pairs = sorted(((_sortable(key_of(item)), order.number(item)), place) for place, item in enumerate(found))
    return Sorted([found[place] for _, place in pairs], [key for key, _ in pairs])


def _connection(found: Sorted[Item], call: Call) -> Value:
    is_reversed = bool(call.argument("reverse"))
    if call.world.is_bulk:
        return _bulk(found.items[::-1] if is_reversed else found.items, call)
    first, last = _sizes(call)
    after, before = _cursor(call.argument("after")), _cursor(call.argument("before"))
    behind, ahead = (before, after) if is_reversed else (after, before)
    try:
        begin = 0 if behind is None else bisect_right(found.keys, behind)
        end = len(found.keys) if ahead is None else bisect_left(found.keys, ahead)
    except TypeError as error:
        raise bad_request("Invalid cursor for current pagination sort.", "INVALID_CURSOR") from error
    size = last if first is None else first
    assert size is not None
    left_out = max(0, end - begin - size)
    if (first is not None) is not is_reversed:
        end -= left_out
    else:
        begin += left_out
    step = -1 if is_reversed else 1
    return _value(
        found.items[begin:end][::step],
        found.keys[begin:end][::step],
        has_before=after is not None or (last is not None and left_out > 0),
        has_after=before is not None or (first is not None and left_out > 0),
    )


def _value(shown: list[Item], keys: list[Key], *, has_before: bool, has_after: bool) -> Value:
    cursors = [_written(key) for key in keys]
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
        # The list as it was at the first step: nothing is missed or told twice because it moved within.
        window.items = found = found if window.items is None else cast("list[Item]", window.items)
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
