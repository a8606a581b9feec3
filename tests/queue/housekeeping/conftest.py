"""An old day of the log, and everything that can keep it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest

from sellflow.postgres.database import SessionConnection
from tests.conftest import Tenant

RETENTION = 100


class OldDays:
    """Puts rows of past days into the log, as if they had been stored then."""

    def __init__(self, owner: SessionConnection, tenant: Tenant) -> None:
        self.owner = owner
        self.tenant = tenant
        self._events = 0

    @staticmethod
    def day(age: int) -> date:
        return datetime.now(UTC).date() - timedelta(days=age)

    async def make(self, age: int, *, partition: bool = True) -> date:
        """Return a day of this age with one event that was handled."""
        day = self.day(age)
        if partition:
            for parent in ("events", "outcomes"):
                await self.owner.execute("CALL make_day_partition($1, $2)", parent, day)
        await self.handled_event(day)
        return day

    async def event(self, day: date, *, topic: str = "shopify.orders.paid", unknown_shop: bool = False) -> int:
        """Store an event and nothing else of it."""
        self._events += 1
        await self.owner.execute(
            """
            INSERT INTO events (day, event_id, app_id, shop_id, shop_domain, topic, key, received_at, payload)
            VALUES ($1, $2, $3, $4, $5, $6, 'order:1', $7, '{}')
            """,
            day,
            self._events,
            self.tenant.app.app_id,
            None if unknown_shop else self.tenant.shop_id,
            "stranger.myshopify.com" if unknown_shop else self.tenant.shop.domain,
            topic,
            datetime.combine(day, time(12), UTC),
        )
        return self._events

    async def handled_event(self, day: date) -> int:
        event_id = await self.event(day)
        await self.outcome(day, event_id)
        return event_id

    async def outcome(self, day: date, event_id: int, *, queue: str = "loyalty") -> None:
        await self.owner.execute(
            """
            INSERT INTO outcomes (day, event_id, queue, shop_id, handler, outcome, attempts)
            VALUES ($1, $2, $3, $4, 'orders', 'done', 1)
            """,
            day,
            event_id,
            queue,
            self.tenant.shop_id,
        )

    async def message(self, day: date) -> None:
        """An event whose message waits in its queue."""
        event_id = await self.handled_event(day)
        await self.owner.execute(
            "INSERT INTO pgmq.q_loyalty (vt, message) VALUES (now(), event_reference($1, $2, $3, 'order:1'))",
            day,
            event_id,
            self.tenant.shop_id,
        )

    async def parked(self, day: date, *, follows: bool = False) -> None:
        """An event that waits for its next attempt, or behind another."""
        event_id = await self.handled_event(day)
        await self.owner.execute(
            """
            INSERT INTO parked_messages (queue, msg_id, shop_id, key, message, due_at)
            VALUES ('loyalty', $2, $3, 'order:1', event_reference($1, $2, $3, 'order:1'),
                    CASE WHEN $4 THEN NULL ELSE now() END)
            """,
            day,
            event_id,
            self.tenant.shop_id,
            follows,
        )

    async def dead_letter(self, day: date, *, state: str = "waiting") -> int:
        event_id = await self.handled_event(day)
        await self.owner.execute(
            """
            INSERT INTO dead_letters (shop_id, queue, msg_id, topic, day, event_id, key, handler, attempts, error_code,
                                      error_class, error_message, stack_trace, first_failed_at, blocks_key, state)
            VALUES ($3, 'loyalty', $2, 'shopify.orders.paid', $1, $2, '', 'orders', 8, 'x', 'X', 'x', '', now(), false,
                    $4)
            """,
            day,
            event_id,
            self.tenant.shop_id,
            state,
        )
        return event_id

    async def failed_attempt(self, day: date, event_id: int) -> None:
        await self.owner.execute(
            """
            INSERT INTO failed_attempts (shop_id, day, event_id, queue, replay, attempt, handler, error_code,
                                         error_class, error_message)
            VALUES ($3, $1, $2, 'loyalty', 0, 1, 'orders', 'x', 'X', 'x')
            """,
            day,
            event_id,
            self.tenant.shop_id,
        )

    async def unknown_shop(self, day: date) -> None:
        await self.event(day, unknown_shop=True)

    async def lost_message(self, day: date) -> None:
        """An event that its queue has neither a message nor an outcome of."""
        await self.owner.execute("UPDATE pgmq.topic_bindings SET bound_at = now() - interval '1 year'")
        await self.event(day)

    async def in_log(self) -> set[date]:
        """The past days that the log holds an event or a partition of."""
        rows = await self.owner.fetch("SELECT day FROM log_days() WHERE day < $1", self.day(0))
        return {row["day"] for row in rows}


@pytest.fixture
def old_days(owner: SessionConnection, tenant: Tenant) -> OldDays:
    return OldDays(owner, tenant)
