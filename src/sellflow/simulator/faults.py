"""What goes wrong with a delivery, drawn from a seed before anything is sent."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from sellflow.simulator.schemas import Faults

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Fate:
    """What will happen to one delivery: `delay` in seconds, `held_for` in later deliveries that pass it."""

    lost: bool = False
    delay: float = 0.0
    duplicated: bool = False
    duplicated_at_once: bool = False
    held_for: int = 0


def draw_fate(faults: Faults, rng: random.Random) -> Fate:
    """Return a delivery's fate.

    It always takes seven numbers from `rng`, so that one fault's probability does not move the others.
    """
    lose, delay, length, duplicate, at_once, reorder, place = (rng.random() for _ in range(7))
    return Fate(
        lost=lose < faults.lose,
        delay=length * faults.delay_seconds if delay < faults.delay else 0.0,
        duplicated=duplicate < faults.duplicate,
        duplicated_at_once=at_once < 0.5,
        held_for=1 + int(place * faults.reorder_window) if reorder < faults.reorder else 0,
    )


class ReorderWindow(Generic[Item]):
    """Holds items back until their number of later ones has passed."""

    def __init__(self) -> None:
        self._held: list[tuple[int, Item]] = []
        self._passed = 0

    def offer(self, item: Item, held_for: int) -> Iterator[Item]:
        """Take an item in and yield those whose turn it is now, this one among them unless it is held."""
        self._passed += 1
        if held_for:
            self._held.append((self._passed + held_for, item))
        else:
            yield item
        yield from self._release(self._passed)

    def flush(self) -> Iterator[Item]:
        """Yield everything still held."""
        yield from self._release(max((turn for turn, _ in self._held), default=0))

    def _release(self, turn: int) -> list[Item]:
        due = sorted((held for held in self._held if held[0] <= turn), key=lambda held: held[0])
        self._held = [held for held in self._held if held[0] > turn]
        return [item for _, item in due]
