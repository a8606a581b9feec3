"""What an answer to a stored call means: did it do its work, and may the same key be sent again? Pure.

Shopify's rules of idempotency: https://shopify.dev/docs/api/usage/implementing-idempotency and the descriptions of the
user errors' codes in the schema.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

from sellflow.shopify.admin.errors import AdminError, Effect, QueryRefusedError


class CallState(StrEnum):
    """Where a stored call stands (see migration 0012)."""

    STORED = "stored"
    SENT = "sent"
    AMBIGUOUS = "ambiguous"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def is_finished(self) -> bool:
        """Whether it will not be sent any more."""
        return self in {CallState.SUCCEEDED, CallState.FAILED, CallState.UNKNOWN}


class Verdict(Enum):
    """What to do after an attempt."""

    #: It is done.
    SUCCEEDED = "succeeded"
    #: It is refused, for a reason that another attempt does not change.
    FAILED = "failed"
    #: It may have been done: the same key, or none.
    AMBIGUOUS = "ambiguous"
    #: It was not done, and Shopify has not seen the key: everything is as before.
    UNTOUCHED = "untouched"
    #: It was not done, and Shopify has spoilt the key: another.
    NEW_KEY = "new_key"
    #: Shopify knows the key from another call: a fault of ours.
    MISMATCH = "mismatch"


@dataclass(frozen=True, slots=True)
class Complaint:
    """Why a call was refused: one of the answer's user errors, or of the query's errors."""

    code: str
    message: str
    field: str = ""


#: What Shopify says of keys, where a mutation's errors have codes and, by their messages, where they have none.
_OF_KEYS: tuple[tuple[str, re.Pattern[str], Verdict], ...] = (
    ("IDEMPOTENCY_CONCURRENT_REQUEST", re.compile(r"currently in progress", re.IGNORECASE), Verdict.AMBIGUOUS),
    (
        "IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED",
        re.compile(r"previous request with this idempotency key failed", re.IGNORECASE),
        Verdict.NEW_KEY,
    ),
    (
        "IDEMPOTENCY_KEY_PARAMETER_MISMATCH",
        re.compile(r"same idempotency key cannot be used", re.IGNORECASE),
        Verdict.MISMATCH,
    ),
)


def of_data(data: dict[str, Any]) -> tuple[Verdict, tuple[Complaint, ...]]:
    """Return what the data of an answer means: that of a mutation holds one payload, with its user errors."""
    payload = next(iter(data.values()), None)
    if not isinstance(payload, dict):
        return Verdict.AMBIGUOUS, ()
    found = payload.get("userErrors") or []
    complaints = tuple(_complaint(each) for each in found if isinstance(each, dict))
    return (_of_complaints(complaints) or Verdict.FAILED) if complaints else Verdict.SUCCEEDED, complaints


def of_error(error: AdminError) -> tuple[Verdict, tuple[Complaint, ...]]:
    """Return what it means that a call failed."""
    complaints = (
        tuple(Complaint(each.code, each.message, each.path) for each in error.errors)
        if isinstance(error, QueryRefusedError)
        else (Complaint(error.code, str(error)),)
    )
    if error.effect is Effect.REFUSED:
        return _of_complaints(complaints) or Verdict.FAILED, complaints
    return (Verdict.AMBIGUOUS if error.effect is Effect.UNKNOWN else Verdict.UNTOUCHED), complaints


def _complaint(found: dict[str, Any]) -> Complaint:
    field = found.get("field") or ()
    return Complaint(str(found.get("code") or ""), str(found.get("message") or ""), ".".join(map(str, field)))


def _of_complaints(complaints: Sequence[Complaint]) -> Verdict | None:
    """Return what complaints say of the key, if they do."""
    for each in complaints:
        for code, message, verdict in _OF_KEYS:
            if each.code == code or (not each.code and message.search(each.message)):
                return verdict
    return None
