"""An installation that gets compliance webhooks, with a service whose handler says too much when it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest

from sellflow.errors import PermanentError
from sellflow.postgres.database import Connection, Database, Login, Pool, SessionConnection
from sellflow.queue import Event, Outbox, Subscription
from sellflow.queue.outgoing.addresses import Allowance, parse_networks
from sellflow.queue.outgoing.endpoints import add_endpoint
from sellflow.queue.registry import Registry
from sellflow.queue.setup import prepare_queues
from sellflow.roles import build_inventory, build_registry
from sellflow.secrets import build_vault
from sellflow.shops.compliance import store
from sellflow.shops.compliance.fulfilment import Fulfilment, fulfil_compliance, fulfil_due
from sellflow.shops.compliance.models import Request
from sellflow.webhooks.keys import event_key
from sellflow.webhooks.store import Delivery, DeliveryStore
from tests.conftest import Tenant
from tests.edge.serving import with_settings
from tests.queue.consuming import drain

LOOPBACK = "127.0.0.0/8"

Body = Mapping[str, Any] | bytes


class Compliance:
    """Delivers webhooks, lets consumers work, and takes the steps of requests."""

    def __init__(
        self, database: Database, owner: SessionConnection, worker: Pool, ingest: Pool, tenant: Tenant
    ) -> None:
        self.database = with_settings(
            database, compliance_settle=0.0, outgoing_private_networks=LOOPBACK, retry_attempts=2
        )
        self.owner = owner
        self.worker = worker
        self.tenant = tenant
        self.registry = Registry([*build_registry(self.database.settings).subscriptions.values(), self._gossip()])
        self.store = DeliveryStore(ingest, self.registry)
        self.inventory = build_inventory(self.database.settings)
        self.vault = build_vault(self.database.settings)
        self.means = Fulfilment(self.inventory, self.vault, 0.0, 30)
        self.job = fulfil_compliance(self.database.settings, self.inventory, self.vault)
        self.numbers = iter(range(1, 10_000))

    @staticmethod
    def _gossip() -> Subscription:
        """A service whose errors repeat what it was given: for good, or to be tried again, as the order is tagged."""
        gossip = Subscription("gossip")

        async def repeat(
            _connection: Connection, batch: Sequence[tuple[Event, dict[str, Any]]], _outbox: Outbox
        ) -> None:
            for _, order in batch:
                if order.get("tags") == "dead":
                    raise PermanentError(f"no greeting for {order['email']}, customer {order['customer']['id']}")
                if order.get("tags") == "parked":
                    raise ValueError(f"no greeting yet for {order['email']}, {order['phone']}")

        gossip.handler("shopify.orders.*", name="repeat", parse=lambda event: orjson.loads(event.payload))(repeat)
        return gossip

    async def prepare(self) -> None:
        await prepare_queues(self.owner, self.registry, days_ahead=1)

    async def deliver(self, topic: str, body: Body, *, tenant: Tenant | None = None, shop: str | None = None) -> int:
        """Store a webhook as ingest does, and return the number of its event."""
        tenant = tenant or self.tenant
        payload = body if isinstance(body, bytes) else orjson.dumps(body)
        delivery = Delivery(
            tenant.app.app_id,
            shop or tenant.shop.domain,
            f"webhook-{next(self.numbers)}",
            "shopify." + topic.replace("/", "."),
            event_key(topic, payload),
            None,
            payload,
        )
        assert await self.store.store([delivery]) == {}
        return int(
            await self.owner.fetchval("SELECT max(event_id) FROM events WHERE webhook_id = $1", delivery.webhook_id)
        )

    async def consume(self, *queues: str) -> None:
        """Let consumers work until nothing is left that may run now."""
        for queue in queues or ("loyalty", "gossip", "compliance", "shops", "outgoing", "outgoing_deliveries"):
            await drain(self.database, self.worker, self.registry, queue)

    async def listen(self, address: str, *topics: str, shop_id: int | None = None) -> None:
        """Add an endpoint, and have it told."""
        await add_endpoint(
            self.owner,
            self.registry,
            self.vault,
            address=address,
            topics=list(topics),
            shop_id=shop_id,
            allowance=Allowance(parse_networks(LOOPBACK)),
        )
        self.registry.routes._read_at = float("-inf")

    async def step(self) -> int:
        """Take one step of each request."""
        await self.owner.execute("UPDATE compliance_requests SET next_at = clock_timestamp()")
        return await fulfil_due(self.owner, self.means)

    async def fulfil(self) -> None:
        """Take steps until there are no more."""
        while await self.step():
            pass

    async def let_time_pass(self) -> None:
        """Move time on, so that the search for late webhooks looks at what is there."""
        await self.owner.execute("UPDATE events SET received_at = received_at - interval '5 minutes'")

    async def run(self) -> str:
        """Run the whole periodic job."""
        await self.owner.execute("UPDATE compliance_requests SET next_at = clock_timestamp()")
        return await self.job.run(self.owner)

    async def confirm(self, request_id: int) -> bool:
        """Have a held request done all the same."""
        return await store.confirm(self.owner, request_id)

    async def requests(self) -> list[Request]:
        """The requests, eldest first."""
        return (await store.list_requests(self.owner))[::-1]

    def about(self, customer_id: int, *, tenant: Tenant | None = None, **fields: object) -> dict[str, object]:
        """The body of a webhook about a customer."""
        tenant = tenant or self.tenant
        return {"shop_id": 1, "shop_domain": tenant.shop.domain, "customer": {"id": customer_id}, **fields}


async def cut_off(compliance: Compliance, *, after: int) -> None:
    """Take a step that loses its connection, and with it what it had open, behind its statement number `after`."""
    left = after
    connection = await compliance.database.connect(Login.OWNER, purpose="test")
    await connection.execute("UPDATE compliance_requests SET next_at = clock_timestamp()")

    def count(_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            connection.terminate()

    connection.add_query_logger(count)
    try:
        await fulfil_due(connection, compliance.means)
    except Exception:  # whatever the driver says of a connection that is gone
        if not connection.is_closed():
            raise
    finally:
        await connection.close()


@pytest.fixture
async def compliance(
    database: Database, owner: SessionConnection, worker_pool: Pool, ingest_pool: Pool, tenant: Tenant
) -> Compliance:
    found = Compliance(database, owner, worker_pool, ingest_pool, tenant)
    await found.prepare()
    return found
