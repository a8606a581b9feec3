"""What is asked for, about whom, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

#: Shopify's limit for all three: https://shopify.dev/docs/apps/build/compliance/privacy-law-compliance
DUE_WITHIN = timedelta(days=30)


class Kind(StrEnum):
    """What is asked for."""

    DATA_REQUEST = "data_request"
    CUSTOMER_REDACT = "customer_redact"
    SHOP_REDACT = "shop_redact"


class State(StrEnum):
    """How far a request has come."""

    OPEN = "open"
    #: Waits for an operator's word.
    HELD = "held"
    #: Erased, to be gone through once more when everything that was under way then has ended.
    SETTLING = "settling"
    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a request is about, as Shopify names them: some customers have an e-mail address and nothing else."""

    customer_id: int | None
    email: str | None
    phone: str | None
    order_ids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Notice:
    """What a compliance webhook says. `person` is None where it is about the shop."""

    kind: Kind
    shop_domain: str
    person: Person | None
    external_id: int | None


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose events are meant: a shop's; or, where it is not known, those that came under its domain."""

    app_id: int
    shop_id: int | None
    domain: str | None


@dataclass(frozen=True, slots=True)
class Request:
    """A request and its record. `person` and `shop_domain` are None once they are erased."""

    request_id: int
    app_id: int
    shop_id: int | None
    shop_domain: str | None
    kind: Kind
    person: Person | None
    external_id: int | None
    source_day: date
    source_event_id: int
    received_at: datetime
    due_at: datetime
    state: State
    reason: str
    confirmed: bool
    attempts: int
    last_error: str
    fence: str | None
    finished_at: datetime | None
    record: dict[str, int]
    touched: tuple[str, ...]
    expires_at: datetime | None
    #: The first day of the log that needs to be searched; None for all of them.
    since_day: date | None

    @property
    def scope(self) -> Scope:
        """Whose events it is about."""
        return Scope(self.app_id, self.shop_id, self.shop_domain)

    def is_overdue(self, now: datetime) -> bool:
        """Say whether it should have been finished by now."""
        return self.finished_at is None and self.due_at < now
