"""The headers of a webhook delivery, in both families.

Webhooks name them `X-Shopify-…`, the newer Events `Shopify-…`; a delivery that carries both signatures is an
Events delivery. They are not covered by the signature, so nothing may rest on them alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from sellflow.errors import SellflowError


class _Names(NamedTuple):
    """The header names of one family."""

    signature: bytes
    topic: bytes
    shop_domain: bytes
    webhook_id: bytes
    triggered_at: bytes


def _names(prefix: bytes) -> _Names:
    parts = (b"hmac-sha256", b"topic", b"shop-domain", b"webhook-id", b"triggered-at")
    return _Names(*(prefix + part for part in parts))


EVENTS = _names(b"shopify-")
WEBHOOKS = _names(b"x-shopify-")

SHOP_DOMAIN = re.compile(rb"[a-z0-9][a-z0-9-]{0,99}\.myshopify\.com")
TOPIC = re.compile(rb"[a-z0-9_]+(/[a-z0-9_]+){0,3}")
WEBHOOK_ID = re.compile(rb"[\x21-\x7e]{1,255}")
LONGEST_TOPIC = 100


class MalformedHeadersError(SellflowError):
    """A delivery's headers are missing or not what Shopify sends."""

    code = "webhook.malformed_headers"


class WebhookHeaders(NamedTuple):
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
    names = EVENTS if EVENTS.signature in headers else WEBHOOKS
    signature = headers.get(names.signature, b"")
    topic = _read_topic(headers.get(names.topic, b""))
    shop_domain = _read_shop_domain(headers.get(names.shop_domain, b""))
    webhook_id = headers.get(names.webhook_id, b"").strip()
    has_id = WEBHOOK_ID.fullmatch(webhook_id) is not None
    if not (signature and topic and shop_domain and has_id):
        valid = {
            names.signature: bool(signature),
            names.topic: bool(topic),
            names.shop_domain: bool(shop_domain),
            names.webhook_id: has_id,
        }
        raise MalformedHeadersError("; ".join(_faults(headers, valid)))
    moment = _moment(headers.get(names.triggered_at))
    return WebhookHeaders(topic, shop_domain, webhook_id.decode("ascii"), signature.decode("latin-1"), moment)


def _faults(headers: Mapping[bytes, bytes], valid: Mapping[bytes, bool]) -> Iterator[str]:
    """Say of each header that is not valid whether it is missing or malformed."""
    for name, is_valid in valid.items():
        if not is_valid:
            yield f"{name.decode()} is {'malformed' if headers.get(name, b'').strip() else 'missing'}"


# A shop sends the same few topics under the same domain, thousands of times.
@lru_cache(maxsize=1024)
def _read_topic(value: bytes) -> str:
    """Return a topic such as orders/paid, or nothing where it is none."""
    topic = value.strip().lower()
    return topic.decode("ascii") if len(topic) <= LONGEST_TOPIC and TOPIC.fullmatch(topic) else ""


@lru_cache(maxsize=16_384)
def _read_shop_domain(value: bytes) -> str:
    """Return a shop's domain, or nothing where it is none."""
    domain = value.strip().lower()
    return domain.decode("ascii") if SHOP_DOMAIN.fullmatch(domain) else ""


def _moment(value: bytes | None) -> datetime | None:
    """Read an ISO 8601 time in UTC; it only informs, so a malformed one is no reason to refuse an order."""
    try:
        moment = datetime.fromisoformat(value.decode("latin-1")) if value else None
        return moment.astimezone(UTC) if moment and moment.tzinfo else None
    except (ValueError, OverflowError):
        return None
