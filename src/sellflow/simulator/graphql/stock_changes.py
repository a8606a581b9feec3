"""The mutations that change stock: adjust, set, move and activate, each all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from sellflow.simulator.graphql.fields import Call, Value, bad_request, payload, refused, user_error
from sellflow.simulator.graphql.inventory import Adjustment, Change, find_item, find_location
from sellflow.simulator.graphql.stock import AVAILABLE, NAMES, ON_HAND, Level
from sellflow.simulator.ids import gid
from sellflow.simulator.notices import Notice
from sellflow.simulator.payload_parts import utc_moment

Input: TypeAlias = Mapping[str, Any]

# shopify.dev, Inventory management apps: the reasons that an app may give.
REASONS = frozenset(
    {
        "correction",
        "cycle_count_available",
        "damaged",
        "movement_canceled",
        "movement_created",
        "movement_received",
        "movement_updated",
        "other",
        "promotion",
        "quality_control",
        "received",
        "reservation_created",
        "reservation_deleted",
        "reservation_updated",
        "restock",
        "safety_stock",
        "shrinkage",
    }
)
ADJUSTABLE = tuple(name for name in NAMES if name not in (ON_HAND, "committed"))
# The limits that the messages of the schema's error codes name.
MOST_ADJUSTED = 2_000_000_000
MOST_SET = 1_000_000_000
STALE = "The changeFromQuantity argument no longer matches the persisted quantity."


@dataclass(frozen=True, slots=True)
class _Step:
    """One quantity to change: `at` is its place in the input, for complaints about it."""

    at: list[str]
    level: Level
    name: str
    delta: int
    expected: int | None
    document: str | None = None


class _StepError(Exception):
    """One entry of the input is wrong."""

    def __init__(self, error: Value) -> None:
        super().__init__(f"{error['message']}")
        self.error = error


def adjust(_source: object, call: Call) -> Value:
    """Resolve `inventoryAdjustQuantities`: change quantities by deltas."""
    wanted = call.arguments["input"]
    _require_comparison(wanted["changes"], "InventoryChangeInput")
    errors = _reason_errors(wanted)
    if wanted["name"] not in ADJUSTABLE:
        errors.append(_error(["input", "name"], "The specified quantity name is invalid.", "INVALID_QUANTITY_NAME"))
    documents = {one.get("ledgerDocumentUri") for one in wanted["changes"]}
    if len(documents) > 1:
        message = (
            "All changes must have the same ledger document URI or, in the case of adjusting available, "
            "no ledger document URI."
        )
        errors.append(_error(["input", "changes"], message, "MAX_ONE_LEDGER_DOCUMENT"))

    def step(place: int, one: Input) -> _Step:
        at = ["input", "changes", f"{place}"]
        _check_document(at, wanted["name"], one.get("ledgerDocumentUri"))
        level = _stocked(call, at, one)
        return _Step(at, level, wanted["name"], one["delta"], one["changeFromQuantity"], one.get("ledgerDocumentUri"))

    return _apply(call, wanted, errors, wanted["changes"], step, MOST_ADJUSTED)


def set_quantities(_source: object, call: Call) -> Value:
    """Resolve `inventorySetQuantities`: make quantities what they should be."""
    wanted = call.arguments["input"]
    _require_comparison(wanted["quantities"], "InventoryQuantityInput")
    errors = _reason_errors(wanted)
    if wanted["name"] not in (AVAILABLE, ON_HAND):
        message = "The quantity name must be either 'available' or 'on_hand'."
        errors.append(_error(["input", "name"], message, "INVALID_NAME"))
    seen: set[tuple[str, str]] = set()

    def step(place: int, one: Input) -> _Step:
        at = ["input", "quantities", f"{place}"]
        pair = (one["inventoryItemId"], one["locationId"])
        if pair in seen:
            message = "The combination of inventoryItemId and locationId must be unique."
            raise _StepError(_error([*at, "locationId"], message, "NO_DUPLICATE_INVENTORY_ITEM_ID_GROUP_ID_PAIR"))
        seen.add(pair)
        if one["quantity"] < 0:
            raise _StepError(_error([*at, "quantity"], "The quantity can't be negative.", "INVALID_QUANTITY_NEGATIVE"))
        level = _stocked(call, at, one)
        delta = one["quantity"] - level.quantity(wanted["name"])
        return _Step(at, level, wanted["name"], delta, one["changeFromQuantity"])

    return _apply(call, wanted, errors, wanted["quantities"], step, MOST_SET)


def move(_source: object, call: Call) -> Value:
    """Resolve `inventoryMoveQuantities`: move pieces between two states at one location."""
    wanted = call.arguments["input"]
    ends = [end for one in wanted["changes"] for end in (one["from"], one["to"])]
    _require_comparison(ends, "InventoryMoveQuantityTerminalInput")
    errors = _reason_errors(wanted)
    steps: list[_Step] = []
    for place, one in enumerate(wanted["changes"]):
        try:
            steps += _move_steps(call, ["input", "changes", f"{place}"], one)
        except _StepError as error:
            errors.append(error.error)
    errors += _quantity_errors(steps, MOST_ADJUSTED)
    return _finish(call, wanted, errors, steps)


def _move_steps(call: Call, at: list[str], one: Input) -> list[_Step]:
    source, target = one["from"], one["to"]
    if source["locationId"] != target["locationId"]:
        message = "The quantities can't be moved between different locations."
        raise _StepError(_error(at, message, "DIFFERENT_LOCATIONS"))
    if source["name"] == target["name"]:
        message = "The quantity names for each change can't be the same."
        raise _StepError(_error(at, message, "SAME_QUANTITY_NAME"))
    if one["quantity"] < 0:
        raise _StepError(_error([*at, "quantity"], "The quantity can't be negative.", "INVALID_QUANTITY_NEGATIVE"))
    steps = []
    for end, name, delta in (("from", source, -one["quantity"]), ("to", target, one["quantity"])):
        place = [*at, end]
        if name["name"] not in ADJUSTABLE:
            message = "The specified quantity name is invalid."
            raise _StepError(_error([*place, "name"], message, "INVALID_QUANTITY_NAME"))
        _check_document(place, name["name"], name.get("ledgerDocumentUri"))
        level = _stocked(call, at, {"inventoryItemId": one["inventoryItemId"], "locationId": name["locationId"]})
        steps.append(
            _Step(place, level, name["name"], delta, name["changeFromQuantity"], name.get("ledgerDocumentUri"))
        )
    return steps


def activate(_source: object, call: Call) -> Value:
    """Resolve `inventoryActivate`: stock an item at a location."""
    item = find_item(call, call.arguments["inventoryItemId"])
    location = find_location(call, call.arguments["locationId"])
    if item is None or location is None:
        name, what = ("inventoryItemId", "inventory item") if item is None else ("locationId", "location")
        return refused(user_error([name], f"The specified {what} could not be found."), inventoryLevel=None)
    level = call.world.admin.stock.changeable(item, location, call.world.now)
    available, on_hand = call.argument("available"), call.argument("onHand")
    if level.is_active and (available is not None or on_hand is not None):
        message = "Not allowed to set available quantity when the item is already active at the location."
        return refused(user_error(["available"], message), inventoryLevel=level)
    if not level.is_active:
        level.is_active = True
        # Without a quantity those from before stay, as they do since 2026-04.
        for name, wanted in ((AVAILABLE, available), (ON_HAND, on_hand)):
            level.change(name, 0 if wanted is None else wanted - level.quantity(name), call.world.now)
        call.world.notices.append(level_notice(level))
    return payload(inventoryLevel=level)


def level_notice(level: Level) -> Notice:
    """Return the webhook that tells of a level."""
    body = {
        "inventory_item_id": level.item.id,
        "location_id": level.location.id,
        "available": level.quantity(AVAILABLE),
        "updated_at": utc_moment(level.updated_at),
        "admin_graphql_api_id": (f"{gid('InventoryLevel', level.location.id)}?inventory_item_id={level.item.id}"),
    }
    return Notice("inventory_levels/update", None, orjson.dumps(body))


def _apply(  # noqa: PLR0917
    call: Call,
    wanted: Input,
    errors: list[Value],
    entries: Iterable[Input],
    step: Callable[[int, Input], _Step],
    most: int,
) -> Value:
    steps: list[_Step] = []
    for place, one in enumerate(entries):
        try:
            steps.append(step(place, one))
        except _StepError as error:
            errors.append(error.error)
    errors += _quantity_errors(steps, most)
    return _finish(call, wanted, errors, steps)


def _finish(call: Call, wanted: Input, errors: list[Value], steps: list[_Step]) -> Value:
    """Make the changes if nothing speaks against any of them, and tell of the levels."""
    if errors:
        return refused(*errors, inventoryAdjustmentGroup=None)
    world, changes = call.world, []
    for one in steps:
        one.level.change(one.name, one.delta, world.now)
        changes.append(Change(one.level, one.name, one.delta, one.level.quantity(one.name), one.document))
        if one.name in (AVAILABLE, ON_HAND):
            other = ON_HAND if one.name == AVAILABLE else AVAILABLE
            changes.append(Change(one.level, other, one.delta, one.level.quantity(other)))
    levels = {id(one.level): one.level for one in steps if one.delta}
    world.notices.extend(level_notice(level) for level in levels.values())
    group = Adjustment(
        world.shopify.ids(), wanted["reason"], wanted.get("referenceDocumentUri"), tuple(changes), world.now
    )
    return payload(inventoryAdjustmentGroup=group)


def _quantity_errors(steps: Iterable[_Step], most: int) -> list[Value]:
    """Compare and bound; entries that name one quantity twice see what those before them leave."""
    errors: list[Value] = []
    after: dict[tuple[int, str], int] = {}
    for one in steps:
        key = (id(one.level), one.name)
        found = after.get(key, one.level.quantity(one.name))
        after[key] = found + one.delta
        if one.expected is not None and one.expected != found:
            errors.append(_error([*one.at, "changeFromQuantity"], STALE, "CHANGE_FROM_QUANTITY_STALE"))
        elif after[key] > most:
            message = f"The quantity can't be higher than {most:,}."
            errors.append(_error([*one.at, "quantity"], message, "INVALID_QUANTITY_TOO_HIGH"))
        elif after[key] < -most:
            message = f"The quantity can't be lower than -{most:,}."
            errors.append(_error([*one.at, "quantity"], message, "INVALID_QUANTITY_TOO_LOW"))
    return errors


def _require_comparison(entries: Iterable[Input], kind: str) -> None:
    """Refuse entries that say nothing of the quantity they change: null would skip the comparison."""
    if any("changeFromQuantity" not in one for one in entries):
        raise bad_request(f"{kind} must include the following argument: changeFromQuantity.", "INVALID_FIELD_ARGUMENTS")


def _reason_errors(wanted: Input) -> list[Value]:
    errors = []
    if wanted["reason"] not in REASONS:
        errors.append(_error(["input", "reason"], "The specified reason is invalid.", "INVALID_REASON"))
    reference = wanted.get("referenceDocumentUri")
    if reference is not None and not _is_uri(reference):
        message = "The specified reference document is invalid."
        errors.append(_error(["input", "referenceDocumentUri"], message, "INVALID_REFERENCE_DOCUMENT"))
    return errors


def _check_document(at: list[str], name: str, document: str | None) -> None:
    place = [*at, "ledgerDocumentUri"]
    if name == AVAILABLE and document is not None:
        message = "A ledger document URI is not allowed when adjusting available."
        raise _StepError(_error(place, message, "INVALID_AVAILABLE_DOCUMENT"))
    if name != AVAILABLE and document is None:
        message = "A ledger document URI is required except when adjusting available."
        raise _StepError(_error(place, message, "INVALID_QUANTITY_DOCUMENT"))
    if document is not None and document.startswith("gid://shopify/"):
        message = "Internal (gid://shopify/) ledger documents are not allowed to be adjusted via API."
        raise _StepError(_error(place, message, "INTERNAL_LEDGER_DOCUMENT"))
    if document is not None and not _is_uri(document):
        raise _StepError(_error(place, "The specified ledger document is invalid.", "INVALID_LEDGER_DOCUMENT"))


def _is_uri(text: str) -> bool:
    scheme, colon, rest = text.partition(":")
    if not (scheme and colon and rest.strip("/")):
        return False
    return scheme != "gid" or len([part for part in rest.split("/") if part]) >= 3


def _stocked(call: Call, at: list[str], one: Input) -> Level:
    item, location = find_item(call, one["inventoryItemId"]), find_location(call, one["locationId"])
    if item is None:
        message = "The specified inventory item could not be found."
        raise _StepError(_error([*at, "inventoryItemId"], message, "INVALID_INVENTORY_ITEM"))
    if location is None:
        message = "The specified location could not be found."
        raise _StepError(_error([*at, "locationId"], message, "INVALID_LOCATION"))
    return call.world.admin.stock.changeable(item, location, call.world.now)


def _error(at: list[str], message: str, code: str) -> Value:
    return user_error(at, message, code)
