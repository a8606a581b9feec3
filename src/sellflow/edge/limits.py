"""How much a caller may: a bucket of requests for each shop and kind of caller, in the memory of this process.

Where the rate comes from is a function: the shop's plan (`plan_limits`), or `settings_rates`. Refusals carry the fields
of the IETF's draft-ietf-httpapi-ratelimit-headers beside Retry-After.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum

from sellflow.edge.problems import Problem
from sellflow.settings import Settings

#: Seconds' worth of requests that may come at once after a pause.
BURST_SECONDS = 2.0
#: Buckets kept at most; full ones are forgotten beyond, which changes nothing.
MOST_BUCKETS = 10_000


class Kind(StrEnum):
    """Who calls."""

    MOBILE = "mobile"
    MERCHANT = "merchant"
    SERVICE = "service"


#: Returns the requests a second that a kind of caller may make for a shop (None: for the installation); 0 is no limit.
RateOf = Callable[[Kind, int | None], Awaitable[float]]


def settings_rates(settings: Settings) -> RateOf:
    """Return the rates of the settings, alike for every shop."""
    rates = {
        Kind.MOBILE: settings.mobile_requests_per_second,
        Kind.MERCHANT: settings.merchant_requests_per_second,
        Kind.SERVICE: settings.service_requests_per_second,
    }

    async def rate_of(kind: Kind, _: int | None) -> float:
        return rates[kind]

    return rate_of


class Limits:
    """The buckets. One that nobody asked for is full."""

    def __init__(self, rate_of: RateOf, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate_of = rate_of
        self._clock = clock
        #: What was left, and when.
        self._buckets: dict[tuple[Kind, int | None], tuple[float, float]] = {}

    async def take(self, kind: Kind, shop_id: int | None) -> None:
        """Take one request out of a caller's bucket.

        Raises
        ------
        Problem
            429 with Retry-After and RateLimit fields, when it is empty.
        """
        rate = await self._rate_of(kind, shop_id)
        if rate <= 0:
            return
        now, most = self._clock(), max(1.0, rate * BURST_SECONDS)
        left, at = self._buckets.get((kind, shop_id), (most, now))
        left = min(most, left + (now - at) * rate)
        if left < 1:
            wait = math.ceil((1 - left) / rate)
            detail = f"More than {rate:g} requests a second: try again in {wait} s."
            raise Problem(429, "request.too_many", detail, headers=_refusal(kind, rate, most, wait))
        if len(self._buckets) >= MOST_BUCKETS:
            self._forget(now)
        self._buckets[kind, shop_id] = left - 1, now

    def _forget(self, now: float) -> None:
        """Forget buckets that nobody took from for so long that they are full again at any usual rate."""
        self._buckets = {name: (left, at) for name, (left, at) in self._buckets.items() if now - at < BURST_SECONDS}


def _refusal(kind: Kind, rate: float, most: float, wait: int) -> list[tuple[str, str]]:
    """Return the fields of a refusal: when to come back, and a quota with the seconds in which it fills again."""
    return [
        ("retry-after", str(wait)),
        ("ratelimit-policy", f'"{kind.value}";q={math.floor(most)};w={math.ceil(most / rate)}'),
        ("ratelimit", f'"{kind.value}";r=0;t={wait}'),
    ]
