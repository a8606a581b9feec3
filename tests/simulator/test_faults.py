"""Faults come as often as asked, the same for the same seed, and lose only what is meant to be lost."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sellflow.simulator.faults import Fate, ReorderWindow, draw_fate
from sellflow.simulator.schemas import Faults

SHARES = st.floats(0, 1)


def fates(faults: Faults, seed: int, count: int) -> list[Fate]:
    rng = random.Random(seed)
    return [draw_fate(faults, rng) for _ in range(count)]


def through_window(held: Sequence[int]) -> list[int]:
    window: ReorderWindow[int] = ReorderWindow()
    released = [ready for item, turns in enumerate(held) for ready in window.offer(item, turns)]
    return released + list(window.flush())


def test_nothing_goes_wrong_by_default() -> None:
    assert set(fates(Faults(), 1, 200)) <= {Fate(), Fate(duplicated_at_once=True)}


def test_a_certain_fault_hits_every_delivery() -> None:
    worst = Faults(duplicate=1, delay=1, delay_seconds=3, lose=1, reorder=1, reorder_window=4)

    for fate in fates(worst, 1, 200):
        assert fate.lost
        assert fate.duplicated
        assert 0 <= fate.delay <= 3
        assert 1 <= fate.held_for <= 4


@given(SHARES, st.integers())
def test_one_fault_does_not_move_another(share: float, seed: int) -> None:
    alone = [fate.duplicated for fate in fates(Faults(duplicate=0.3), seed, 50)]
    crowded = [fate.duplicated for fate in fates(Faults(duplicate=0.3, lose=share, delay=share), seed, 50)]

    assert alone == crowded


@given(st.lists(st.integers(0, 6), max_size=40))
def test_a_window_releases_everything_exactly_once(held: list[int]) -> None:
    assert sorted(through_window(held)) == list(range(len(held)))


@given(st.lists(st.integers(0, 6), max_size=40))
def test_a_held_item_lets_its_number_of_later_ones_pass(held: list[int]) -> None:
    order = through_window(held)
    for item, turns in enumerate(held):
        later = [other for other in order[: order.index(item)] if other > item]
        assert len(later) <= turns


def test_what_is_not_held_keeps_its_order() -> None:
    assert through_window([0] * 5) == [0, 1, 2, 3, 4]


def test_a_held_item_comes_later() -> None:
    assert through_window([2, 0, 0, 0]) == [1, 2, 0, 3]
