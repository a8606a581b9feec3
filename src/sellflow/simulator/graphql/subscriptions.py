"""What an app charges: subscriptions that the merchant approves on a page of Shopify's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sellflow.simulator.graphql import connections
from sellflow.simulator.graphql.connections import page
from sellflow.simulator.graphql.fields import (
    Call,
    Fields,
    Value,
    decimal_of,
    moment,
    moment_or_none,
    number_of,
    payload,
    refused,
    user_error,
)
from sellflow.simulator.graphql.money_fields import Amount
from sellflow.simulator.graphql.records import Subscription
from sellflow.simulator.ids import gid

SUBSCRIPTIONS: connections.Order[Subscription] = connections.Order(
    number=lambda found: found.id,
    keys={"ID": lambda found: found.id, "CREATED_AT": lambda found: found.created_at},
    search={},
)


def _own(call: Call) -> list[Subscription]:
    return [one for one in call.world.admin.subscriptions.values() if one.client_id == call.world.client_id]


def active(call: Call) -> list[Subscription]:
    """Return the app's subscriptions that run; there is one at most."""
    return [one for one in _own(call) if one.status == "ACTIVE"]


def all_of(call: Call) -> Value:
    """Resolve `allSubscriptions`."""
    return page(_own(call), call, SUBSCRIPTIONS)


def find_subscription(call: Call, identifier: str) -> Subscription | None:
    """Return the app's subscription that an identifier names."""
    found = call.world.admin.subscriptions.get(number_of(identifier, "AppSubscription"))
    return found if found and found.client_id == call.world.client_id else None


def create(_source: object, call: Call) -> Value:
    """Resolve `appSubscriptionCreate`: the merchant is to approve it at the payload's confirmationUrl."""
    wanted = call.arguments
    if (error := _error(wanted)) is not None:
        return refused(error, appSubscription=None, confirmationUrl=None)
    made = Subscription(
        id=call.world.shopify.ids(),
        client_id=call.world.client_id,
        name=wanted["name"],
        status="PENDING",
        return_url=wanted["returnUrl"],
        is_test=bool(wanted.get("test")),
        trial_days=wanted.get("trialDays") or 0,
        lines=tuple((call.world.shopify.ids(), line["plan"]) for line in wanted["lineItems"]),
        replacement=wanted["replacementBehavior"],
        created_at=call.world.now,
    )
    call.world.admin.subscriptions[made.id] = made
    url = (
        f"{call.world.base_url}/shops/{call.world.domain}/admin/charges/{made.id}/confirm_recurring_application_charge"
    )
    return payload(appSubscription=made, confirmationUrl=url)


def _error(wanted: Mapping[str, Any]) -> Value | None:
    if not wanted["name"].strip():
        return user_error(["name"], "Name can't be blank")
    if not wanted["lineItems"]:
        return user_error(["lineItems"], "Line items can't be blank")
    for place, line in enumerate(wanted["lineItems"]):
        details = line["plan"].get("appRecurringPricingDetails")
        usage = line["plan"].get("appUsagePricingDetails")
        if (details is None) == (usage is None):
            return user_error(["lineItems", f"{place}", "plan"], "Plan must have either recurring or usage pricing")
        if details is not None and decimal_of(details["price"]["amount"]) <= 0:
            return user_error(["lineItems", f"{place}", "plan"], "Price must be greater than 0")
    return None


def cancel(_source: object, call: Call) -> Value:
    """Resolve `appSubscriptionCancel`."""
    found = find_subscription(call, call.arguments["id"])
    if found is None:
        return refused(user_error(["id"], "Couldn't find RecurringApplicationCharge"), appSubscription=None)
    if found.status not in ("PENDING", "ACTIVE"):
        message = f"Cannot cancel a subscription that is {found.status.lower()}"
        return refused(user_error(["id"], message), appSubscription=None)
    found = replace(found, status="CANCELLED")
    call.world.admin.subscriptions[found.id] = found
    return payload(appSubscription=found)


def _period_end(approved_at: datetime, found: Subscription) -> datetime:
    annual = any((plan.get("appRecurringPricingDetails") or {}).get("interval") == "ANNUAL" for _, plan in found.lines)
    return approved_at + timedelta(days=found.trial_days + (365 if annual else 30))


def approved(found: Subscription, others: Mapping[int, Subscription], now: datetime) -> dict[int, Subscription]:
    """Return the subscriptions that a merchant's approval changes: an app has one that runs, so it ends the last."""
    changed = {
        other.id: replace(other, status="CANCELLED")
        for other in others.values()
        if other.client_id == found.client_id and other.status == "ACTIVE"
    }
    return changed | {found.id: replace(found, status="ACTIVE", period_ends_at=_period_end(now, found))}


def _pricing(plan: Mapping[str, Any]) -> Value:
    details = plan.get("appRecurringPricingDetails")
    if details is None:
        usage = plan["appUsagePricingDetails"]
        capped = Amount(decimal_of(usage["cappedAmount"]["amount"]), usage["cappedAmount"]["currencyCode"])
        return {
            "__typename": "AppUsagePricing",
            "terms": usage["terms"],
            "cappedAmount": capped,
            "balanceUsed": Amount(Decimal(0), capped.currency),
            "interval": "EVERY_30_DAYS",
        }
    return {
        "__typename": "AppRecurringPricing",
        "price": Amount(decimal_of(details["price"]["amount"]), details["price"]["currencyCode"]),
        "interval": details.get("interval", "EVERY_30_DAYS"),
        "discount": None,
        "planHandle": None,
    }


def _lines(found: Subscription, _call: Call) -> list[Value]:
    return [
        {"id": gid("AppSubscriptionLineItem", number), "plan": {"pricingDetails": _pricing(plan)}}
        for number, plan in found.lines
    ]


SUBSCRIPTION: Fields[Subscription] = {
    "id": lambda found, _: gid("AppSubscription", found.id),
    "name": lambda found, _: found.name,
    "status": lambda found, _: found.status,
    "test": lambda found, _: found.is_test,
    "trialDays": lambda found, _: found.trial_days,
    "returnUrl": lambda found, _: found.return_url,
    "createdAt": lambda found, _: moment(found.created_at),
    "currentPeriodEnd": lambda found, _: moment_or_none(found.period_ends_at),
    "lineItems": _lines,
}

FIELDS: Mapping[str, Fields[Any]] = {"AppSubscription": SUBSCRIPTION}
