"""When a delivery is tried again, and when an endpoint is paused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sellflow.errors import ConfigurationError, TryLaterError
from sellflow.queue.outgoing import rules
from sellflow.queue.outgoing.models import Answer, EndpointState, Health, Listener
from sellflow.queue.outgoing.rules import PAUSED_AFTER, RETRIES, Audience, EndpointGoneError, RefusedError

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ANYBODY = Audience()


def waits(chances: list[float]) -> list[float]:
    found = [RETRIES.delay(number + 1, RuntimeError(), chance) for number, chance in enumerate(chances)]
    return [each for each in found if each is not None]


@given(st.lists(st.floats(0, 1), min_size=RETRIES.attempts, max_size=RETRIES.attempts))
def test_retries_span_more_than_a_day_whatever_chance_says(chances: list[float]) -> None:
    found = waits(chances)
    assert len(found) == RETRIES.attempts - 1
    assert timedelta(hours=24) < timedelta(seconds=sum(found)) < timedelta(hours=34)


@given(st.lists(st.floats(0, 1), min_size=RETRIES.attempts, max_size=RETRIES.attempts))
def test_an_endpoint_that_is_away_is_paused_before_a_delivery_is_given_up(chances: list[float]) -> None:
    """So what is sent to it is held, and not lost."""
    for number, passed in enumerate(accumulate(waits(chances)), start=2):
        health = Health(1, number, NOW, EndpointState.ACTIVE)
        if rules.reason_to_pause(health, is_gone=False, now=NOW + timedelta(seconds=passed)):
            assert number < RETRIES.attempts
            return
    pytest.fail("the endpoint was never paused")


def test_retries_are_spread_by_chance() -> None:
    assert RETRIES.delay(5, RuntimeError(), 0.0) == pytest.approx(128)
    assert RETRIES.delay(5, RuntimeError(), 1.0) == pytest.approx(160)


@given(st.integers(0, 1000), st.timedeltas(timedelta(0), timedelta(days=30)))
def test_an_endpoint_is_paused_for_many_failures_over_a_long_time_alone(failures: int, passed: timedelta) -> None:
    health = Health(1, failures, NOW - passed, EndpointState.ACTIVE)
    is_paused = rules.reason_to_pause(health, is_gone=False, now=NOW) is not None
    assert is_paused == (failures >= rules.PAUSED_AFTER_FAILURES and passed >= PAUSED_AFTER)


@given(st.integers(200, 299))
def test_any_success_is_a_success(status: int) -> None:
    assert rules.verdict(Answer(status), NOW) is None


@given(st.integers(100, 599).filter(lambda status: not 200 <= status < 300 and status != 410))
def test_everything_else_is_refused_redirects_among_it(status: int) -> None:
    error = rules.verdict(Answer(status), NOW)
    assert isinstance(error, RefusedError)
    assert ("redirects are not followed" in str(error)) == (300 <= status < 400)


def test_gone_is_gone() -> None:
    assert isinstance(rules.verdict(Answer(410), NOW), EndpointGoneError)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (format_datetime(NOW + timedelta(minutes=5), usegmt=True), 300.0),
        (format_datetime(NOW - timedelta(minutes=5), usegmt=True), 0.0),
        ("9" * 400, 1e8),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float) -> None:
    error = rules.verdict(Answer(503, retry_after=header), NOW)
    assert isinstance(error, TryLaterError)
    assert error.seconds == seconds


@given(st.text())
def test_no_retry_after_is_too_strange(header: str) -> None:
    rules.wait_asked_for(header, NOW)


@pytest.mark.parametrize("header", [None, "", "soon", "-1", "1.5", "٣"])
def test_a_retry_after_that_says_nothing_is_passed_over(header: str | None) -> None:
    assert isinstance(rules.verdict(Answer(429, retry_after=header), NOW), RefusedError)


def listener(*topics: str, shop_id: int | None = None) -> Listener:
    return Listener(endpoint_id=7, shop_id=shop_id, topics=list(topics), is_paused=False)


def test_an_endpoint_is_told_what_its_patterns_match_of_its_shop() -> None:
    told = [
        rules.is_told(listener("loyalty.*.earned", shop_id=1), topic=topic, shop_id=shop, audience=ANYBODY)
        for topic, shop in (("loyalty.points.earned", 1), ("loyalty.points.earned", 2), ("shopify.orders.paid", 1))
    ]
    assert told == [True, False, False]


@pytest.mark.parametrize("topic", [rules.DELIVERY_DUE, rules.ENDPOINT_TEST])
def test_nobody_subscribes_to_what_deliveries_are_made_of(topic: str) -> None:
    assert not rules.is_told(listener("#", topic), topic=topic, shop_id=1, audience=ANYBODY)
    with pytest.raises(ConfigurationError, match="no topic matches"):
        rules.check_patterns([topic], [topic, "loyalty.points.earned"])


def test_a_test_goes_to_its_endpoint_alone() -> None:
    for endpoint_id, is_told in ((7, True), (8, False)):
        audience = Audience(only_endpoint=endpoint_id)
        assert rules.is_told(listener("x"), topic=rules.ENDPOINT_TEST, shop_id=1, audience=audience) == is_told


def test_patterns_are_checked_against_the_topics_there_are() -> None:
    topics = ["loyalty.points.earned", "queue.dead_letter"]
    assert rules.check_patterns(["queue.*", " loyalty.# ", "queue.*"], topics) == ["loyalty.#", "queue.*"]
    with pytest.raises(ConfigurationError, match=r"no topic matches 'loyalti\.#'; there are: loyalty\.points\.earned,"):
        rules.check_patterns(["loyalti.#"], topics)
    with pytest.raises(ConfigurationError, match="at least one topic"):
        rules.check_patterns([], topics)
