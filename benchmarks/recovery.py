"""When is a system itself again after a fault: arithmetic on samples of what was asked and what was done."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

#: What counts as recovered: this share of the throughput before, over a window of so many seconds.
SHARE = 0.9
WINDOW = 3.0
#: The backlog may grow by this share of what came in within the window: arrivals are not even.
SLACK = 0.1
#: A dip that comes after the recovery is one of this many seconds.
DIP = 5.0


@dataclass(frozen=True)
class Sample:
    """At `at` seconds, so many deliveries had been acknowledged and so many effects were committed."""

    at: float
    acknowledged: int
    effects: int


@dataclass(frozen=True)
class Fault:
    """A fault, in seconds. Recovery is timed from `timed_from`: its end, or its beginning where it lasts."""

    name: str
    began: float
    ended: float
    timed_from: float
    watched_until: float


def effects_per_second(samples: Sequence[Sample], start: float, end: float) -> float:
    """Return the effects a second between two moments, drawn straight between samples.

    Raises
    ------
    ValueError
        If the end is not after the start.
    """
    if end <= start:
        raise ValueError("a rate needs an end after its start")
    return (_effects(samples, end) - _effects(samples, start)) / (end - start)


def recovery_seconds(samples: Sequence[Sample], fault: Fault, *, before: float) -> float | None:
    """Return the seconds until a window has `SHARE` of the throughput `before`; None if none did while watched.

    The backlog must not be growing any more over the same window.
    """
    for sample in samples:
        if sample.at < fault.timed_from + WINDOW or sample.at > fault.watched_until:
            continue
        start = sample.at - WINDOW
        fast_enough = effects_per_second(samples, start, sample.at) >= SHARE * before
        came = _acknowledged(samples, sample.at) - _acknowledged(samples, start)
        done = _effects(samples, sample.at) - _effects(samples, start)
        if fast_enough and came - done <= SLACK * came:
            return round(start - fault.timed_from, 2)
    return None


def lowest_rate(samples: Sequence[Sample], start: float, end: float) -> float | None:
    """Return the lowest effects a second over `DIP` seconds on end between two moments; None if they are closer."""
    ends = [sample.at for sample in samples if start + DIP <= sample.at <= end]
    return min((effects_per_second(samples, at - DIP, at) for at in ends), default=None)


def _effects(samples: Sequence[Sample], at: float) -> float:
    return _between(samples, at, [sample.effects for sample in samples])


def _acknowledged(samples: Sequence[Sample], at: float) -> float:
    return _between(samples, at, [sample.acknowledged for sample in samples])


def _between(samples: Sequence[Sample], at: float, values: Sequence[int]) -> float:
    """Return the value at a moment, drawn straight between the samples around it."""
    after = bisect_left(samples, at, key=lambda sample: sample.at)
    if after == 0:
        return values[0]
    if after == len(samples):
        return values[-1]
    left, right = samples[after - 1], samples[after]
    share = (at - left.at) / (right.at - left.at)
    return values[after - 1] + share * (values[after] - values[after - 1])
