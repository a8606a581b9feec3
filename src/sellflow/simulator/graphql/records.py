"""What the Admin API remembers besides orders and customers: plain records, most of them replaced as they change."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Metafield:
    """A value under a namespace and a key of its owner, whom a global id names."""

    id: int
    owner: str
    namespace: str
    key: str
    type: str
    value: str
    created_at: datetime
    updated_at: datetime

    @property
    def digest(self) -> str:
        """What `compareDigest` holds: another value has another one."""
        return hashlib.sha256(f"{self.id} {self.type} {self.value}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class CodeDiscount:
    """A discount with a code; `kind` is the type of the schema's union, `wanted` the input that made it."""

    id: int
    kind: str
    wanted: dict[str, Any] = field(repr=False)
    code: str
    code_id: int
    starts_at: datetime
    ends_at: datetime | None
    created_at: datetime
    updated_at: datetime

    def status(self, now: datetime) -> str:
        """Return `DiscountStatus`."""
        if self.ends_at is not None and self.ends_at <= now:
            return "EXPIRED"
        return "SCHEDULED" if self.starts_at > now else "ACTIVE"


@dataclass(frozen=True, slots=True)
class GiftCard:
    """A gift card; nobody sees its code again."""

    id: int
    code: str = field(repr=False)
    initial: Decimal
    balance: Decimal
    customer_id: int | None
    expires_on: date | None
    note: str | None
    created_at: datetime
    updated_at: datetime
    deactivated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CreditTransaction:
    """Store credit that came (`amount` above zero) or went."""

    id: int
    account_id: int
    amount: Decimal
    balance_after: Decimal
    created_at: datetime
    expires_at: datetime | None = None


@dataclass(slots=True)
class CreditAccount:
    """The store credit of a customer in one currency."""

    id: int
    customer_id: int
    currency: str
    transactions: list[CreditTransaction] = field(default_factory=list)

    @property
    def balance(self) -> Decimal:
        """What is left."""
        return self.transactions[-1].balance_after if self.transactions else Decimal(0)


@dataclass(frozen=True, slots=True)
class Subscription:
    """An app's subscription that a merchant was asked to approve."""

    id: int
    client_id: str
    name: str
    status: str
    return_url: str
    is_test: bool
    trial_days: int
    lines: tuple[tuple[int, dict[str, Any]], ...]
    replacement: str
    created_at: datetime
    period_ends_at: datetime | None = None


@dataclass(slots=True)
class BulkOperation:
    """A bulk query: `path` is its result's file, `url` where that is served."""

    id: int
    client_id: str
    query: str
    created_at: datetime
    status: str = "CREATED"
    objects: int = 0
    roots: int = 0
    file_size: int | None = None
    error_code: str | None = None
    completed_at: datetime | None = None
    url: str | None = None
    path: Path | None = None

    @property
    def is_running(self) -> bool:
        """Whether it takes one of the app's places."""
        return self.status in ("CREATED", "RUNNING", "CANCELING")
