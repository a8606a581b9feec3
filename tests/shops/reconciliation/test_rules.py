"""What is missing, decided from what Shopify says and what is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sellflow.shopify.documents.orders import OrderRevision, RefundRevision
from sellflow.shops.reconciliation import rules
from sellflow.shops.reconciliation.rules import NOTHING, KnownOrder, MissingOrder, missing_of_order

INSTALLED = datetime(2026, 11, 1, tzinfo=UTC)
PLACED = INSTALLED + timedelta(hours=1)
CHANGED = INSTALLED + timedelta(hours=2)
EVERYTHING = {
    rules.ORDER_CREATED,
    rules.ORDER_PAID,
    rules.ORDER_UPDATED,
    rules.ORDER_CANCELLED,
    rules.REFUND_CREATED,
}


def order(**fields: Any) -> OrderRevision:  # noqa: ANN401
    """An order that was placed and paid after the shop installed the app."""
    usual: dict[str, Any] = {
        "id": "gid://shopify/Order/42",
        "legacy_resource_id": 42,
        "created_at": PLACED,
        "updated_at": CHANGED,
        "cancelled_at": None,
        "display_financial_status": "PAID",
        "refunds": (),
    }
    return OrderRevision(**usual | fields)


def refund(number: int, at: datetime | None = CHANGED) -> RefundRevision:
    return RefundRevision(id=f"gid://shopify/Refund/{number}", created_at=at)


def known(*topics: str, revision: datetime | None = CHANGED, refunds: tuple[int, ...] = ()) -> KnownOrder:
    return KnownOrder(frozenset(topics), revision, frozenset(refunds))


def missing(one: OrderRevision, what: KnownOrder, wanted: set[str] = EVERYTHING) -> MissingOrder | None:
    return missing_of_order(one, what, wanted=wanted, since=INSTALLED)


def test_of_an_order_that_nothing_told_of_every_fact_is_missing_and_carries_its_revision() -> None:
    assert missing(order(), NOTHING) == MissingOrder(42, (rules.ORDER_CREATED, rules.ORDER_PAID))


def test_nothing_is_missing_of_an_order_whose_facts_and_revision_are_known() -> None:
    assert missing(order(), known(rules.ORDER_CREATED, rules.ORDER_PAID)) is None


def test_a_revision_that_no_snapshot_carried_is_missing() -> None:
    elder = known(rules.ORDER_CREATED, rules.ORDER_PAID, revision=PLACED)
    assert missing(order(), elder) == MissingOrder(42, (rules.ORDER_UPDATED,))


def test_a_newer_revision_than_the_one_listed_is_known_as_well() -> None:
    newer = known(rules.ORDER_CREATED, rules.ORDER_PAID, revision=CHANGED + timedelta(seconds=1))
    assert missing(order(), newer) is None


@pytest.mark.parametrize("status", [None, "PENDING", "AUTHORIZED", "PARTIALLY_PAID", "VOIDED", "EXPIRED"])
def test_an_order_that_was_never_paid_for_in_full_lacks_no_payment(status: str | None) -> None:
    assert missing(order(display_financial_status=status), known(rules.ORDER_CREATED)) is None


@pytest.mark.parametrize("status", ["PAID", "PARTIALLY_REFUNDED", "REFUNDED"])
def test_an_order_that_was_paid_for_once_lacks_its_payment(status: str) -> None:
    assert missing(order(display_financial_status=status), known(rules.ORDER_CREATED)) == MissingOrder(
        42, (rules.ORDER_PAID,)
    )


def test_each_refund_counts_for_itself() -> None:
    refunded = order(refunds=(refund(1), refund(2)))
    everything_else = known(rules.ORDER_CREATED, rules.ORDER_PAID, refunds=(1,))
    assert missing(refunded, everything_else) == MissingOrder(42, (), (2,))


def test_what_happened_before_the_app_was_installed_is_no_news_of_today() -> None:
    before = INSTALLED - timedelta(days=3)
    old = order(created_at=before, cancelled_at=before, refunds=(refund(1, before),))
    assert missing(old, NOTHING) == MissingOrder(42, (rules.ORDER_UPDATED,))


def test_an_old_order_that_is_cancelled_and_refunded_today_tells_of_that() -> None:
    old = order(created_at=INSTALLED - timedelta(days=3), cancelled_at=CHANGED, refunds=(refund(1),))
    assert missing(old, NOTHING) == MissingOrder(42, (rules.ORDER_CANCELLED,), (1,))


def test_what_nobody_listens_to_is_not_missed() -> None:
    assert missing(order(refunds=(refund(1),)), NOTHING, wanted=set()) is None
    assert missing(order(), NOTHING, wanted={rules.ORDER_PAID}) == MissingOrder(42, (rules.ORDER_PAID,))


@given(
    topics=st.frozensets(st.sampled_from(sorted(EVERYTHING))),
    revision=st.none() | st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    refunds=st.frozensets(st.integers(1, 4)),
)
def test_once_what_was_missing_is_known_nothing_is_missing(
    topics: frozenset[str], revision: datetime | None, refunds: frozenset[int]
) -> None:
    one = order(cancelled_at=CHANGED, refunds=tuple(refund(number) for number in (1, 2, 3)))
    found = missing(one, KnownOrder(topics, revision, refunds))
    if found is None:
        return
    fed = KnownOrder(
        topics | set(found.topics), one.updated_at if found.topics else revision, refunds | set(found.refunds)
    )
    assert missing(one, fed) is None


def test_a_search_overlaps_what_was_searched_before_and_is_in_utc() -> None:
    since = datetime(2026, 11, 2, 3, 4, 5, 999, tzinfo=UTC)
    assert rules.search(since, since + timedelta(hours=1)) == (
        "updated_at:>='2026-11-02T02:59:05Z' AND updated_at:<='2026-11-02T04:04:05Z'"
    )


def test_an_identity_is_the_same_for_a_moment_in_any_offset() -> None:
    there = CHANGED.astimezone()
    assert rules.order_identity(42, rules.ORDER_PAID, CHANGED) == rules.order_identity(42, rules.ORDER_PAID, there)
    assert rules.customer_identity(7, CHANGED) == rules.customer_identity(7, there)


@pytest.mark.parametrize(("days", "has_scope", "warns"), [(10, False, False), (61, False, True), (61, True, False)])
def test_history_that_shopify_hides_is_said(days: int, *, has_scope: bool, warns: bool) -> None:
    said = rules.history_warning(INSTALLED, INSTALLED + timedelta(days=days), has_all_orders=has_scope)
    assert ("read_all_orders" in said) is warns
