"""A run: many orders and what happens to them, interleaved, at a steady rate or as fast as they are taken."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from sellflow.simulator.backend import Shopify
from sellflow.simulator.journal import count
from sellflow.simulator.money import rounded
from sellflow.simulator.notices import Change
from sellflow.simulator.outbox import Outbox
from sellflow.simulator.schemas import FinalOrder, RunPlan, RunStatus
from sellflow.simulator.sender import Receiver, Sender
from sellflow.simulator.stories import Step, Storyteller
from sellflow.simulator.totals import is_paid, original_totals, refunded_items

logger = logging.getLogger(__name__)

# Orders whose stories are still going on at one time; more of them would only delay each other's refunds.
OPEN_STORIES = 20


class Run:
    """One run, started by making it. The seed decides orders, their stories and their faults."""

    def __init__(self, run_id: str, shopify: Shopify, sender: Sender, domain: str, plan: RunPlan) -> None:
        self.id = run_id
        self.seed = shopify.ids() if plan.seed is None else plan.seed
        self._shopify = shopify
        self._domain = domain
        self._plan = plan
        self._rng = random.Random(f"{self.seed} order of events")
        self._stories = Storyteller(shopify, domain, plan.mix, random.Random(f"{self.seed} stories"))
        receiver = Receiver(lambda: shopify.shop(domain).app, plan.time_compression)
        self.outbox = Outbox(sender, receiver, domain, random.Random(f"{self.seed} faults"))
        self._order_ids: list[int] = []
        self._open: list[tuple[int, list[Step]]] = []
        self._started_at = datetime.now(UTC)
        self._began = time.monotonic()
        self._seconds: float | None = None
        self._state: Literal["running", "done", "cancelled"] = "running"
        self._error: str | None = None
        self._task = asyncio.create_task(self._play())

    def status(self) -> RunStatus:
        """Return how far the run is."""
        seconds = time.monotonic() - self._began if self._seconds is None else self._seconds
        return RunStatus(
            run_id=self.id,
            shop=self._domain,
            state=self._state,
            orders=len(self._order_ids),
            refunds=sum(len(self._shopify.order(order_id).refunds) for order_id in self._order_ids),
            webhooks=count(self.outbox.journal),
            seed=self.seed,
            started_at=self._started_at,
            seconds=round(seconds, 3),
            error=self._error,
        )

    def final_orders(self) -> Iterator[FinalOrder]:
        """Yield each order as it is now."""
        for order_id in self._order_ids:
            order = self._shopify.order(order_id)
            currency = order.exchange.shop
            yield FinalOrder(
                order_id=order.id,
                name=order.name,
                customer_id=order.customer.id if order.customer else None,
                currency=currency,
                paid=is_paid(order),
                cancelled=order.cancelled_at is not None,
                subtotal=rounded(original_totals(order).subtotal.shop, currency),
                refunded=rounded(refunded_items(order), currency),
                refunds=len(order.refunds),
            )

    async def cancel(self) -> None:
        """Stop placing and sending; what is under way stays pending."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self.outbox.cancel()

    async def finished(self) -> None:
        """Wait for the run's end, whatever it is."""
        await asyncio.wait([self._task])

    async def _play(self) -> None:
        try:
            await self._place_all()
            while self._open:
                await self._continue_a_story()
            await self.outbox.drain()
            self._state = "done"
        except asyncio.CancelledError:
            self._state = "cancelled"
            raise
        except Exception as error:
            # This is the run's outermost loop; its status tells of the failure.
            logger.exception("run %s broke off", self.id)
            self._state, self._error = "cancelled", f"{type(error).__name__}: {error}"
        finally:
            self._seconds = time.monotonic() - self._began

    async def _place_all(self) -> None:
        for number in range(self._plan.count):
            await self._until_due(number)
            change, story = self._stories.place()
            self._order_ids.append(change.order.id)
            if story:
                self._open.append((change.order.id, story))
            await self._send([change])
            if self._open and (len(self._open) > OPEN_STORIES or self._rng.random() < 0.5):
                await self._continue_a_story()

    async def _until_due(self, number: int) -> None:
        if self._plan.rate:
            await asyncio.sleep(self._began + number / self._plan.rate - time.monotonic())

    async def _continue_a_story(self) -> None:
        place = self._rng.randrange(len(self._open))
        order_id, story = self._open[place]
        await self._send(self._stories.perform(story.pop(0), order_id))
        if not story:
            self._open.pop(place)

    async def _send(self, changes: list[Change]) -> None:
        for change in changes:
            await self.outbox.post(change.notices, self._plan.faults)
