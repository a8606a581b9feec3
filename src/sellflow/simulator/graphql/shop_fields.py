"""The shop itself, the app in it, and its webhook subscriptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sellflow.simulator.graphql import connections
from sellflow.simulator.graphql.connections import page
from sellflow.simulator.graphql.fields import Call, Fields, Value, moment, number_of
from sellflow.simulator.graphql.metafields import METAFIELDS
from sellflow.simulator.graphql.subscriptions import active, all_of
from sellflow.simulator.ids import gid
from sellflow.simulator.models import Shop

# What the simulator tells an app of, in the words of `WebhookSubscriptionTopic`.
TOPICS = (
    "APP_SCOPES_UPDATE",
    "APP_UNINSTALLED",
    "BULK_OPERATIONS_FINISH",
    "CUSTOMERS_CREATE",
    "CUSTOMERS_UPDATE",
    "INVENTORY_LEVELS_UPDATE",
    "ORDERS_CANCELLED",
    "ORDERS_CREATE",
    "ORDERS_EDITED",
    "ORDERS_PAID",
    "ORDERS_UPDATED",
    "REFUNDS_CREATE",
)
PLANS = {100.0: "Basic", 200.0: "Advanced", 1000.0: "Plus", 2000.0: "Enterprise"}


@dataclass(frozen=True, slots=True)
class Installation:
    """The app that calls, in this shop."""

    id: int
    client_id: str


@dataclass(frozen=True, slots=True)
class TopicSubscription:
    """One topic of which the shop's app is told."""

    id: int
    topic: str


SUBSCRIPTIONS: connections.Order[TopicSubscription] = connections.Order(
    number=lambda found: found.id,
    keys={"ID": lambda found: found.id, "CREATED_AT": lambda found: found.id},
    search={"id": lambda found: found.id},
)


def the_shop(_source: object, call: Call) -> Shop:
    """Resolve `shop`."""
    return call.world.shop


def current_installation(_source: object, call: Call) -> Installation:
    """Resolve `currentAppInstallation`."""
    return Installation(call.world.shop.id, call.world.client_id)


def find_shop(call: Call, identifier: str) -> Shop | None:
    """Return the shop, if an identifier names it."""
    return call.world.shop if number_of(identifier, "Shop") == call.world.shop.id else None


def webhook_subscriptions(_source: object, call: Call) -> Value:
    """Resolve `webhookSubscriptions`: what the simulator tells the app of, whether it subscribed or not."""
    topics = call.argument("topics")
    found = [
        TopicSubscription(call.world.shop.id + place, topic)
        for place, topic in enumerate(TOPICS)
        if topics is None or topic in topics
    ]
    return page(found, call, SUBSCRIPTIONS)


def _plan(_shop: Shop, call: Call) -> Value:
    name = PLANS.get(call.world.lane.bucket.restore_rate, "Basic")
    return {
        "displayName": name,
        "publicDisplayName": name,
        "partnerDevelopment": True,
        "shopifyPlus": name in ("Plus", "Enterprise"),
    }


def _offset_minutes(shop: Shop, call: Call) -> int:
    offset = call.world.now.astimezone(shop.market.timezone).utcoffset()
    return int(offset.total_seconds() // 60) if offset else 0


def _offset(shop: Shop, call: Call) -> str:
    minutes = _offset_minutes(shop, call)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"


def _iana(shop: Shop, call: Call) -> str:
    hours = _offset_minutes(shop, call) // 60
    return f"Etc/GMT{-hours:+d}" if hours else "Etc/UTC"


SHOP: Fields[Shop] = {
    "id": lambda shop, _: gid("Shop", shop.id),
    "name": lambda shop, _: shop.domain.partition(".")[0],
    "email": lambda shop, _: f"owner@{shop.domain}",
    "contactEmail": lambda shop, _: f"owner@{shop.domain}",
    "myshopifyDomain": lambda shop, _: shop.domain,
    "primaryDomain": lambda shop, _: {
        "id": gid("Domain", shop.id),
        "host": shop.domain,
        "url": f"https://{shop.domain}",
        "sslEnabled": True,
    },
    "url": lambda shop, _: f"https://{shop.domain}",
    "currencyCode": lambda shop, _: shop.currency,
    "taxesIncluded": lambda shop, _: shop.market.taxes_included,
    "ianaTimezone": _iana,
    "timezoneOffset": _offset,
    "timezoneOffsetMinutes": _offset_minutes,
    "timezoneAbbreviation": lambda shop, call: f"{call.world.now.astimezone(shop.market.timezone):%Z}",
    "weightUnit": lambda _shop, _: "KILOGRAMS",
    "unitSystem": lambda _shop, _: "METRIC_SYSTEM",
    "plan": _plan,
    "setupRequired": lambda _shop, _: False,
    "shopOwnerName": lambda _shop, _: "Shop Owner",
    "description": lambda _shop, _: None,
    "createdAt": lambda _shop, call: moment(call.world.admin.opened_at),
    "updatedAt": lambda _shop, call: moment(call.world.admin.opened_at),
}

INSTALLATION: Fields[Installation] = {
    "id": lambda found, _: gid("AppInstallation", found.id),
    "app": lambda found, _: {
        "id": gid("App", found.id),
        "apiKey": found.client_id,
        "title": found.client_id,
        "handle": found.client_id,
        "embedded": True,
    },
    "accessScopes": lambda _found, call: [
        {"handle": scope, "description": scope.replace("_", " ").capitalize()} for scope in call.world.scopes
    ],
    "activeSubscriptions": lambda _found, call: active(call),
    "allSubscriptions": lambda _found, call: all_of(call),
    "launchUrl": lambda found, call: f"https://{call.world.domain}/admin/apps/{found.client_id}",
    "uninstallUrl": lambda _found, _: None,
}

TOPIC_SUBSCRIPTION: Fields[TopicSubscription] = {
    "id": lambda found, _: gid("WebhookSubscription", found.id),
    "legacyResourceId": lambda found, _: f"{found.id}",
    "topic": lambda found, _: found.topic,
    "format": lambda _found, _: "JSON",
    "uri": lambda _found, call: call.world.shop.app.webhook_url,
    "callbackUrl": lambda _found, call: call.world.shop.app.webhook_url,
    "endpoint": lambda _found, call: {
        "__typename": "WebhookHttpEndpoint",
        "callbackUrl": call.world.shop.app.webhook_url,
    },
    "apiVersion": lambda _found, call: {
        "handle": call.world.shop.app.api_version,
        "displayName": call.world.shop.app.api_version,
        "supported": True,
    },
    "filter": lambda _found, _: None,
    "includeFields": lambda _found, _: [],
    "metafieldNamespaces": lambda _found, _: [],
    "metafields": lambda _found, _: [],
    "name": lambda _found, _: None,
    "createdAt": lambda _found, call: moment(call.world.admin.opened_at),
    "updatedAt": lambda _found, call: moment(call.world.admin.opened_at),
}

FIELDS: Mapping[str, Fields[Any]] = {
    "Shop": {**SHOP, **METAFIELDS},
    "AppInstallation": INSTALLATION,
    "WebhookSubscription": TOPIC_SUBSCRIPTION,
}
