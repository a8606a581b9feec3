"""A shop's loyalty programme: everything a merchant decides about points, as one document with versions.

A change is a new version of the whole. What was earned keeps the version it was earned by, so that a rule changed or
deleted since takes back exactly what it gave.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from sellflow.loyalty.models import OnShortfall, Rounding

#: More than any rule gives at once; sums of them stay exact for readers of JSON.
LARGEST_AWARD = 1_000_000_000
MOST_RULES = 200


def _known_zone(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone, such as Europe/Berlin") from None


Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="A short name that never changes.")]
Label = Annotated[str, Field(max_length=120, pattern=r"^[^\x00]*$")]
Word = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Rate = Annotated[Decimal, Field(ge=0, le=1_000_000, max_digits=12, decimal_places=4)]
Points = Annotated[int, Field(gt=0, le=LARGEST_AWARD)]
Money = Annotated[Decimal, Field(ge=0, le=10_000_000_000, max_digits=20, decimal_places=4)]
Days = Annotated[int, Field(ge=1, le=3650)]
ShopifyId = Annotated[int, Field(gt=0, lt=2**63)]


class Part(BaseModel):
    """A part of the document; a field that is not known is refused, so that a typing error is not silently lost."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Period(StrEnum):
    """What a limit counts within: the calendar's periods in the shop's time zone (weeks begin on Monday)."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    LIFETIME = "lifetime"


class Limit(Part):
    """The most that one customer gets from a rule in one period."""

    period: Period
    points: Points | None = None
    times: Annotated[int, Field(gt=0, le=1_000_000)] | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> Limit:
        if self.points is None and self.times is None:
            raise ValueError("a limit names points, times or both")
        return self


class Products(Part):
    """A selection of products; nothing named selects everything. What is excluded is out whatever includes it."""

    include_ids: frozenset[ShopifyId] = frozenset()
    include_collections: frozenset[ShopifyId] = frozenset()
    include_tags: frozenset[Word] = frozenset()
    include_vendors: frozenset[Word] = frozenset()
    exclude_ids: frozenset[ShopifyId] = frozenset()
    exclude_collections: frozenset[ShopifyId] = frozenset()
    exclude_tags: frozenset[Word] = frozenset()
    exclude_vendors: frozenset[Word] = frozenset()

    @property
    def needs_facts(self) -> bool:
        """Whether a product's tags or collections decide: an order's lines do not tell them."""
        return bool(self.include_collections or self.include_tags or self.exclude_collections or self.exclude_tags)


class Counts(Part):
    """What else of an order is spending besides its items after discounts."""

    tax: bool = False
    shipping: bool = False
    #: True counts what was taken off as if it had been paid.
    discounts: bool = False
    #: Gift cards that are bought.
    gift_cards: bool = False


class Audience(Part):
    """Which customers; nothing named is everybody. Segments are the customer's tags in Shopify."""

    segments: frozenset[Word] = frozenset()
    tiers: frozenset[Slug] = frozenset()


class Hold(Part):
    """How long points wait before they can be spent: some days, until everything is fulfilled, or both."""

    days: Annotated[int, Field(ge=0, le=365)] = 0
    until_fulfilled: bool = False


class ExpiryRounding(StrEnum):
    """To the end of what a moment of expiry is moved, in the shop's time zone."""

    NONE = "none"
    MONTH = "month"
    QUARTER = "quarter"


class Expiry(Part):
    """When points end: some days after they could be spent, after inactivity, or both; whichever comes first."""

    after_days: Days | None = None
    #: Days without earning or spending after which everything a customer has ends.
    after_inactive_days: Days | None = None
    rounding: ExpiryRounding = ExpiryRounding.NONE
    #: Days ahead at which a customer is warned, once each.
    warn_days: tuple[Annotated[int, Field(ge=1, le=365)], ...] = Field(default=(30, 7), max_length=5)


class _Rule(Part):
    id: Slug
    name: Label = ""
    enabled: bool = True
    #: Rules of an order are looked at from the lowest number up.
    priority: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    #: An exclusive rule that gives something ends the search: rules after it give nothing for that order.
    stacking: Literal["stack", "exclusive"] = "stack"
    audience: Audience = Audience()
    limits: tuple[Limit, ...] = Field(default=(), max_length=10)
    #: The most points the rule gives altogether, to all customers, over all versions.
    budget: Points | None = None
    #: Instead of the programme's own.
    hold: Hold | None = None
    expires_after_days: Days | None = None


