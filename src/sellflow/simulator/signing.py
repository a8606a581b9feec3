"""The headers of a webhook, in both families, and the signature among them."""

from __future__ import annotations

import base64
import hashlib
import hmac

from sellflow.simulator.ids import gid
from sellflow.simulator.journal import Delivery
from sellflow.simulator.models import App, HeaderFamily
from sellflow.simulator.payload_parts import utc_moment


def sign(body: bytes, client_secret: str) -> str:
    """Return the base64 HMAC-SHA256 of a raw body, as Shopify's webhook documentation defines it."""
    return base64.b64encode(hmac.digest(client_secret.encode(), body, hashlib.sha256)).decode()


def headers(delivery: Delivery, body: bytes, app: App) -> dict[str, str]:
    """Return the headers of a request; they are the same on every attempt and copy of a delivery."""
    common = {
        "Topic": delivery.topic,
        "Hmac-Sha256": sign(body, app.client_secret),
        "Shop-Domain": delivery.domain,
        "API-Version": app.api_version,
        "Webhook-Id": delivery.webhook_id,
        "Triggered-At": utc_moment(delivery.triggered_at),
        "Event-Id": delivery.event_id,
    }
    content = {"Content-Type": "application/json", "User-Agent": "Shopify-Captain-Hook"}
    if app.headers is HeaderFamily.WEBHOOK:
        return content | {f"X-Shopify-{name}": value for name, value in common.items()}
    return content | {f"shopify-{name.lower()}": value for name, value in common.items()} | _event(delivery)


def _event(delivery: Delivery) -> dict[str, str]:
    """Return what only Events carry: the subscription's handle, what was done, and to what."""
    resource, _, action = delivery.topic.partition("/")
    extra = {"shopify-handle": resource, "shopify-action": action}
    if delivery.order_id is not None:
        extra["shopify-resource-id"] = gid("Order", delivery.order_id)
    return extra
