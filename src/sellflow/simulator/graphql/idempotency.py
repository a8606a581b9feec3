"""What `@idempotent(key:)` promises: one effect a key, for 24 hours (shopify.dev, Implementing idempotency)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, StrEnum

LIFE_SECONDS = 24 * 60 * 60.0


class Conflict(StrEnum):
    """Why a key cannot be used: the codes and sentences of the schema's `…UserErrorCode` enums."""

    CONCURRENT = "IDEMPOTENCY_CONCURRENT_REQUEST"
    MISMATCH = "IDEMPOTENCY_KEY_PARAMETER_MISMATCH"
    FAILED = "IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED"

    @property
    def message(self) -> str:
        """The sentence that explains it."""
        return _MESSAGES[self]


_MESSAGES = {
    Conflict.CONCURRENT: "This request is currently in progress, please try again.",
    Conflict.MISMATCH: "The same idempotency key cannot be used with different operation parameters.",
    Conflict.FAILED: "A previous request with this idempotency key failed. Retry with a new idempotency key.",
}


class _State(Enum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True)
class Attempt:
    """The first request that came with a key; `result` is what its mutation returned."""

    fingerprint: str
    at: float
    state: _State = _State.RUNNING
    result: object = None

    def finish(self, result: object) -> None:
        """Keep what the mutation returned: later requests with this key get it, too."""
        self.state, self.result = _State.DONE, result

    def fail(self) -> None:
        """Note that the attempt broke off before it had an effect."""
        self.state = _State.FAILED

    @property
    def is_done(self) -> bool:
        """Whether there is a result to give again."""
        return self.state is _State.DONE


@dataclass(slots=True)
class Keys:
    """The keys of one shop's app."""

    clock: Callable[[], float]
    _attempts: dict[str, Attempt] = field(default_factory=dict)

    def claim(self, key: str, fingerprint: str) -> Attempt | Conflict:
        """Return a new attempt to carry out, a finished one to repeat, or why the key cannot be used.

        `fingerprint` stands for the mutation and its parameters.
        """
        known = self._attempts.get(key)
        if known is not None and self.clock() - known.at < LIFE_SECONDS:
            return known if (conflict := _conflict(known, fingerprint)) is None else conflict
        self._attempts[key] = Attempt(fingerprint, self.clock())
        return self._attempts[key]

    def forget(self, attempt: Attempt) -> None:
        """Forget an attempt whose request turned out to be wrong in itself: nothing was begun under its key."""
        self._attempts = {key: known for key, known in self._attempts.items() if known is not attempt}

    @property
    def in_progress(self) -> int:
        """How many attempts run."""
        return sum(attempt.state is _State.RUNNING for attempt in self._attempts.values())

    def age(self, seconds: float) -> None:
        """Make every key older, as if time had passed."""
        for attempt in self._attempts.values():
            attempt.at -= seconds


def _conflict(known: Attempt, fingerprint: str) -> Conflict | None:
    if known.fingerprint != fingerprint:
        return Conflict.MISMATCH
    if known.state is _State.RUNNING:
        return Conflict.CONCURRENT
    return Conflict.FAILED if known.state is _State.FAILED else None
