"""The shop, what the app may do there, what it hears of, and what the merchant pays for it."""

from __future__ import annotations

from datetime import datetime

from sellflow.shopify.documents.document import Document
from sellflow.shopify.documents.nodes import Node, Page, Payload, Reference


class Domain(Node):
    """Where customers find the shop."""

    host: str
    url: str


class ShopPlan(Node):
    """What the merchant pays Shopify for."""

    public_display_name: str
    partner_development: bool
    shopify_plus: bool


class ShopDetails(Reference):
    """The shop."""

    name: str
    email: str
    myshopify_domain: str
    currency_code: str
    iana_timezone: str
    primary_domain: Domain
    plan: ShopPlan


class Shop(Node):
    """Answers `shop`."""

    shop: ShopDetails


class AccessScope(Node):
    """Something that the app may do."""

    handle: str


class AppSubscription(Reference):
    """What the merchant pays for the app."""

    name: str
    status: str
    test: bool
    trial_days: int
    created_at: datetime
    current_period_end: datetime | None


class SubscriptionPricing(Node):
    """What is paid; App Pricing's handle of the plan, where it is one of those. A price by use has none."""

    plan_handle: str | None = None


class SubscriptionPlan(Node):
    """What a part of a subscription is for."""

    pricing_details: SubscriptionPricing


class SubscriptionLine(Node):
    """A part of a subscription."""

    plan: SubscriptionPlan


class PricedSubscription(AppSubscription):
    """What the merchant pays for the app, and by which plan."""

    line_items: tuple[SubscriptionLine, ...]


class PricedSubscriptions(Node):
    """The newest of a list."""

    nodes: tuple[PricedSubscription, ...]


class SubscribedInstallation(Reference):
    """The app in this shop, with what was ever paid for it, the newest first."""

    launch_url: str
    active_subscriptions: tuple[PricedSubscription, ...]
    all_subscriptions: PricedSubscriptions


class AppSubscriptions(Node):
    """Answers `app_subscriptions`."""

    current_app_installation: SubscribedInstallation


class AppInstallation(Reference):
    """The app in this shop."""

    launch_url: str
    access_scopes: tuple[AccessScope, ...]
    active_subscriptions: tuple[AppSubscription, ...]


class CurrentAppInstallation(Node):
    """Answers `current_app_installation`."""

    current_app_installation: AppInstallation


class ApiVersion(Node):
    """A version of Shopify's APIs, such as 2026-10."""

    handle: str


class WebhookSubscription(Reference):
    """A subscription that was made through the API; those of the app's configuration are not listed."""

    topic: str
    uri: str
    format: str
    filter: str | None
    include_fields: tuple[str, ...]
    api_version: ApiVersion


class WebhookSubscriptions(Node):
    """Answers `webhook_subscriptions`."""

    webhook_subscriptions: Page[WebhookSubscription]


class AppSubscriptionPayload(Payload):
    """A subscription that was made or ended."""

    app_subscription: AppSubscription | None


class AppSubscriptionOffer(AppSubscriptionPayload):
    """A subscription that begins when the merchant has said yes at `confirmation_url`."""

    confirmation_url: str | None


class AppSubscriptionCreated(Node):
    """Answers `app_subscription_create`."""

    app_subscription_create: AppSubscriptionOffer | None


class AppSubscriptionCancelled(Node):
    """Answers `app_subscription_cancel`."""

    app_subscription_cancel: AppSubscriptionPayload | None


SHOP = Document("shop", Shop)
CURRENT_APP_INSTALLATION = Document(
    "current_app_installation", CurrentAppInstallation, fragments=("fields_subscription",)
)
APP_SUBSCRIPTIONS = Document(
    "app_subscriptions", AppSubscriptions, fragments=("fields_subscription", "fields_subscription_pricing")
)
WEBHOOK_SUBSCRIPTIONS = Document("webhook_subscriptions", WebhookSubscriptions)
APP_SUBSCRIPTION_CREATE = Document("app_subscription_create", AppSubscriptionCreated, ("fields_subscription",))
APP_SUBSCRIPTION_CANCEL = Document("app_subscription_cancel", AppSubscriptionCancelled, ("fields_subscription",))
