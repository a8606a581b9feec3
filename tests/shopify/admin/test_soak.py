"""`make soak` in a few seconds: the same processes and the same measurement, with more points to a second."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shopify.admin_schema import SCHEMAS
from tests.soak import Plan, soak

pytestmark = pytest.mark.skipif(not SCHEMAS.exists(), reason="Shopify's schemas are not here: make install")


async def test_three_processes_use_what_a_stranger_leaves(server_url: str, folder: Path) -> None:
    plan = Plan(seconds=6.0, processes=3, rate=300.0, drain_every=2.5, screen_every=0.2)
    outcome = await soak(plan, server_url, folder)
    assert outcome.errors == 0
    # Of so few seconds, the reserve and calls under way at the end are a larger part than of a minute.
    assert outcome.used_share > 0.85
    # A drain meets the calls of all processes that are on their way.
    assert outcome.throttled <= plan.processes * outcome.drains
    assert outcome.screen_calls > 5
    assert outcome.screen_p95 < 1.0
