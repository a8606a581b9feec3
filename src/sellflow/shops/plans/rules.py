"""What a shop's plan should be, by what Shopify says of its subscriptions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sellflow.shops.plans.models import Assignment, Plan, Source, Subscription

#: Of subscriptions that once ran: who had one has had a trial.
_RAN = {"ACTIVE", "FROZEN", "CANCELLED"}
#: Longest pause between attempts to ask Shopify, in seconds.
_LONGEST_PAUSE = 3600.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be said of a shop's plan, if anything, and what an operator should know."""

    assignment: Assignment | None = None
    complaint: str = ""


def plan_of(subscription: Subscription, plans: Iterable[Plan]) -> Plan | None:
    """Return the plan that a subscription is for: App Pricing's handle says it, else its name."""
    listed = list(plans)
    for said in (subscription.plan_handle, subscription.name):
        if said is None:
            continue
        for plan in listed:
            own = (plan.handle,) if said == subscription.plan_handle else (plan.name,)
            if said in (*own, *plan.shopify_names):
                return plan
    return None


def running(subscriptions: Iterable[Subscription]) -> Subscription | None:
    """Return the subscription that runs. Shopify has one at most; while one takes another's place, the newer counts."""
    active = [each for each in subscriptions if each.is_active]
    return max(active, key=lambda each: (each.created_at, each.number), default=None)


def counting(subscriptions: Sequence[Subscription], last: Assignment | None) -> Subscription | None:
    """Return the subscription to tell of: what runs, else what the shop's plan stands on, else the newest."""
    if found := running(subscriptions):
        return found
    known = [each for each in subscriptions if last is not None and each.number == last.subscription_id]
    return max(known or subscriptions, key=lambda each: (each.created_at, each.number), default=None)


def decide(
    subscriptions: Sequence[Subscription],
    plans: Sequence[Plan],
    *,
    last: Assignment | None,
    now: datetime,
    grace: timedelta,
) -> Decision:
    """Return what is to be said, where that is not what was said last.

    An operator's word holds until it is taken back. What runs counts at once. Where nothing runs any more, whether it
    is frozen, cancelled or expired, the plan stays for the grace period: a subscription that takes another's place may
    be a moment late, and a merchant whose card expired should hear of it first. An offer that was declined changes
    nothing. A subscription that means no plan here takes nothing away either.
    """
    if last is not None and last.source is Source.OPERATOR:
        return Decision()
    found = running(subscriptions)
    if found is not None:
        return _paid(found, plans, last, now)
    if last is None or not last.source.is_paid:
        return Decision()
    default = next(each for each in plans if each.is_default)
    status = next((each.status for each in subscriptions if each.number == last.subscription_id), "GONE").lower()
    return Decision(
        Assignment(
            plan=default.handle,
            source=Source.LAPSE,
            subscription_id=last.subscription_id,
            reason=f"the subscription is {status}",
            effective_at=now + grace,
        )
    )


def _paid(found: Subscription, plans: Sequence[Plan], last: Assignment | None, now: datetime) -> Decision:
    plan = plan_of(found, plans)
    if plan is None:
        named = found.plan_handle or found.name
        return Decision(complaint=f"the subscription {named!r} means no plan: name it in some plan's shopify_names")
    source = Source.APP_PRICING if found.plan_handle else Source.SUBSCRIPTION
    if last is not None and (last.plan, last.source, last.subscription_id) == (plan.handle, source, found.number):
        return Decision()
    return Decision(
        Assignment(
            plan=plan.handle,
            source=source,
            subscription_id=found.number,
            effective_at=now,
            trial_ends_at=found.created_at + timedelta(days=found.trial_days) if found.trial_days else None,
        )
    )


def trial_days(plan: Plan, subscriptions: Iterable[Subscription]) -> int:
    """Return the days for which a shop may try a plan: none, where it paid for or tried one before."""
    return 0 if any(each.status in _RAN for each in subscriptions) else plan.trial_days


def pause_after(failures: int) -> float:
    """Return the seconds until Shopify is asked again after so many failures in a row."""
    return float(min(10.0 * 2 ** min(failures - 1, 20), _LONGEST_PAUSE))


def month_of(now: datetime) -> datetime:
    """Return the start of the month (UTC) that a time is in."""
    return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
