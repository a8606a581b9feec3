"""What the simulator meant to send and what became of it: the truth that a ledger is checked against."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

from sellflow.simulator.faults import Fate
from sellflow.simulator.schemas import SentAttempt, SentWebhook, WebhookCounts


class Outcome(StrEnum):
    """What became of a webhook."""

    PENDING = "pending"
    ACKNOWLEDGED = "acknowledged"
    LOST = "lost"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request; `status` is its answer's, `error` says why there was none."""

    at: datetime
    status: int | None
    error: str | None
    duplicate: bool


@dataclass(slots=True)
class Delivery:
    """One webhook on its way to one subscription.

    The body is kept compressed: a run of a hundred thousand orders keeps every body until it is forgotten.
    """

    webhook_id: str
    event_id: str
    topic: str
    domain: str
    order_id: int | None
    triggered_at: datetime
    packed: bytes
    fate: Fate
    outcome: Outcome = Outcome.PENDING
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        """The raw body, byte for byte as it is signed and sent."""
        return zlib.decompress(self.packed)


def pack(body: bytes) -> bytes:
    """Compress a body for a `Delivery`."""
    return zlib.compress(body, level=1)


def count(deliveries: Iterable[Delivery]) -> WebhookCounts:
    """Return how many webhooks had which outcome, and how many requests that took."""
    outcomes: Counter[Outcome] = Counter()
    attempts = duplicates = 0
    for delivery in deliveries:
        outcomes[delivery.outcome] += 1
        attempts += len(delivery.attempts)
        duplicates += sum(attempt.duplicate for attempt in delivery.attempts)
    return WebhookCounts(
        meant=outcomes.total(),
        acknowledged=outcomes[Outcome.ACKNOWLEDGED],
        lost=outcomes[Outcome.LOST],
        pending=outcomes[Outcome.PENDING],
        failed=outcomes[Outcome.FAILED],
        attempts=attempts,
        duplicates=duplicates,
    )


def sent(delivery: Delivery) -> SentWebhook:
    """Return a delivery as the API shows it."""
    outcome: Literal["pending", "acknowledged", "lost", "failed"] = delivery.outcome.value
    return SentWebhook(
        webhook_id=delivery.webhook_id,
        topic=delivery.topic,
        order_id=delivery.order_id,
        body=delivery.body.decode(),
        outcome=outcome,
        attempts=[
            SentAttempt(at=made.at, status=made.status, error=made.error, duplicate=made.duplicate)
            for made in delivery.attempts
        ],
    )
