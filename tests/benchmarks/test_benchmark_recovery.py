"""A fault is recovered from when throughput is back and the backlog no longer grows, not before."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.recovery import WINDOW, Fault, Sample, effects_per_second, lowest_rate, recovery_seconds


def stream(rates: Sequence[float], *, arrivals: float = 100.0) -> list[Sample]:
    """Samples of every second: `arrivals` come in each, and so many effects are committed."""
    samples, effects = [Sample(0, 0, 0)], 0.0
    for second, rate in enumerate(rates, start=1):
        effects += rate
        samples.append(Sample(second, round(second * arrivals), round(effects)))
    return samples


def fault(began: float, ended: float, *, lasts: bool = False, watched: float = 60) -> Fault:
    return Fault("test", began, ended, began if lasts else ended, watched)


def test_a_rate_is_drawn_straight_between_samples() -> None:
    samples = [Sample(0, 0, 0), Sample(2, 0, 100), Sample(6, 0, 100)]
    assert effects_per_second(samples, 0, 1) == 50
    assert effects_per_second(samples, 1, 3) == 25
    assert effects_per_second(samples, -1, 9) == 10


@pytest.mark.parametrize(("start", "end"), [(1, 1), (2, 1)])
def test_a_rate_without_time_is_refused(start: float, end: float) -> None:
    with pytest.raises(ValueError, match="end after its start"):
        effects_per_second([Sample(0, 0, 0)], start, end)


def test_recovery_is_timed_to_the_beginning_of_the_first_good_window() -> None:
    samples = stream([100] * 10 + [0] * 4 + [100] * 10)
    assert recovery_seconds(samples, fault(10, 12), before=100) == 2


def test_a_fault_that_lasts_and_does_no_harm_is_recovered_from_at_once() -> None:
    assert recovery_seconds(stream([100] * 30), fault(10, 20, lasts=True), before=100) == 0


def test_what_never_comes_back_is_not_recovered() -> None:
    assert recovery_seconds(stream([100] * 10 + [80] * 30), fault(10, 12), before=100) is None


def test_what_comes_back_after_the_watch_is_not_recovered() -> None:
    samples = stream([100] * 10 + [0] * 20 + [100] * 10)
    assert recovery_seconds(samples, fault(10, 12, watched=20), before=100) is None


def test_throughput_of_before_is_no_recovery_while_the_backlog_grows() -> None:
    samples = stream([100] * 40, arrivals=150)
    assert recovery_seconds(samples, fault(10, 12), before=100) is None


@given(down=st.integers(0, 20), caught_up=st.floats(90, 500))
def test_the_longer_it_is_down_the_longer_recovery_takes(down: int, caught_up: float) -> None:
    samples = stream([100] * 10 + [0] * down + [max(caught_up, 100)] * 20)
    assert recovery_seconds(samples, fault(10, 10), before=100) == pytest.approx(down, abs=WINDOW)


def test_a_dip_after_the_recovery_is_found() -> None:
    samples = stream([100] * 20 + [40] * 5 + [100] * 10)
    assert lowest_rate(samples, 10, 35) == 40
    assert lowest_rate(samples, 26, 35) == 100
    assert lowest_rate(samples, 33, 35) is None
