"""When a token is renewed, and what scopes it lacks: no I/O."""

from __future__ import annotations

from collections.abc import Iterable

#: Seconds before its end from which the scheduler renews a token; a run of its job is sure to come in between.
EARLY = 600.0
#: Seconds before its end from which whoever uses a token renews it, give or take a fifth.
AHEAD = 240.0
#: A token with less than this left is not used any more: a call with it may arrive too late.
LEAST = 30.0
#: A renewal that failed for no fault of the tokens is tried again after so many seconds, doubled up to a limit.
FIRST_RETRY = 2.0
LONGEST_RETRY = 120.0


def is_usable(seconds_left: float | None) -> bool:
    """Say whether a token can still be used while another is on its way."""
    return seconds_left is None or seconds_left > LEAST


def retry_after(failures: int) -> float:
    """Return the seconds until the next attempt, after so many that failed in a row."""
    return min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** min(max(failures, 1) - 1, 16))


def missing_scopes(wanted: Iterable[str], granted: Iterable[str]) -> list[str]:
    """Return what is wanted and not granted. Whoever may write may read.

    Source: https://shopify.dev/docs/api/usage/access-scopes.
    """
    held = set(granted)
    held |= {_reading(scope) for scope in held}
    return sorted(set(wanted) - held)


def _reading(scope: str) -> str:
    for prefix in ("write_", "unauthenticated_write_"):
        if scope.startswith(prefix):
            return prefix.replace("write_", "read_") + scope.removeprefix(prefix)
    return scope
