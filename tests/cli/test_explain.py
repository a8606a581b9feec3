"""What a story says of how points were computed."""

from __future__ import annotations

import pytest

from sellflow.cli.explain import _computed_from

FACTS = {
    "subtotal": "25.0000",
    "currency": "USD",
    "points_per_unit": "1",
    "rounding": "down",
    "refunds": 0,
    "financial_status": "paid",
}


@pytest.mark.parametrize("named", ["program_version", "rule_version"])
def test_points_of_before_programmes_are_explained_like_those_of_today(named: str) -> None:
    told = _computed_from(FACTS | {named: 3})
    assert told == "25.0000 USD at 1 rounded down, 0 refunds, paid, programme version 3"
