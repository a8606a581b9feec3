"""What a shop's plan should be, by what Shopify says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sellflow.shops.plans import rules
from sellflow.shops.plans.models import Assignment, Plan, Source, Subscription

NOW = datetime(2026, 11, 25, tzinfo=UTC)
GRACE = timedelta(days=7)
FREE = Plan(handle="free", name="Free", is_default=True)
PRO = Plan(handle="pro", name="Pro", price=Decimal(29), shopify_names=("Pro 2025", "pro-yearly"), trial_days=14)
MAX = Plan(handle="max", name="Max", price=Decimal(290))
PLANS = [FREE, PRO, MAX]
STATUSES = ["ACTIVE", "CANCELLED", "DECLINED", "EXPIRED", "FROZEN", "PENDING"]


def subscription(
    number: int = 1, name: str = "Pro", status: str = "ACTIVE", *, handle: str | None = None, trial: int = 0
) -> Subscription:
    return Subscription(
        number=number,
        name=name,
        status=status,
        is_test=False,
        trial_days=trial,
        created_at=NOW - timedelta(hours=1),
        current_period_end=None,
        plan_handle=handle,
    )


def decided(last: Assignment | None, *subscriptions: Subscription) -> Assignment | None:
    return rules.decide(subscriptions, PLANS, last=last, now=NOW, grace=GRACE).assignment


def said(plan: str, source: Source, number: int | None = None) -> Assignment:
    return Assignment(plan=plan, source=source, subscription_id=number, effective_at=NOW - GRACE)


@pytest.mark.parametrize(
    ("name", "handle", "plan"),
    [
        ("Pro", None, "pro"),
        ("Pro 2025", None, "pro"),
        ("Professional", "pro", "pro"),
        ("Max", "pro", "pro"),
        ("Professional", "pro-yearly", "pro"),
        ("Max", "unheard-of", "max"),
        ("pro", None, None),
        ("Other", None, None),
    ],
)
@pytest.mark.conformance
def test_app_pricings_handle_says_which_plan_it_is_and_else_the_name(
    name: str, handle: str | None, plan: str | None
) -> None:
    found = rules.plan_of(subscription(name=name, handle=handle), PLANS)
    assert (found and found.handle) == plan


def test_what_runs_counts_at_once_and_is_said_once() -> None:
    first = decided(None, subscription(trial=14))
    assert first is not None
    assert (first.plan, first.source, first.effective_at) == ("pro", Source.SUBSCRIPTION, NOW)
    assert first.trial_ends_at == NOW - timedelta(hours=1) + timedelta(days=14)
    assert decided(first, subscription(trial=14)) is None
    managed = decided(first, subscription(handle="max"))
    assert managed is not None
    assert (managed.plan, managed.source) == ("max", Source.APP_PRICING)


@pytest.mark.conformance
@pytest.mark.parametrize("status", ["FROZEN", "CANCELLED", "EXPIRED"])
def test_a_plan_that_nobody_pays_for_any_more_is_kept_for_the_grace_period(status: str) -> None:
    lapse = decided(said("pro", Source.SUBSCRIPTION, 1), subscription(status=status))
    assert lapse is not None
    assert (lapse.plan, lapse.source, lapse.effective_at) == ("free", Source.LAPSE, NOW + GRACE)
    assert status.lower() in lapse.reason
    assert decided(lapse, subscription(status=status)) is None
    again = decided(lapse, subscription())
    assert again is not None
    assert (again.plan, again.effective_at) == ("pro", NOW)


@pytest.mark.parametrize("status", ["PENDING", "DECLINED", "EXPIRED"])
def test_an_offer_that_was_not_taken_changes_nothing(status: str) -> None:
    assert decided(None, subscription(status=status)) is None
    assert decided(said("pro", Source.SUBSCRIPTION, 1), subscription(1), subscription(2, "Max", status)) is None


def test_an_operators_word_holds_whatever_shopify_says() -> None:
    assert decided(said("max", Source.OPERATOR), subscription()) is None
    assert decided(said("max", Source.OPERATOR), subscription(status="FROZEN")) is None
    released = decided(said("free", Source.RELEASED), subscription())
    assert released is not None
    assert released.plan == "pro"


def test_a_subscription_that_means_no_plan_takes_nothing_away_and_is_told_of() -> None:
    last = said("pro", Source.SUBSCRIPTION, 1)
    found = rules.decide([subscription(2, "Gold")], PLANS, last=last, now=NOW, grace=GRACE)
    assert found.assignment is None
    assert "'Gold' means no plan" in found.complaint


def test_a_shop_tries_once() -> None:
    assert rules.trial_days(PRO, []) == rules.trial_days(PRO, [subscription(status="DECLINED")]) == 14
    assert rules.trial_days(PRO, [subscription(status="CANCELLED")]) == 0


@given(
    st.lists(
        st.lists(
            st.builds(
                subscription,
                st.integers(1, 4),
                st.sampled_from(["Pro", "Max", "Gold"]),
                st.sampled_from(STATUSES),
                handle=st.sampled_from([None, "pro", "max"]),
            ),
            max_size=4,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_looking_twice_is_looking_once_and_who_pays_has_the_plan(looks: list[list[Subscription]]) -> None:
    last: Assignment | None = None
    for found in looks:
        last = decided(last, *found) or last
        assert decided(last, *found) is None
        paid = rules.running(found)
        meant = paid and rules.plan_of(paid, PLANS)
        if meant:
            assert last is not None
            assert last.plan == meant.handle
        if last is not None and last.source is Source.LAPSE:
            assert not any(each.is_active and rules.plan_of(each, PLANS) for each in found)


@given(st.integers(1, 10_000))
def test_pauses_grow_and_end(failures: int) -> None:
    assert 10 <= rules.pause_after(failures) <= rules.pause_after(failures + 1) <= 3600
