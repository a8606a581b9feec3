"""Identifiers that never repeat, not even across restarts, although nothing is stored."""

from __future__ import annotations

import time
from collections.abc import Callable


class Ids:
    """Counts upwards from the clock, milliseconds times 1,000: a later process starts above an earlier one.

    Values stay below 2^53 until the year 2255, so that JavaScript reads them exactly, as it does Shopify's.
    """

    def __init__(self, milliseconds: Callable[[], int] | None = None) -> None:
        self._milliseconds = milliseconds or (lambda: time.time_ns() // 1_000_000)
        self._last = 0

    def __call__(self) -> int:
        """Return the next identifier."""
        self._last = max(self._last + 1, self._milliseconds() * 1000)
        return self._last


def gid(resource: str, number: int) -> str:
    """Return the Admin GraphQL identifier of a REST resource, such as `gid://shopify/Order/1`."""
    return f"gid://shopify/{resource}/{number}"
