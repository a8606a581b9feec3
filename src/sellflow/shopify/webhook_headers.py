"""The headers of a webhook delivery, in both families.

Webhooks name them `X-Shopify-…`, the newer Events `Shopify-…`; a delivery that carries both signatures is an
Events delivery. They are not covered by the signature, so nothing may rest on them alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sellflow.errors import SellflowError

EVENTS = b"shopify-"
WEBHOOKS = b"x-shopify-"

SHOP_DOMAIN = re.compile(r"[a-z0-9][a-z0-9-]{0,99}\.myshopify\.com")
TOPIC = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+){0,3}")
WEBHOOK_ID = re.compile(r"[\x21-\x7e]{1,255}")
LONGEST_TOPIC = 100


class MalformedHeadersError(SellflowError):
    """A delivery's headers are missing or not what Shopify sends."""

    code = "webhook.malformed_headers"


@dataclass(frozen=True, slots=True)
class WebhookHeaders:
    """What the headers of a delivery claim."""

    topic: str
    shop_domain: str
    webhook_id: str
    signature: str
    triggered_at: datetime | None


def read_webhook_headers(headers: Mapping[bytes, bytes]) -> WebhookHeaders:
    """Read the headers of a delivery; names in `headers` are lower-case, as ASGI gives them.

    Raises
    ------
    MalformedHeadersError
        Naming every header that is missing or malformed.
    """
    family = EVENTS if EVENTS + b"hmac-sha256" in headers else WEBHOOKS
    faults: list[str] = []

    def required(name: bytes, pattern: re.Pattern[str] | None = None) -> str:
        value = headers.get(family + name, b"").decode("latin-1").strip()
        shown = (family + name).decode()
        if not value:
            faults.append(f"{shown} is missing")
        elif pattern and not pattern.fullmatch(value.lower() if pattern is not WEBHOOK_ID else value):
            faults.append(f"{shown} is malformed")
        return value

    signature = required(b"hmac-sha256")
    topic = required(b"topic", TOPIC).lower()
    shop_domain = required(b"shop-domain", SHOP_DOMAIN).lower()
    webhook_id = required(b"webhook-id", WEBHOOK_ID)
    if len(topic) > LONGEST_TOPIC:
        faults.append("the topic is too long")
    if faults:
        raise MalformedHeadersError("; ".join(faults))
    return WebhookHeaders(topic, shop_domain, webhook_id, signature, _moment(headers.get(family + b"triggered-at")))


def _moment(value: bytes | None) -> datetime | None:
    """Read an ISO 8601 time; it only informs, so a malformed one is no reason to refuse an order."""
    try:
        moment = datetime.fromisoformat(value.decode("latin-1")) if value else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo else None
