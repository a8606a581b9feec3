"""What the Admin API keeps for a shop beyond orders and customers: stock, discounts, credit, and its limits."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sellflow.simulator.graphql.bucket import DRAINS_KEPT, Bucket
from sellflow.simulator.graphql.calls import CallJournal
from sellflow.simulator.graphql.faults import FaultPlan
from sellflow.simulator.graphql.idempotency import Keys
from sellflow.simulator.graphql.records import (
    BulkOperation,
    CodeDiscount,
    CreditAccount,
    GiftCard,
    Metafield,
    Subscription,
)
from sellflow.simulator.graphql.stock import Stock
from sellflow.simulator.models import Shop


@dataclass(slots=True)
class Lane:
    """What one app has of its own in a shop: its bucket and its idempotency keys."""

    bucket: Bucket
    keys: Keys


@dataclass(slots=True)
class BulkPace:
    """How fast bulk operations go: root objects a step, and seconds between steps. A held one waits at each step."""

    step: int = 100
    seconds: float = 0.0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Let operations run."""
        self.gate.set()


@dataclass(slots=True)
class AdminShop:
    """The Admin API's memory of one shop."""

    clock: Callable[[], float]
    stock: Stock
    opened_at: datetime
    bucket: Bucket
    lanes: dict[str, Lane] = field(default_factory=dict)
    calls: CallJournal = field(default_factory=CallJournal)
    faults: FaultPlan = field(default_factory=FaultPlan)
    kept_lists: dict[object, tuple[int, Any]] = field(default_factory=dict)
    metafields: dict[tuple[str, str, str], Metafield] = field(default_factory=dict)
    discounts: dict[int, CodeDiscount] = field(default_factory=dict)
    gift_cards: dict[int, GiftCard] = field(default_factory=dict)
    credit: dict[int, CreditAccount] = field(default_factory=dict)
    subscriptions: dict[int, Subscription] = field(default_factory=dict)
    bulk_pace: BulkPace = field(default_factory=BulkPace)
    bulk_operations: dict[int, BulkOperation] = field(default_factory=dict)

    def lane(self, client_id: str) -> Lane:
        """Return an app's lane. A new one begins where an app stands that has not called yet."""
        if client_id not in self.lanes:
            bucket = copy.copy(self.bucket)
            bucket.drains = deque(self.bucket.drains, maxlen=DRAINS_KEPT)
            self.lanes[client_id] = Lane(bucket, Keys(self.clock))
        return self.lanes[client_id]

    def buckets(self) -> list[Bucket]:
        """Return the buckets of all apps, and that of apps to come."""
        return [self.bucket, *(lane.bucket for lane in self.lanes.values())]


def open_admin(shop: Shop, now: Callable[[], datetime]) -> AdminShop:
    """Return the memory of a shop that nobody has called yet."""

    def clock() -> float:
        return now().timestamp()

    opened_at = now()
    return AdminShop(clock, Stock(shop, opened_at), opened_at, Bucket(clock))
