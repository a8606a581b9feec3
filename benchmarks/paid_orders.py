"""Paid orders of a few thousand customers by number, and what each must bring its customer in points."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path

from benchmarks.orders import order_front, order_tail

CUSTOMERS = 2000
#: What `sellflow shops add` puts in force: a point for each whole unit of the shop's currency.
POINTS_PER_UNIT = Decimal(1)


@dataclass(frozen=True)
class Award:
    """The customer of an order, and the points that the order must bring."""

    customer_id: int
    points: int


class PaidOrders:
    """Order `number` has the id and name of that number and one of the customers; any number of them can be had.

    The points are worked out here from the payload alone, so that they check whoever claims to have awarded them.
    """

    def __init__(self, *, seed: int, moment: datetime, customers: int = CUSTOMERS) -> None:
        draw = random.Random(seed)
        self._tails = [order_tail(draw, moment) for _ in range(customers)]
        self._awards = [_award(tail) for tail in self._tails]

    def payload(self, number: int) -> bytes:
        """Return the body of the order's webhook."""
        return order_front(number) + self._tails[number % len(self._tails)]

    def award(self, number: int) -> Award:
        """Return what the order must bring."""
        return self._awards[number % len(self._awards)]

    def awards(self, numbers: Iterable[int]) -> dict[int, Award]:
        """Return what the orders must bring, by order id."""
        return {order_id(number): self.award(number) for number in numbers}

    def write(self, file: Path, numbers: Iterable[int]) -> None:
        """Write the orders to a file, one a line."""
        with file.open("wb") as lines:
            lines.writelines(self.payload(number) + b"\n" for number in numbers)


def order_id(number: int) -> int:
    """Return the id of the order with this number."""
    return int(json.loads(order_front(number) + b'"end":0}')["id"])


def points_by_customer(awards: Iterable[Award]) -> dict[int, int]:
    """Add up awards."""
    sums: Counter[int] = Counter()
    for each in awards:
        sums[each.customer_id] += each.points
    return dict(sums)


def _award(tail: bytes) -> Award:
    order = json.loads(b"{" + tail)
    points = Decimal(order["subtotal_price"]) * POINTS_PER_UNIT
    return Award(order["customer"]["id"], int(points.to_integral_value(ROUND_FLOOR)))
