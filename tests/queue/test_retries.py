"""When a failed message is tried again."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sellflow.errors import InvalidPayloadError, PermanentError
from sellflow.queue.retries import RetryPolicy

policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 100),
    base=st.floats(0.001, 1e6),
    cap=st.floats(0.001, 1e6),
)
chances = st.floats(0, 1)
failures = st.integers(1, 10**6)


@given(policies, failures, chances)
def test_a_wait_is_never_longer_than_cap_and_power_allow(policy: RetryPolicy, failed: int, chance: float) -> None:
    delay = policy.delay(failed, RuntimeError(), chance)
    if failed >= policy.attempts:
        assert delay is None
    else:
        assert delay is not None
        assert 0 <= delay <= policy.cap
        assert delay <= policy.base * 2.0 ** min(failed, 64)


@given(policies, failures, chances)
def test_a_permanent_error_is_never_tried_again(policy: RetryPolicy, failed: int, chance: float) -> None:
    assert policy.delay(failed, PermanentError(), chance) is None
    assert policy.delay(failed, InvalidPayloadError(), chance) is None


@given(policies, failures, chances, chances)
def test_more_chance_and_more_failures_never_shorten_the_wait(
    policy: RetryPolicy, failed: int, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    waits = [policy.delay(failed, RuntimeError(), small), policy.delay(failed, RuntimeError(), large)]
    if waits[0] is not None and waits[1] is not None:
        assert waits[0] <= waits[1]
    later = policy.delay(failed + 1, RuntimeError(), large)
    if waits[1] is not None and later is not None:
        assert waits[1] <= later


@given(policies, failures, chances, chances)
def test_what_is_left_to_chance_is_a_share_of_the_wait(
    policy: RetryPolicy, failed: int, least: float, chance: float
) -> None:
    longest = policy.delay(failed, RuntimeError(), 1)
    some = replace(policy, least=least).delay(failed, RuntimeError(), chance)
    if longest is not None and some is not None:
        assert longest * least * 0.999 <= some <= longest * 1.001


def test_the_longest_waits_double_up_to_the_cap() -> None:
    policy = RetryPolicy(attempts=6, base=2, cap=20)
    assert [policy.delay(n, RuntimeError(), 1) for n in range(1, 8)] == [4, 8, 16, 20, 20, None, None]
