"""What an endpoint, a delivery and an attempt at one are."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum

from sellflow.errors import SellflowError


class EndpointState(StrEnum):
    """Whether an endpoint is told of events. What it misses while it is paused is kept for it."""

    ACTIVE = "active"
    PAUSED = "paused"
    REMOVED = "removed"


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    #: Kept until its endpoint is resumed.
    HELD = "held"
    #: Given up after the last attempt; a replay sends it all the same.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Somebody outside who is told of events: of one shop's, or of every shop's where `shop_id` is None."""

    endpoint_id: int
    shop_id: int | None
    kind: str
    address: str
    topics: list[str]
    description: str
    state: EndpointState
    paused_at: datetime | None
    pause_reason: str | None
    failures: int
    failing_since: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Listener:
    """As much of an endpoint as decides which events it is told of."""

    endpoint_id: int
    shop_id: int | None
    topics: list[str]
    is_paused: bool


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """An event that an endpoint is to be told of."""

    endpoint_id: int
    shop_id: int
    day: date
    event_id: int
    topic: str
    state: DeliveryState


@dataclass(frozen=True, slots=True)
class Parcel:
    """Everything that one attempt at a delivery needs: where to, what, and what to sign it with.

    Without a `payload`, the event is no longer in the log.
    """

    delivery_id: int
    shop_id: int
    state: DeliveryState
    round: int
    endpoint_id: int
    of_service: bool
    endpoint_state: EndpointState
    kind: str
    address: str
    secrets: list[str] = field(repr=False)
    event_id: int
    topic: str
    shop_domain: str | None
    payload: bytes | None = field(repr=False)
    received_at: datetime | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint said: a status, the beginning of the body, and how long it wants to be left alone."""

    status: int
    excerpt: str = ""
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a delivery. `error` is None where the endpoint took it."""

    parcel: Parcel
    attempted_at: datetime
    duration_ms: int
    answer: Answer | None
    error: SellflowError | None


@dataclass(frozen=True, slots=True)
class Health:
    """How an endpoint fares after a batch, and why it has to be paused now, if it has to."""

    endpoint_id: int
    failures: int
    failing_since: datetime | None
    state: EndpointState


@dataclass(frozen=True, slots=True)
class Delivery:
    """A line of the delivery log."""

    delivery_id: int
    shop_id: int
    endpoint_id: int
    day: date
    event_id: int
    topic: str
    state: DeliveryState
    attempts: int
    last_status: int | None
    last_error: str | None
    created_at: datetime
    delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class LoggedAttempt:
    """An attempt as the log keeps it."""

    attempted_at: datetime
    duration_ms: int
    status: int | None
    error_code: str | None
    error_message: str | None
    excerpt: str
