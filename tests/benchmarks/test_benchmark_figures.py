"""Percentiles, pairs and their ratios."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import Pair, median_by_name, median_ratio, percentile


def test_a_percentile_is_the_nearest_rank() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1)) == (50, 99, 100)


@given(st.lists(st.floats(0, 1000), min_size=1), st.floats(0, 1, exclude_min=True))
def test_at_least_the_share_lies_at_or_below_the_percentile(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.1)])
def test_a_percentile_of_nothing_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, share)


def test_a_pair_is_compared_with_the_best_peer_of_the_same_round() -> None:
    pairs = [
        Pair(6000, {"bullmq": 2000, "pgboss": 1000}),
        Pair(3000, {"bullmq": 500, "pgboss": 600}),
        Pair(4000, {"bullmq": 1000, "pgboss": 900}),
    ]
    assert [pair.ratio for pair in pairs] == [3, 5, 4]
    assert median_ratio(pairs) == 4


def test_medians_are_taken_name_by_name() -> None:
    assert median_by_name([{"a": 1, "b": 9}, {"a": 3, "b": 7}, {"a": 2, "b": 8}]) == {"a": 2, "b": 8}
