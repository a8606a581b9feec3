"""The arithmetic of a comparison: percentiles, pairs and their ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median


@dataclass(frozen=True)
class Pair:
    """What Sellflow and every peer reached in one round, in requests a second."""

    sellflow: float
    peers: Mapping[str, float]

    @property
    def ratio(self) -> float:
        """Sellflow over the best peer of this round."""
        return self.sellflow / max(self.peers.values())


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile: the smallest value with `share` (0 to 1] of all at or below it.

    Raises
    ------
    ValueError
        If there is no value, or `share` is not a share.
    """
    if not values or not 0 < share <= 1:
        raise ValueError("a percentile needs at least one value and a share above 0 and up to 1")
    return sorted(values)[ceil(share * len(values)) - 1]


def median_ratio(pairs: Sequence[Pair]) -> float:
    """Return the median of the pairs' own ratios: what drifts between rounds cancels within each."""
    return median(pair.ratio for pair in pairs)


def median_by_name(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return each name's median over the rounds."""
    return {name: median(each[name] for each in rounds) for name in rounds[0]}
