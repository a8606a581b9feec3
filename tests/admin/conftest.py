"""The web role on a socket, with dead letters and endpoints of two shops and of a service."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from sellflow.postgres.database import Database, SessionConnection
from tests.conftest import Tenant
from tests.edge.serving import serving


@pytest.fixture
async def client(database: Database, tenant: Tenant, other_tenant: Tenant) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(database) as found:
        yield found


class Failures:
    """Makes dead letters, as the owner."""

    def __init__(self, owner: SessionConnection) -> None:
        self.owner = owner

    async def add(
        self,
        tenant: Tenant,
        *,
        queue: str = "loyalty",
        key: str = "",
        code: str = "lab.hopeless",
        topic: str = "shopify.orders.paid",
    ) -> int:
        """Add a dead letter with its event, attempt and outcome; return its id."""
        letter_id: int = await self.owner.fetchval(
            """
            WITH stored AS (
                INSERT INTO events (day, event_id, app_id, shop_id, shop_domain, topic, key, payload)
                SELECT (now() AT TIME ZONE 'UTC')::date, nextval('event_ids'), app_id, shop_id, domain, $3, $4,
                       '{"id":1}'
                FROM shops WHERE shop_id = $1
                RETURNING day, event_id
            ), ended AS (
                INSERT INTO outcomes (day, event_id, queue, shop_id, handler, outcome, detail, attempts)
                SELECT day, event_id, $2, $1, 'earn', 'dead', 'hopeless', 1 FROM stored
            ), tried AS (
                INSERT INTO failed_attempts (shop_id, day, event_id, queue, replay, attempt, handler, error_code,
                                             error_class, error_message)
                SELECT $1, day, event_id, $2, 0, 1, 'earn', $5, 'HopelessError', 'not ever' FROM stored
            )
            INSERT INTO dead_letters (shop_id, queue, msg_id, topic, day, event_id, key, handler, attempts,
                                      error_code, error_class, error_message, stack_trace, first_failed_at,
                                      blocks_key)
            SELECT $1, $2, event_id, $3, day, event_id, $4, 'earn', 1, $5, 'HopelessError', 'not ever',
                   'Traceback: in _apply', now(), false FROM stored
            RETURNING dead_letter_id
            """,
            tenant.shop_id,
            queue,
            topic,
            key,
            code,
        )
        return letter_id

    async def states(self) -> dict[int, str]:
        rows = await self.owner.fetch("SELECT dead_letter_id, state FROM dead_letters")
        return {row["dead_letter_id"]: row["state"] for row in rows}

    async def waiting(self, queue: str = "loyalty") -> int:
        return int(await self.owner.fetchval(f"SELECT count(*) FROM pgmq.q_{queue}"))


@pytest.fixture
def failures(owner: SessionConnection) -> Failures:
    return Failures(owner)
