"""Stock: quantities of every variant at two locations, by Shopify's names for their states."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from sellflow.simulator.models import Product, Shop, Variant
from sellflow.simulator.refund_payloads import LOCATION_ID

ON_HAND = "on_hand"
AVAILABLE = "available"
# What is on hand is the sum of these (shopify.dev, Inventory states); incoming goods are not there yet.
PARTS_OF_ON_HAND = (AVAILABLE, "committed", "reserved", "damaged", "safety_stock", "quality_control")
NAMES = (*PARTS_OF_ON_HAND, "incoming", ON_HAND)

# Inventory items have numbers of their own: a client that mistakes a variant's for them must not get away with it.
ITEM_OFFSET = 2**51


@dataclass(frozen=True, slots=True)
class Location:
    """A place where goods are."""

    id: int
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Item:
    """What is stocked of a variant."""

    product: Product
    variant: Variant

    @property
    def id(self) -> int:
        """The item's number."""
        return self.variant.id + ITEM_OFFSET


@dataclass(slots=True)
class Level:
    """The quantities of an item at a location."""

    item: Item
    location: Location
    updated_at: datetime
    is_active: bool = True
    quantities: dict[str, int] = field(default_factory=dict)

    def quantity(self, name: str) -> int:
        """Return how many pieces are in a state."""
        if name == ON_HAND:
            return sum(self.quantities.get(part, 0) for part in PARTS_OF_ON_HAND)
        return self.quantities.get(name, 0)

    def change(self, name: str, delta: int, now: datetime) -> None:
        """Change a state by so many pieces; more or fewer on hand are more or fewer available."""
        state = AVAILABLE if name == ON_HAND else name
        self.quantities[state] = self.quantities.get(state, 0) + delta
        self.updated_at = now


class Stock:
    """All levels of a shop: everything at the first location, and at the second what was activated there."""

    def __init__(self, shop: Shop, now: datetime) -> None:
        rng = random.Random(f"{shop.domain} stock")
        self.locations = (Location(LOCATION_ID, "Main Street", now), Location(LOCATION_ID + 1, "Warehouse", now))
        self.items = {
            item.id: item for item in (Item(product, one) for product in shop.products for one in product.variants)
        }
        self._levels = {
            (item.id, LOCATION_ID): Level(item, self.locations[0], now, quantities={AVAILABLE: rng.randint(5, 200)})
            for item in self.items.values()
        }

    def location(self, number: int) -> Location | None:
        """Return a location, if there is one of that number."""
        return next((found for found in self.locations if found.id == number), None)

    def level(self, item_id: int, location_id: int, *, include_inactive: bool = False) -> Level | None:
        """Return a level, if the item is active there."""
        found = self._levels.get((item_id, location_id))
        return found if found is not None and (found.is_active or include_inactive) else None

    def levels(
        self, *, item_id: int | None = None, location_id: int | None = None, include_inactive: bool = False
    ) -> Iterator[Level]:
        """Yield the levels of an item or of a location."""
        for (item, location), level in self._levels.items():
            is_meant = item_id in (None, item) and location_id in (None, location)
            if is_meant and (level.is_active or include_inactive):
                yield level

    def changeable(self, item: Item, location: Location, now: datetime) -> Level:
        """Return a level whose quantities may be changed, active or not: since 2026-10 they may be anywhere."""
        key = (item.id, location.id)
        if key not in self._levels:
            self._levels[key] = Level(item, location, now, is_active=False)
        return self._levels[key]
