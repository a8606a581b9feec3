"""The leaky bucket of one shop's app: points restored every second, and a stranger who takes some of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

# Points a second by the shop's plan (shopify.dev, GraphQL Admin API rate limits).
RESTORE_RATES = {"standard": 100.0, "advanced": 200.0, "plus": 1000.0, "enterprise": 2000.0}

# Shopify does not publish the size of its bucket. Answers seen in public show 2,000 points at 100 a second.
SECONDS_TO_FILL = 20.0

DRAINS_KEPT = 100_000


@dataclass(frozen=True, slots=True)
class Drain:
    """Points that a foreign app user took, and when: seconds of the bucket's clock."""

    at: float
    points: float


class Bucket:
    """Points that are left; every method brings the bucket up to the present first.

    Parameters
    ----------
    clock
        Returns the present in seconds; it may stand still, but time that runs backwards is ignored.
    """

    def __init__(self, clock: Callable[[], float], *, restore_rate: float = RESTORE_RATES["standard"]) -> None:
        self._clock = clock
        self.restore_rate = restore_rate
        self.maximum = restore_rate * SECONDS_TO_FILL
        self.drains: deque[Drain] = deque(maxlen=DRAINS_KEPT)
        self._level = self.maximum
        self._settled_at = clock()
        self._every: float | None = None
        self._stranger_takes = 0.0
        self._next_drain = 0.0

    @property
    def level(self) -> float:
        """The points left now."""
        self._settle()
        return self._level

    def take(self, points: float) -> bool:
        """Take `points`, all of them or none."""
        self._settle()
        if points > self._level:
            return False
        self._level -= points
        return True

    def give_back(self, points: float) -> None:
        """Put back what a query did not use after all."""
        self._settle()
        self._level = min(self.maximum, self._level + points)

    def configure(
        self, *, restore_rate: float | None = None, maximum: float | None = None, level: float | None = None
    ) -> None:
        """Change the rate (which also sizes the bucket, unless `maximum` is given), the size or what is left."""
        self._settle()
        if restore_rate is not None:
            self.restore_rate = restore_rate
            self.maximum = restore_rate * SECONDS_TO_FILL
        if maximum is not None:
            self.maximum = maximum
        self._level = min(self.maximum, self._level if level is None else level)

    def drain(self, points: float) -> float:
        """Let the stranger take up to `points`; return how many there were to take."""
        self._settle()
        return self._drain(points, self._settled_at)

    def drain_every(self, seconds: float | None, points: float = 0.0) -> None:
        """Let the stranger take up to `points` every so many `seconds`, the first time after one such while.

        None sends the stranger away.
        """
        self._settle()
        self._every, self._stranger_takes = seconds, points
        self._next_drain = self._settled_at + (seconds or 0.0)

    def _settle(self) -> None:
        """Replay what happened since the last look, in its order: drains need no task and no timer."""
        now = self._clock()
        while self._every and self._next_drain <= now:
            self._restore(self._next_drain)
            self._drain(self._stranger_takes, self._next_drain)
            self._next_drain += self._every
        self._restore(now)

    def _restore(self, now: float) -> None:
        passed = max(0.0, now - self._settled_at)
        self._level = min(self.maximum, self._level + passed * self.restore_rate)
        self._settled_at = max(now, self._settled_at)

    def _drain(self, points: float, at: float) -> float:
        taken = min(points, self._level)
        self._level -= taken
        self.drains.append(Drain(at, taken))
        return taken
