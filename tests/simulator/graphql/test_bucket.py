"""The leaky bucket, under a clock that only the test moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sellflow.simulator.graphql.bucket import RESTORE_RATES, Bucket
from tests.simulator.conftest import Clock

from .conftest import Admin


class Hand:
    """A clock's hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def bucket(hand: Hand) -> Bucket:
    return Bucket(hand)


@pytest.mark.conformance
@pytest.mark.parametrize(("plan", "rate"), [("standard", 100), ("advanced", 200), ("plus", 1000), ("enterprise", 2000)])
def test_each_plan_restores_what_shopify_publishes(hand: Hand, plan: str, rate: int) -> None:
    bucket = Bucket(hand, restore_rate=RESTORE_RATES[plan])
    bucket.configure(level=0)
    hand.at += 1

    assert bucket.level == rate


@pytest.mark.conformance
def test_points_are_taken_whole_or_not_at_all(bucket: Bucket) -> None:
    bucket.configure(level=10)

    assert [bucket.take(11), bucket.take(10), bucket.take(1)] == [False, True, False]


@pytest.mark.conformance
def test_it_never_holds_more_than_its_maximum(hand: Hand, bucket: Bucket) -> None:
    hand.at += 1000
    bucket.give_back(500)

    assert bucket.level == bucket.maximum == 2000


def test_a_clock_that_runs_backwards_takes_nothing(hand: Hand, bucket: Bucket) -> None:
    bucket.configure(level=50)
    hand.at -= 10
    assert bucket.level == 50
    hand.at += 11
    assert bucket.level == 150


def test_a_stranger_takes_what_there_is(bucket: Bucket) -> None:
    bucket.configure(level=30)

    assert (bucket.drain(20), bucket.drain(20), bucket.level) == (20, 10, 0)
    assert [one.points for one in bucket.drains] == [20, 10]


def test_a_stranger_comes_again_at_the_minute_although_nobody_looks(hand: Hand, bucket: Bucket) -> None:
    bucket.configure(level=0)
    bucket.drain_every(2, 150)
    hand.at += 7

    assert [(one.at, one.points) for one in bucket.drains] == []
    assert bucket.level == 700 - 3 * 150
    assert [(one.at, one.points) for one in bucket.drains] == [(1002, 150), (1004, 150), (1006, 150)]
    bucket.drain_every(None)
    hand.at += 7
    assert (bucket.level, len(bucket.drains)) == (250 + 700, 3)


@given(
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(0, 400)), max_size=20),
    every=st.floats(0.1, 3),
    points=st.integers(1, 500),
)
def test_looking_often_changes_nothing(steps: list[tuple[float, int]], every: float, points: int) -> None:
    hand, watched = Hand(), Hand()
    bucket, other = Bucket(hand), Bucket(watched)
    for one in (bucket, other):
        one.drain_every(every, points)
    for seconds, wanted in steps:
        for part in (0.25, 0.5, 0.75):
            watched.at = hand.at + seconds * part
            assert 0 <= other.level <= other.maximum
        hand.at += seconds
        watched.at = hand.at
        assert bucket.level == pytest.approx(other.level)
        # A quarter keeps away from levels that two ways of adding up could put on either side.
        assert bucket.take(wanted + 0.25) is other.take(wanted + 0.25)
    assert [one.at for one in bucket.drains] == [one.at for one in other.drains]


@pytest.mark.conformance
async def test_a_query_that_the_bucket_cannot_pay_is_throttled_in_its_body(admin: Admin, clock: Clock) -> None:
    await admin.control("PUT", "admin-api/bucket", restore_rate=0.0001, maximum=2000, level=11)
    found = await admin.answer("{ orders(first: 10) { nodes { id } } }")

    assert "data" not in found
    assert found["errors"][0]["message"] == "Throttled"
    assert found["errors"][0]["extensions"]["code"] == "THROTTLED"
    assert found["extensions"]["cost"]["requestedQueryCost"] == 12
    assert found["extensions"]["cost"]["actualQueryCost"] is None
    assert found["extensions"]["cost"]["throttleStatus"]["currentlyAvailable"] == 11
    assert (await admin.counts())["throttled"] == 1
    clock.advance(seconds=20_000)
    assert "errors" not in await admin.answer("{ orders(first: 10) { nodes { id } } }")


async def test_a_stranger_drains_the_bucket_of_an_app_on_demand(admin: Admin) -> None:
    await admin.data("{ shop { id } }")
    await admin.control("PUT", "admin-api/bucket", restore_rate=0.0001, maximum=2000, level=1000)
    await admin.control("POST", "admin-api/drain", points=995)
    shown = await admin.control("GET", "admin-api")

    assert round(shown["buckets"]["no-app"]["level"]) == 5
    assert (shown["buckets"]["no-app"]["drains"], shown["buckets"]["no-app"]["drained"]) == (1, 995)
    assert (await admin.answer("{ orders(first: 10) { nodes { id } } }"))["errors"][0]["message"] == "Throttled"


async def test_a_stranger_who_keeps_coming_is_sent_away(admin: Admin, clock: Clock) -> None:
    await admin.data("{ shop { id } }")
    await admin.control("POST", "admin-api/drain", points=2000, every=1)
    clock.advance(seconds=5)
    drained = (await admin.control("GET", "admin-api"))["buckets"]["no-app"]["drains"]
    await admin.control("POST", "admin-api/drain", points=0)
    clock.advance(seconds=60)

    assert drained == 5
    assert (await admin.control("GET", "admin-api"))["buckets"]["no-app"] | {"drains": 5, "level": 2000} == (
        await admin.control("GET", "admin-api")
    )["buckets"]["no-app"]


@pytest.mark.conformance
async def test_each_app_has_a_bucket_of_its_own(admin: Admin) -> None:
    shop = "/shops/demo-shop.myshopify.com"
    await admin.api.put("/apps/another", json={"client_secret": "s" * 32, "app_url": "http://app.test/"})
    minted = await admin.api.post(f"{shop}/access-token", json={"client_id": "another", "scopes": []})
    await admin.data("{ orders(first: 50) { nodes { id } } }")
    other = Admin(admin.api, admin.simulator, minted.json()["access_token"])
    found = await other.answer("{ shop { id } }")

    assert found["extensions"]["cost"]["throttleStatus"]["currentlyAvailable"] == 1999


@pytest.mark.conformance
async def test_the_merchants_plan_sets_the_rate(admin: Admin) -> None:
    await admin.control("PUT", "admin-api/bucket", plan="plus")
    found = await admin.answer("{ shop { plan { shopifyPlus } } }")

    assert found["data"]["shop"]["plan"]["shopifyPlus"] is True
    assert found["extensions"]["cost"]["throttleStatus"]["restoreRate"] == 1000
    assert found["extensions"]["cost"]["throttleStatus"]["maximumAvailable"] == 20_000
