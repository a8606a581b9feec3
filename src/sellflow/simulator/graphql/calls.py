"""The journal of Admin API calls as they arrive at the simulator: what a test of somebody's throttle measures."""

from __future__ import annotations

from collections import deque
from typing import Literal

from pydantic import BaseModel

CALLS_KEPT = 200_000

Outcome = Literal["answered", "throttled", "refused", "failed", "dropped"]


class ApiCall(BaseModel):
    """One call: `at` is its arrival and `seconds` how long it took, `available` what it left in the bucket.

    `requested` and `actual` are points. `answered` calls were executed (their GraphQL errors are in `errors`),
    `refused` ones never were: malformed, or too expensive for a single query.
    """

    at: float
    operation: str
    client_id: str
    outcome: Outcome = "answered"
    status: int = 200
    requested: int = 0
    actual: int = 0
    available: float = 0.0
    seconds: float = 0.0
    errors: int = 0
    fault: str | None = None


class ApiCounts(BaseModel):
    """Sums over the calls since the start, or since the journal was last cleared."""

    calls: int = 0
    answered: int = 0
    throttled: int = 0
    refused: int = 0
    failed: int = 0
    dropped: int = 0
    points_used: int = 0


class CallJournal:
    """Counts every call and keeps the last ones."""

    def __init__(self) -> None:
        self.calls: deque[ApiCall] = deque(maxlen=CALLS_KEPT)
        self.counts = ApiCounts()

    def note(self, call: ApiCall) -> None:
        """Add a call that has its outcome."""
        self.calls.append(call)
        self.counts.calls += 1
        self.counts.points_used += call.actual
        setattr(self.counts, call.outcome, getattr(self.counts, call.outcome) + 1)

    def clear(self) -> None:
        """Begin to count anew."""
        self.calls.clear()
        self.counts = ApiCounts()
