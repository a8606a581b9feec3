"""Reads Shopify's REST customer resource (https://shopify.dev/docs/api/admin-rest/latest/resources/customer)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from sellflow.queue import Event
from sellflow.queue.payloads import read_json
from sellflow.shops.models import Customer

LONGEST = 1000


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _storable(text: object) -> object:
    """Cut what is longer than any name, and leave out what Postgres cannot hold: no reason to lose the rest."""
    return text.replace("\x00", "")[:LONGEST] if isinstance(text, str) else text


Moment = Annotated[datetime, AfterValidator(_utc)]
Text = Annotated[str, BeforeValidator(_storable)]
Identity = Annotated[int, Field(gt=0, lt=2**63, strict=True)]


class _Payload(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Consent(_Payload):
    state: str | None = None


class _CustomerResource(_Payload):
    id: Identity
    email: Text | None = None
    phone: Text | None = None
    first_name: Text | None = None
    last_name: Text | None = None
    locale: Text | None = None
    state: Text | None = None
    tags: Text | None = None
    email_marketing_consent: _Consent | None = None
    created_at: Moment | None = None
    updated_at: Moment | None = None


class Deleted(_Payload):
    """A customer that is no more."""

    id: Identity


def parse_customer(event: Event) -> Customer:
    """Return what a customers/create or customers/update webhook says.

    Raises
    ------
    InvalidPayloadError
        If the payload is no customer, naming the fields at fault.
    """
    return _customer(read_json(_CustomerResource, event), event.received_at)


def customer_of(payload: bytes, *, now: datetime) -> Customer:
    """Return a customer from the resource alone; raises pydantic's ValidationError where it is none."""
    return _customer(_CustomerResource.model_validate_json(payload), now)


def _customer(resource: _CustomerResource, otherwise: datetime) -> Customer:
    consent = resource.email_marketing_consent
    return Customer(
        customer_id=resource.id,
        email=resource.email or None,
        phone=resource.phone or None,
        first_name=resource.first_name,
        last_name=resource.last_name,
        locale=resource.locale,
        state=resource.state or "",
        tags=resource.tags or "",
        accepts_marketing=bool(consent and consent.state == "subscribed"),
        created_at=resource.created_at,
        revised_at=resource.updated_at or resource.created_at or otherwise,
    )
