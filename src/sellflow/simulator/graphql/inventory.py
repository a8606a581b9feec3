"""Inventory items, levels and locations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sellflow.simulator.graphql import connections
from sellflow.simulator.graphql.catalogue import VariantOf
from sellflow.simulator.graphql.connections import page
from sellflow.simulator.graphql.fields import Call, Fields, NotSimulatedError, Value, moment, number_of
from sellflow.simulator.graphql.metafields import METAFIELDS
from sellflow.simulator.graphql.stock import NAMES, Item, Level, Location
from sellflow.simulator.ids import gid


@dataclass(frozen=True, slots=True)
class Quantity:
    """How many pieces of a level are in a state."""

    level: Level
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """One change that an adjustment made."""

    level: Level
    name: str
    delta: int
    after: int
    document: str | None = None


@dataclass(frozen=True, slots=True)
class Adjustment:
    """The changes of one mutation."""

    id: int
    reason: str
    reference: str | None
    changes: tuple[Change, ...]
    created_at: datetime


ITEMS: connections.Order[Item] = connections.Order(
    number=lambda item: item.id,
    keys={"ID": lambda item: item.id},
    search={
        "id": lambda item: item.id,
        "sku": lambda item: item.variant.sku,
        "variant_id": lambda item: item.variant.id,
    },
)

LOCATIONS: connections.Order[Location] = connections.Order(
    number=lambda location: location.id,
    keys={"ID": lambda location: location.id, "NAME": lambda location: location.name.lower()},
    search={"id": lambda location: location.id, "name": lambda location: location.name},
)

LEVELS: connections.Order[Level] = connections.Order(
    number=lambda level: level.item.id * 8 + level.location.id % 8,
    keys={"ID": lambda level: level.item.id},
    search={
        "inventory_item_id": lambda level: level.item.id,
        "updated_at": lambda level: level.updated_at,
    },
)


def find_item(call: Call, identifier: str) -> Item | None:
    """Return the item that an identifier names."""
    return call.world.admin.stock.items.get(number_of(identifier, "InventoryItem"))


def find_location(call: Call, identifier: str) -> Location | None:
    """Return the location that an identifier names."""
    return call.world.admin.stock.location(number_of(identifier, "Location"))


def find_level(call: Call, identifier: str) -> Level | None:
    """Return the level that an identifier such as `gid://shopify/InventoryLevel/1?inventory_item_id=2` names."""
    location_id = number_of(identifier, "InventoryLevel")
    item = identifier.partition("?inventory_item_id=")[2]
    if not item.isdecimal():
        return None
    return call.world.admin.stock.level(int(item), location_id, include_inactive=True)


def _level_at(item: Item, call: Call) -> Level | None:
    location_id = number_of(call.arguments["locationId"], "Location")
    return call.world.admin.stock.level(item.id, location_id, include_inactive=bool(call.argument("includeInactive")))


def _level_of(location: Location, call: Call) -> Level | None:
    item_id = number_of(call.arguments["inventoryItemId"], "InventoryItem")
    return call.world.admin.stock.level(item_id, location.id, include_inactive=bool(call.argument("includeInactive")))


def _levels(call: Call, *, item: Item | None = None, location: Location | None = None) -> Value:
    found = call.world.admin.stock.levels(
        item_id=item.id if item else None,
        location_id=location.id if location else None,
        include_inactive=bool(call.argument("includeInactive")),
    )
    return page(found, call, LEVELS)


def _quantities(level: Level, call: Call) -> list[Quantity]:
    for name in call.arguments["names"]:
        if name not in NAMES:
            raise NotSimulatedError(f"the quantity {name!r} (of {', '.join(NAMES)})")
    return [Quantity(level, name) for name in call.arguments["names"]]


def _changes(found: Adjustment, call: Call) -> list[Change]:
    names = call.argument("quantityNames")
    items = [number_of(one, "InventoryItem") for one in call.argument("inventoryItemIds") or ()]
    places = [number_of(one, "Location") for one in call.argument("locationIds") or ()]
    return [
        change
        for change in found.changes
        if (names is None or change.name in names)
        and (not items or change.level.item.id in items)
        and (not places or change.level.location.id in places)
    ]


ITEM: Fields[Item] = {
    "id": lambda item, _: gid("InventoryItem", item.id),
    "legacyResourceId": lambda item, _: f"{item.id}",
    "sku": lambda item, _: item.variant.sku,
    "tracked": lambda _item, _: True,
    "requiresShipping": lambda _item, _: True,
    "unitCost": lambda _item, _: None,
    "countryCodeOfOrigin": lambda _item, _: None,
    "harmonizedSystemCode": lambda _item, _: None,
    "createdAt": lambda _item, call: moment(call.world.admin.opened_at),
    "updatedAt": lambda _item, call: moment(call.world.admin.opened_at),
    "variant": lambda item, _: VariantOf(item.product, item.variant),
    "inventoryLevel": _level_at,
    "inventoryLevels": lambda item, call: _levels(call, item=item),
    "locationsCount": lambda item, call: {
        "count": len(list(call.world.admin.stock.levels(item_id=item.id))),
        "precision": "EXACT",
    },
}

LEVEL: Fields[Level] = {
    "id": lambda level, _: f"{gid('InventoryLevel', level.location.id)}?inventory_item_id={level.item.id}",
    "item": lambda level, _: level.item,
    "location": lambda level, _: level.location,
    "isActive": lambda level, _: level.is_active,
    "canDeactivate": lambda _level, _: True,
    "deactivationAlert": lambda _level, _: None,
    "createdAt": lambda _level, call: moment(call.world.admin.opened_at),
    "updatedAt": lambda level, _: moment(level.updated_at),
    "quantities": _quantities,
}

QUANTITY: Fields[Quantity] = {
    "id": lambda found, _: (
        f"{gid('InventoryQuantity', found.level.location.id)}?inventory_item_id={found.level.item.id}&name={found.name}"
    ),
    "name": lambda found, _: found.name,
    "quantity": lambda found, _: found.level.quantity(found.name),
    "updatedAt": lambda found, _: moment(found.level.updated_at),
}

LOCATION: Fields[Location] = {
    "id": lambda location, _: gid("Location", location.id),
    "legacyResourceId": lambda location, _: f"{location.id}",
    "name": lambda location, _: location.name,
    "isActive": lambda _location, _: True,
    "isPrimary": lambda location, call: location is call.world.admin.stock.locations[0],
    "isFulfillmentService": lambda _location, _: False,
    "fulfillsOnlineOrders": lambda _location, _: True,
    "shipsInventory": lambda _location, _: True,
    "hasActiveInventory": lambda location, call: any(call.world.admin.stock.levels(location_id=location.id)),
    "createdAt": lambda location, _: moment(location.created_at),
    "updatedAt": lambda location, _: moment(location.created_at),
    "deactivatedAt": lambda _location, _: None,
    "inventoryLevel": _level_of,
    "inventoryLevels": lambda location, call: _levels(call, location=location),
}

ADJUSTMENT: Fields[Adjustment] = {
    "id": lambda found, _: gid("InventoryAdjustmentGroup", found.id),
    "reason": lambda found, _: found.reason,
    "referenceDocumentUri": lambda found, _: found.reference,
    "createdAt": lambda found, _: moment(found.created_at),
    "staffMember": lambda _found, _: None,
    "changes": _changes,
}

CHANGE: Fields[Change] = {
    "name": lambda change, _: change.name,
    "delta": lambda change, _: change.delta,
    "quantityAfterChange": lambda change, _: change.after,
    "ledgerDocumentUri": lambda change, _: change.document,
    "item": lambda change, _: change.level.item,
    "location": lambda change, _: change.level.location,
}


def all_items(_source: object, call: Call) -> Value:
    """Resolve `inventoryItems`."""
    return page(call.world.admin.stock.items.values(), call, ITEMS)


def all_locations(_source: object, call: Call) -> Value:
    """Resolve `locations`."""
    return page(call.world.admin.stock.locations, call, LOCATIONS)


def properties(_source: object, _call: Call) -> Value:
    """Resolve `inventoryProperties`."""
    return {"quantityNames": [{"name": name, "displayName": name.replace("_", " ").capitalize()} for name in NAMES]}


FIELDS: Mapping[str, Fields[Any]] = {
    "InventoryItem": ITEM,
    "InventoryLevel": LEVEL,
    "InventoryQuantity": QUANTITY,
    "Location": {**LOCATION, **METAFIELDS},
    "InventoryAdjustmentGroup": ADJUSTMENT,
    "InventoryChange": CHANGE,
}


def one_location(_source: object, call: Call) -> Location | None:
    """Resolve `location`: the primary one, if none is named."""
    identifier = call.argument("id")
    return find_location(call, identifier) if identifier else call.world.admin.stock.locations[0]
