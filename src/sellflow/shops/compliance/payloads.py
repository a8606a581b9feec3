"""Reads Shopify's compliance webhooks.

Shapes: https://shopify.dev/docs/apps/build/compliance/privacy-law-compliance. A customer's record may hold no more than
an e-mail address, so every field of it may be missing.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from sellflow.errors import InvalidPayloadError
from sellflow.queue import Event
from sellflow.queue.payloads import read_json
from sellflow.shops.compliance.models import Kind, Notice, Person

KINDS = {
    "shopify.customers.data_request": Kind.DATA_REQUEST,
    "shopify.customers.redact": Kind.CUSTOMER_REDACT,
    "shopify.shop.redact": Kind.SHOP_REDACT,
}

#: Shorter texts would be found everywhere: no address is that short.
SHORTEST = 5

_Identity = Annotated[int, Field(gt=0, lt=2**63)]
_Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=320, pattern=r"^[^\x00]*$")]


class _Payload(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Customer(_Payload):
    id: _Identity | None = None
    email: _Text | None = None
    phone: _Text | None = None


class _DataRequest(_Payload):
    id: _Identity | None = None


class _ShopNotice(_Payload):
    shop_domain: Annotated[str, StringConstraints(to_lower=True, min_length=1, max_length=255)]


class _CustomerNotice(_ShopNotice):
    customer: _Customer
    orders_requested: tuple[_Identity, ...] | None = None
    orders_to_redact: tuple[_Identity, ...] | None = None
    data_request: _DataRequest | None = None


def parse_notice(event: Event) -> Notice:
    """Return what a webhook asks for.

    Raises
    ------
    InvalidPayloadError
        If the payload is no such notice, or names nobody.
    """
    kind = KINDS[event.topic]
    if kind is Kind.SHOP_REDACT:
        return Notice(kind, read_json(_ShopNotice, event).shop_domain, None, None)
    notice = read_json(_CustomerNotice, event)
    person = Person(
        customer_id=notice.customer.id,
        email=_long_enough(notice.customer.email),
        phone=_long_enough(notice.customer.phone),
        order_ids=frozenset((notice.orders_requested or ()) + (notice.orders_to_redact or ())),
    )
    if not (person.customer_id or person.email or person.phone or person.order_ids):
        raise InvalidPayloadError(f"the {event.topic} names neither a customer nor an order")
    external_id = notice.data_request.id if notice.data_request else None
    return Notice(kind, notice.shop_domain, person, external_id)


def _long_enough(text: str | None) -> str | None:
    return text if text and len(text) >= SHORTEST else None
