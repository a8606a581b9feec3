"""Any interleaving of duplicates, reorderings, crashes, expired claims and redeliveries leaves the same ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, example, given, settings

from sellflow.postgres.database import Database
from tests.loyalty.histories import Change, OrderStory
from tests.loyalty.interleavings import Deliver, Expire, Plan, Stall, WakeUp, Work, plans
from tests.loyalty.theatre import Theatre, theatre


@pytest.fixture
async def stage(database: Database) -> AsyncIterator[Theatre]:
    async with theatre(database) as built:
        yield built


def _paid(order_id: int) -> OrderStory:
    return OrderStory(shop=0, order_id=order_id, customer=1, amount=5000, is_guest=False, changes=(Change("pay"),))


#: A witness loses the first of two messages of a key to another, and must leave the second to it as well.
OVERTAKING = Plan(
    stories=(_paid(1001), _paid(1002)),
    arrival=tuple(range(6)),
    steps=(
        Deliver(6),
        Work("loyalty", 50),
        Stall("witness", 50),
        Expire(),
        Stall("witness", 1),
        WakeUp(0, beside=0),
    ),
)


# `make fuzz` plays thousands.
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(plan=plans())
@example(plan=OVERTAKING)
async def test_any_interleaving_leaves_the_same_ledger(stage: Theatre, plan: Plan) -> None:
    await stage.play(plan)