class SpendRule(_Rule):
    """Points for each 1.00 spent."""

    kind: Literal["spend"]
    #: For each 1.00 of shop money.
    points_per_unit: Rate
    #: For each 1.00 of the customer's own currency, where the order was paid in one of these.
    currency_rates: dict[Currency, Rate] = Field(default_factory=dict, max_length=200)
    rounding: Rounding = Rounding.DOWN
    counts: Counts = Counts()
    products: Products = Products()
    #: What the items that count have to come to at least, in shop money.
    minimum_order: Money = Decimal(0)
    #: Where orders come from: Shopify's source_name, such as web or pos. None named is everywhere.
    channels: frozenset[Word] = frozenset()


class OrderNumberRule(_Rule):
    """Points once, for a customer's first or nth paid order."""

    kind: Literal["first_order", "nth_order"]
    points: Points
    number: Annotated[int, Field(ge=1, le=100_000)] = 1
    minimum_order: Money = Decimal(0)

    @model_validator(mode="after")
    def _first_is_one(self) -> OrderNumberRule:
        if (self.kind == "first_order") != (self.number == 1):
            raise ValueError("first_order is number 1, and nth_order one of a number from 2 on")
        return self


class DateRule(_Rule):
    """Points every year, on the birthday or on the day the customer became a member."""

    kind: Literal["birthday", "anniversary"]
    points: Points


class ActionRule(_Rule):
    """Points for something a customer did; `custom` is whatever the merchant's own services report."""

    kind: Literal["signup", "review", "social_follow", "app_install", "app_sign_in", "custom"]
    points: Points
    #: Whether the customer's own app may say so; otherwise only a service of the merchant's.
    customer_may_claim: bool = False
    #: Where a customer is sent, such as the profile that is to be followed.
    url: Annotated[str, Field(max_length=2000, pattern=r"^https://[^\x00]+$")] | None = None


class ReferralRule(_Rule):
    """Points for a referral that came true: to who referred (sender), or to who was referred (friend)."""

    kind: Literal["referral_sender", "referral_friend"]
    points: Points


Rule: TypeAlias = Annotated[
    SpendRule | OrderNumberRule | DateRule | ActionRule | ReferralRule, Field(discriminator="kind")
]


class Campaign(Part):
    """More points for a time: a multiplier on what rules for spending give, or a bonus for each order."""

    id: Slug
    name: Label = ""
    starts_at: AwareDatetime
    ends_at: AwareDatetime
    multiplier: Annotated[Decimal, Field(gt=0, le=1000, max_digits=8, decimal_places=4)] | None = None
    bonus: Points | None = None
    #: Rules for spending it is for; none named are all of them.
    rules: frozenset[Slug] = frozenset()
    audience: Audience = Audience()
    products: Products = Products()
    channels: frozenset[Word] = frozenset()

    @model_validator(mode="after")
    def _gives_something(self) -> Campaign:
        if (self.multiplier is None) == (self.bonus is None):
            raise ValueError("a campaign has either a multiplier or a bonus")
        if self.ends_at <= self.starts_at:
            raise ValueError("a campaign ends after it starts")
        return self


class TierBasis(StrEnum):
    """What a tier is reached by."""

    POINTS = "points"
    SPEND = "spend"
    ORDERS = "orders"


class TierWindow(StrEnum):
    """Over which time it is counted."""

    CALENDAR_YEAR = "calendar_year"
    ROLLING_YEAR = "rolling_year"
    LIFETIME = "lifetime"


class TierLevel(Part):
    """One tier. Without one of these, a customer is in none."""

    id: Slug
    name: Label
    #: From how many points, how much shop money or how many orders on.
    threshold: Money
    #: On what rules for spending give.
    multiplier: Annotated[Decimal, Field(ge=0, le=1000, max_digits=8, decimal_places=4)] = Decimal(1)
    #: Points on entering it; once for each customer and tier.
    entry_points: Annotated[int, Field(ge=0, le=LARGEST_AWARD)] = 0


