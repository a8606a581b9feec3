"""What a plan is, and what is known of a shop's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

#: In a plan's features: all there are.
EVERYTHING = "*"


class Billing(StrEnum):
    """How an app's merchants pay."""

    #: Shopify App Pricing: Shopify shows the plans and takes the money.
    MANAGED = "managed"
    #: The Billing API: we make the subscription, the merchant approves it on a page of Shopify's.
    MANUAL = "manual"
    #: Not through Shopify: custom apps cannot.
    NONE = "none"


class Source(StrEnum):
    """Who said that a shop has a plan."""

    OPERATOR = "operator"
    #: An operator who leaves it to billing again.
    RELEASED = "released"
    APP_PRICING = "app_pricing"
    SUBSCRIPTION = "subscription"
    #: Nobody pays any more.
    LAPSE = "lapse"

    @property
    def is_paid(self) -> bool:
        """Whether a subscription at Shopify stands behind it."""
        return self in {Source.APP_PRICING, Source.SUBSCRIPTION}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an operator offers. A limit that is None is none; a rate that is None is the installation's setting."""

    handle: str
    name: str
    description: str = ""
    mobile_requests_per_second: float | None = None
    merchant_requests_per_second: float | None = None
    service_requests_per_second: float | None = None
    orders_per_month: int | None = None
    customers: int | None = None
    endpoints: int | None = None
    features: Sequence[str] = ()
    price: Decimal | None = None
    currency: str | None = None
    billing_interval: str | None = None
    trial_days: int = 0
    shopify_names: Sequence[str] = ()
    position: int = 0
    is_default: bool = False
    archived_at: datetime | None = None

    def has(self, feature: str) -> bool:
        """Say whether it opens a feature."""
        return EVERYTHING in self.features or feature in self.features


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What was said of a shop's plan."""

    plan: str
    source: Source
    set_by: str = ""
    subscription_id: int | None = None
    reason: str = ""
    effective_at: datetime
    trial_ends_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A subscription at Shopify. `plan_handle` is App Pricing's own handle of the plan."""

    number: int
    name: str
    status: str
    is_test: bool
    trial_days: int
    created_at: datetime
    current_period_end: datetime | None
    plan_handle: str | None

    @property
    def is_active(self) -> bool:
        """Whether the merchant pays, or tries it."""
        return self.status == "ACTIVE"


@dataclass(frozen=True, slots=True)
class AppBilling:
    """How the merchants of a shop's app pay."""

    domain: str
    handle: str
    client_id: str
    billing: Billing
    is_test: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """A subscription that a merchant is asked to approve."""

    offer_id: int
    subscription_id: int | None
    confirmation_url: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a shop used this month. `orders` were last counted at `counted_at`, `customers` once a day."""

    since: datetime
    orders: int
    customers: int
    counted_at: datetime | None
    endpoints: int
