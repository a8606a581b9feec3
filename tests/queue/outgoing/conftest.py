"""An installation with endpoints: events are emitted, consumers run by hand, receivers listen on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from sellflow.postgres.database import Database, Pool, SessionConnection
from sellflow.queue.event_log import emit
from sellflow.queue.outgoing.addresses import Allowance, parse_networks
from sellflow.queue.outgoing.endpoints import add_endpoint, find_endpoint
from sellflow.queue.outgoing.models import Endpoint
from sellflow.queue.registry import Registry
from sellflow.queue.topics import EmittedEvent
from sellflow.roles import build_registry
from sellflow.secrets import build_vault
from tests.conftest import Tenant
from tests.edge.serving import with_settings
from tests.queue.consuming import drain
from tests.queue.outgoing.receiver import Receiver, receiving

LOOPBACK = "127.0.0.0/8"
EARNED = "loyalty.points.earned"
QUEUES = ("outgoing", "outgoing_deliveries")


class Outgoing:
    """Adds endpoints, emits events and delivers them."""

    def __init__(self, database: Database, owner: SessionConnection, pool: Pool, tenant: Tenant) -> None:
        self.database = with_settings(database, outgoing_private_networks=LOOPBACK, outgoing_timeout=5.0)
        self.owner = owner
        self.pool = pool
        self.tenant = tenant
        self.vault = build_vault(database.settings)
        self.registry: Registry = build_registry(self.database.settings)

    async def add(self, address: str, *topics: str, shop_id: int | None = None) -> tuple[Endpoint, str]:
        """Add a service's endpoint, or a shop's; return it with its secret."""
        endpoint, secret = await add_endpoint(
            self.owner,
            self.registry,
            self.vault,
            address=address,
            topics=list(topics or (EARNED,)),
            shop_id=shop_id,
            allowance=Allowance(parse_networks(LOOPBACK)),
        )
        return endpoint, secret or ""

    async def emit(self, *words: str, topic: str = EARNED, shop_id: int | None = None) -> None:
        """Emit an event for each word."""
        # What is bound since the last look is known at once.
        self.registry.routes._read_at = float("-inf")
        for word in words:
            event = EmittedEvent(shop_id or self.tenant.shop_id, topic, word[:50], f'{{"word":"{word}"}}'.encode())
            await emit(self.owner, self.registry, [event])

    async def deliver(self, *queues: str) -> None:
        """Let consumers work until nothing is left that may run now."""
        for queue in queues or (*QUEUES, *QUEUES):
            await drain(self.database, self.pool, self.registry, queue)

    async def let_retries_come_due(self) -> None:
        """Move time on: everything that waits for its next attempt may be tried again."""
        await self.owner.execute("UPDATE parked_messages SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")

    async def states(self) -> list[str]:
        """Where all deliveries stand, eldest first."""
        rows = await self.owner.fetch("SELECT state FROM endpoint_deliveries ORDER BY delivery_id")
        return [row["state"] for row in rows]

    async def endpoint(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint as it is now."""
        return await find_endpoint(self.owner, endpoint.endpoint_id)

    async def failing_since(self, endpoint: Endpoint, moment: datetime, failures: int) -> None:
        """Pretend that an endpoint has failed since a moment."""
        await self.owner.execute(
            "UPDATE endpoints SET failing_since = $2, failures = $3 WHERE endpoint_id = $1",
            endpoint.endpoint_id,
            moment,
            failures,
        )


@pytest.fixture
async def outgoing(database: Database, owner: SessionConnection, worker_pool: Pool, tenant: Tenant) -> Outgoing:
    return Outgoing(database, owner, worker_pool, tenant)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found
