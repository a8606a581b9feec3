"""Sending webhooks by Shopify's rules: five seconds for an answer, eight retries over four hours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from sellflow.simulator.journal import Attempt, Delivery, Outcome
from sellflow.simulator.models import App
from sellflow.simulator.signing import headers

CONNECT_SECONDS = 1.0
TOTAL_SECONDS = 5.0

# Shopify publishes the number of retries and their span, not the gaps: ours grow and add up to four hours.
RETRY_GAPS = (10.0, 40.0, 120.0, 300.0, 900.0, 2_100.0, 4_200.0, 6_730.0)


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where deliveries go: `app` is asked before each attempt, for a shop's secret and address may change."""

    app: Callable[[], App]
    time_compression: float = 1.0


class Sender:
    """Sends deliveries through one HTTP client, no more than `concurrency` of them at a time."""

    def __init__(self, *, concurrency: int = 16, total_seconds: float = TOTAL_SECONDS) -> None:
        self.concurrency = concurrency
        self._slots = asyncio.Semaphore(concurrency)
        self._total_seconds = total_seconds
        # A proxy set in the environment must not get between two programs on this machine.
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(total_seconds, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def deliver(self, delivery: Delivery, to: Receiver, tried: Callable[[], None]) -> None:
        """Carry a delivery to its outcome, its copy included; call `tried` after the first attempt.

        `tried` is called at once where nothing is sent for now.
        """
        fate = delivery.fate
        if fate.lost or fate.delay:
            tried()
        if fate.lost:
            delivery.outcome = Outcome.LOST
            return
        await asyncio.sleep(fate.delay)
        if fate.duplicated and fate.duplicated_at_once:
            await asyncio.gather(self._deliver(delivery, to, tried), self._attempt(delivery, to, copy=True))
        else:
            await self._deliver(delivery, to, tried)
            if fate.duplicated:
                await self._attempt(delivery, to, copy=True)

    async def _deliver(self, delivery: Delivery, to: Receiver, tried: Callable[[], None]) -> None:
        acknowledged = await self._attempt(delivery, to)
        if not delivery.fate.delay:
            tried()
        for gap in RETRY_GAPS:
            if acknowledged:
                return
            await asyncio.sleep(gap / to.time_compression)
            acknowledged = await self._attempt(delivery, to)
        if delivery.outcome is Outcome.PENDING:
            delivery.outcome = Outcome.FAILED

    async def _attempt(self, delivery: Delivery, to: Receiver, *, copy: bool = False) -> bool:
        """Make one request and note it. Any answer but 2xx is a failure, redirections included."""
        async with self._slots:
            at = datetime.now(UTC)
            try:
                status, error = await self._post(delivery, to.app())
            except asyncio.CancelledError:
                # The receiver may have it all the same: a check of its ledger has to know.
                delivery.attempts.append(Attempt(at, None, "cancelled", duplicate=copy))
                raise
        delivery.attempts.append(Attempt(at, status, error, duplicate=copy))
        if status is None or not 200 <= status < 300:
            return False
        delivery.outcome = Outcome.ACKNOWLEDGED
        return True

    async def _post(self, delivery: Delivery, app: App) -> tuple[int | None, str | None]:
        body = delivery.body
        try:
            async with asyncio.timeout(self._total_seconds):
                answer = await self._client.post(app.webhook_url, content=body, headers=headers(delivery, body, app))
        except TimeoutError:
            return None, f"no answer within {self._total_seconds:g} seconds"
        except httpx.HTTPError as error:
            return None, f"{type(error).__name__}: {error}"
        return answer.status_code, None