class Tiers(Part):
    """The tiers of a shop, their basis, and when somebody falls."""

    basis: TierBasis
    window: TierWindow = TierWindow.ROLLING_YEAR
    levels: tuple[TierLevel, ...] = Field(min_length=1, max_length=50)
    #: Days a customer keeps a tier whose threshold is no longer met.
    grace_days: Annotated[int, Field(ge=0, le=3650)] = 0
    #: After that: to the tier that is met, one down at a time, or never.
    downgrade: Literal["to_earned", "one_level", "never"] = "to_earned"

    @model_validator(mode="after")
    def _rise(self) -> Tiers:
        _distinct("tier", (level.id for level in self.levels))
        thresholds = [level.threshold for level in self.levels]
        if sorted(set(thresholds)) != thresholds:
            raise ValueError("each tier has a higher threshold than the one before it")
        return self


class Referrals(Part):
    """What a referral needs to come true, and what makes it suspicious. Points are in rules of their own."""

    minimum_order: Money = Decimal(0)
    #: Who has ordered before is not referred.
    first_order_only: bool = True
    #: Days from following the link to the order.
    valid_days: Days = 30
    #: Referrals of one customer in a week, of one address on the network, of one device: more are looked at first.
    most_per_week: Annotated[int, Field(ge=1, le=100_000)] = 10
    most_per_ip: Annotated[int, Field(ge=1, le=100_000)] = 10
    most_per_device: Annotated[int, Field(ge=1, le=100_000)] = 3
    #: Hold every referral for a person to look at.
    review_all: bool = False


class Program(Part):
    """The whole document."""

    #: Orders placed before it bring nothing: the history of a shop that installs the app today. None counts all.
    starts_at: AwareDatetime | None = None
    time_zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    rules: tuple[Rule, ...] = Field(default=(), max_length=MOST_RULES)
    campaigns: tuple[Campaign, ...] = Field(default=(), max_length=MOST_RULES)
    hold: Hold = Hold()
    expiry: Expiry = Expiry()
    negative_balance: OnShortfall = OnShortfall.RECOVER
    #: Points that paid for a reward used in an order that is cancelled or given back: returned, or gone.
    redeemed_points: Literal["give_back", "keep"] = "give_back"
    tiers: Tiers | None = None
    referrals: Referrals | None = None
    #: Write balance, tier and referral link to the customer's metafields.
    metafields: bool = False

    @model_validator(mode="after")
    def _names_agree(self) -> Program:
        _distinct("rule", (rule.id for rule in self.rules))
        _distinct("campaign", (campaign.id for campaign in self.campaigns))
        spend = {rule.id for rule in self.spend_rules(enabled_only=False)}
        for campaign in self.campaigns:
            if unknown := campaign.rules - spend:
                raise ValueError(f"campaign {campaign.id} names rules that are none for spending: {sorted(unknown)}")
        tiers = {level.id for level in self.tiers.levels} if self.tiers else set()
        for part in (*self.rules, *self.campaigns):
            if unknown := part.audience.tiers - tiers:
                raise ValueError(f"{part.id} is for tiers that there are not: {sorted(unknown)}")
        if self.negative_balance is OnShortfall.REFUSE:
            raise ValueError("negative_balance is forgive, allow or recover")
        return self

    def spend_rules(self, *, enabled_only: bool = True) -> Iterator[SpendRule]:
        """Yield the rules for spending, in order of priority."""
        found = (rule for rule in self.rules if isinstance(rule, SpendRule) and (rule.enabled or not enabled_only))
        yield from sorted(found, key=lambda rule: (rule.priority, rule.id))

    def rule(self, rule_id: str) -> Rule | None:
        """Return the rule of that id."""
        return next((rule for rule in self.rules if rule.id == rule_id), None)

    def counts(self, ordered_at: datetime | None) -> bool:
        """Say whether an order of that moment is one that brings points."""
        return self.starts_at is None or ordered_at is None or ordered_at >= self.starts_at

    @property
    def zone(self) -> ZoneInfo:
        """The shop's time zone, by whose calendar periods begin and end."""
        return ZoneInfo(self.time_zone)

    @property
    def follows_members(self) -> bool:
        """Whether anything has to be worked out again when a customer's points or orders change."""
        return self.tiers is not None or self.metafields or self.referrals is not None


def _distinct(what: str, ids: Iterator[str]) -> None:
    seen: set[str] = set()
    for each in ids:
        if each in seen:
            raise ValueError(f"there are two {what}s called {each}")
        seen.add(each)
