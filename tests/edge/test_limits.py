"""How much a caller may: buckets that fill with time, and the answer when one is empty."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sellflow.edge import limits
from sellflow.edge.limits import BURST_SECONDS, Kind, Limits
from sellflow.edge.problems import Problem
from sellflow.postgres.database import Database, SessionConnection
from tests.conftest import Tenant
from tests.edge.callers import merchant, service
from tests.edge.serving import serving, with_settings


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def limited(rate: float, clock: Clock) -> Limits:
    async def rate_of(_kind: Kind, _shop_id: int | None) -> float:
        return rate

    return Limits(rate_of, clock=clock)


async def is_let_in(found: Limits, kind: Kind, shop_id: int | None) -> bool:
    try:
        await found.take(kind, shop_id)
    except Problem as problem:
        return (problem.status, problem.code) != (429, "request.too_many")
    return True


async def taken(found: Limits, shop_id: int | None = 1, kind: Kind = Kind.MERCHANT, most: int = 1000) -> int:
    """Take until it is refused; return how often it was not."""
    number = 0
    while number < most and await is_let_in(found, kind, shop_id):
        number += 1
    return number


async def test_a_bucket_empties_and_fills_with_time() -> None:
    clock = Clock()
    found = limited(10, clock)
    assert await taken(found) == 20
    clock.now += 0.5
    assert await taken(found) == 5
    clock.now += 3600
    assert await taken(found) == 20


async def test_shops_and_kinds_have_buckets_of_their_own() -> None:
    found = limited(1, Clock())
    assert await taken(found, 1) == await taken(found, 2) == await taken(found, None) == 2
    assert await taken(found, 1, Kind.SERVICE) == 2
    assert await taken(found, 1) == 0


async def test_no_rate_is_no_limit() -> None:
    assert await taken(limited(0, Clock())) == 1000


async def test_less_than_one_a_second_still_lets_one_through() -> None:
    clock = Clock()
    found = limited(0.1, clock)
    assert await taken(found) == 1
    clock.now += 10.1
    assert await taken(found) == 1


async def test_buckets_that_are_full_again_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_BUCKETS", 10)
    clock = Clock()
    found = limited(1, clock)
    for shop_id in range(10):
        await found.take(Kind.MOBILE, shop_id)
    clock.now += BURST_SECONDS
    await found.take(Kind.MOBILE, 10)
    assert len(found._buckets) == 1


@given(
    rate=st.floats(0.5, 50), pauses=st.lists(st.floats(0, 5), max_size=30), tries=st.integers(min_value=1, max_value=30)
)
async def test_nobody_gets_more_than_the_burst_and_the_rate(rate: float, pauses: list[float], tries: int) -> None:
    clock = Clock()
    found = limited(rate, clock)
    total, began = await taken(found, most=tries), clock.now
    for pause in pauses:
        clock.now += pause
        total += await taken(found, most=tries)
    assert total <= max(1.0, rate * BURST_SECONDS) + rate * (clock.now - began) + 1e-6


async def test_a_caller_over_the_limit_is_told_when_to_come_back(
    database: Database, owner: SessionConnection, tenant: Tenant, other_tenant: Tenant
) -> None:
    slow = with_settings(database, merchant_requests_per_second=0.5, service_requests_per_second=0.5)
    async with serving(slow) as client:
        for headers, path in (
            (merchant(tenant), "/admin/api/session"),
            (await service(owner, "deadletters:read"), "/v1/dead-letters"),
        ):
            assert (await client.get(path, headers=headers)).status_code == 200
            refused: httpx.Response = await client.get(path, headers=headers)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
            assert refused.headers["content-type"] == "application/problem+json"
        assert (await client.get("/admin/api/session", headers=merchant(other_tenant))).status_code == 200
