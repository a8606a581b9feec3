"""Stock: reading a level, and the four ways to change it. Each change must carry an idempotency key."""

from __future__ import annotations

from datetime import datetime

from sellflow.shopify.documents.document import Document
from sellflow.shopify.documents.nodes import CodedError, Node, Payload, Reference


class InventoryQuantity(Node):
    """One of the quantities of a level, such as `available`."""

    name: str
    quantity: int


class InventoryLevel(Reference):
    """An item at a location."""

    updated_at: datetime
    quantities: tuple[InventoryQuantity, ...]


class InventoryItem(Reference):
    """An item, and its level at the location that was asked for."""

    tracked: bool
    inventory_level: InventoryLevel | None


class InventoryLevelFound(Node):
    """Answers `inventory_level`."""

    inventory_item: InventoryItem | None


class InventoryChange(Node):
    """A change that was made."""

    name: str
    delta: int
    quantity_after_change: int | None
    item: Reference | None
    location: Reference | None


class InventoryAdjustmentGroup(Reference):
    """The changes of one call."""

    created_at: datetime
    changes: tuple[InventoryChange, ...]


class InventoryPayload(Payload):
    """What changed, or why nothing did."""

    inventory_adjustment_group: InventoryAdjustmentGroup | None
    user_errors: tuple[CodedError, ...]


class InventoryAdjusted(Node):
    """Answers `inventory_adjust`."""

    inventory_adjust_quantities: InventoryPayload | None


class InventorySet(Node):
    """Answers `inventory_set`."""

    inventory_set_quantities: InventoryPayload | None


class InventoryMoved(Node):
    """Answers `inventory_move`."""

    inventory_move_quantities: InventoryPayload | None


class ActivatedLevel(Reference):
    """A level that is kept from now on."""

    updated_at: datetime


class InventoryActivatePayload(Payload):
    """The level, or why there is none. Its errors have no codes."""

    inventory_level: ActivatedLevel | None


class InventoryActivated(Node):
    """Answers `inventory_activate`."""

    inventory_activate: InventoryActivatePayload | None


INVENTORY_LEVEL = Document("inventory_level", InventoryLevelFound)
INVENTORY_ADJUST = Document("inventory_adjust", InventoryAdjusted)
INVENTORY_SET = Document("inventory_set", InventorySet)
INVENTORY_MOVE = Document("inventory_move", InventoryMoved)
INVENTORY_ACTIVATE = Document("inventory_activate", InventoryActivated)
