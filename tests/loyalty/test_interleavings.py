"""Any interleaving of duplicates, reorderings, crashes, expired claims and redeliveries leaves the same ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings

from sellflow.postgres.database import Database
from tests.loyalty.interleavings import Plan, plans
from tests.loyalty.theatre import Theatre, theatre


@pytest.fixture
async def stage(database: Database) -> AsyncIterator[Theatre]:
    async with theatre(database) as built:
        yield built


# `make fuzz` plays thousands.
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(plan=plans())
async def test_any_interleaving_leaves_the_same_ledger(stage: Theatre, plan: Plan) -> None:
    await stage.play(plan)
