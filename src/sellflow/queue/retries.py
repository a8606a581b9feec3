"""When a failed message is tried again: pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from sellflow.errors import PermanentError, TryLaterError


@dataclass(frozen=True)
class RetryPolicy:
    """How often a message is tried and how long the waits between may grow, in seconds.

    `least` is the share of a wait, from 0 to 1, that chance leaves alone: more of it spreads retries less, and makes
    sure that they span a certain time.
    """

    attempts: int
    base: float
    cap: float
    least: float = 0.0

    def delay(self, failures: int, error: Exception, chance: float) -> float | None:
        """Return the seconds until the next attempt, or None when there is none.

        Capped exponential backoff with full jitter: `chance`, between 0 and 1, is drawn by the caller. Many
        messages that failed together thus come back spread out, not together. What the other side asked for
        (TryLaterError) is waited besides, as far as the cap allows.
        """
        if isinstance(error, PermanentError) or failures >= self.attempts:
            return None
        # 2**64 is beyond any cap, and keeps the power from overflowing a float.
        longest = min(self.cap, self.base * 2 ** min(failures, 64))
        backoff = float((self.least + (1 - self.least) * chance) * longest)
        asked = error.seconds if isinstance(error, TryLaterError) else 0.0
        return max(backoff, min(asked, self.cap))
