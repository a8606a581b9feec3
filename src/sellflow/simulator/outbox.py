"""What a run, or a shop's single calls, has to send: every webhook is noted before anything happens to it."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime

from sellflow.simulator.faults import ReorderWindow, draw_fate
from sellflow.simulator.journal import Delivery, pack
from sellflow.simulator.notices import Notice
from sellflow.simulator.schemas import Faults
from sellflow.simulator.sender import Receiver, Sender

logger = logging.getLogger(__name__)


class Outbox:
    """A journal and the deliveries under way; faults are drawn from `rng` in the order of posting."""

    def __init__(self, sender: Sender, receiver: Receiver, domain: str, rng: random.Random) -> None:
        self.journal: list[Delivery] = []
        self._sender = sender
        self._receiver = receiver
        self._domain = domain
        self._rng = rng
        self._window: ReorderWindow[Delivery] = ReorderWindow()
        self._room = asyncio.Semaphore(4 * sender.concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    async def post(self, notices: Iterable[Notice], faults: Faults) -> None:
        """Send what one action caused; wait while too many deliveries have not been tried yet."""
        event_id = str(uuid.uuid4())
        for notice in notices:
            delivery = self._note(notice, event_id, faults)
            for ready in self._window.offer(delivery, delivery.fate.held_for):
                await self._launch(ready)

    async def flush(self) -> None:
        """Send what is held back for reordering."""
        for delivery in self._window.flush():
            await self._launch(delivery)

    async def drain(self) -> None:
        """Wait until every delivery has its outcome."""
        await self.flush()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._failure is not None:
            raise self._failure

    async def cancel(self) -> None:
        """Give up what is under way; it stays pending in the journal."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _note(self, notice: Notice, event_id: str, faults: Faults) -> Delivery:
        """Put a webhook in the journal.

        Its id does not come from the seed: a repeated run is new to its receiver, not a duplicate.
        """
        delivery = Delivery(
            webhook_id=str(uuid.uuid4()),
            event_id=event_id,
            topic=notice.topic,
            domain=self._domain,
            order_id=notice.order_id,
            triggered_at=datetime.now(UTC),
            packed=pack(notice.body),
            fate=draw_fate(faults, self._rng),
        )
        self.journal.append(delivery)
        return delivery

    async def _launch(self, delivery: Delivery) -> None:
        await self._room.acquire()
        task = asyncio.create_task(self._sender.deliver(delivery, self._receiver, self._room.release))
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            logger.error("a delivery broke off", exc_info=failure)
            self._failure = failure
