"""Identifiers never repeat and stay readable for JavaScript."""

from __future__ import annotations

from sellflow.simulator.ids import Ids, gid


def test_identifiers_rise_although_the_clock_stands_still() -> None:
    ids = Ids(lambda: 1_700_000_000_000)
    found = [ids() for _ in range(5_000)]

    assert found == sorted(set(found))
    assert found[0] == 1_700_000_000_000_000


def test_a_later_process_starts_above_an_earlier_one() -> None:
    earlier, later = Ids(lambda: 1_700_000_000_000), Ids(lambda: 1_700_000_001_000)
    last = max(earlier() for _ in range(10_000))

    assert later() > last


def test_identifiers_of_now_are_exact_in_javascript() -> None:
    assert 2**50 < Ids()() < 2**53


def test_a_gid_names_its_resource() -> None:
    assert gid("Order", 7) == "gid://shopify/Order/7"
