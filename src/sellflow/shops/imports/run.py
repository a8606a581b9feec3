"""Does one step of an import: has Shopify write a file, looks whether it is there, or stores a part of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

import orjson
from prometheus_client import Counter

from sellflow.postgres.database import Connection
from sellflow.queue.event_log import feed
from sellflow.queue.routing import Routes
from sellflow.queue.topics import FedEvent
from sellflow.secrets import Vault
from sellflow.shopify.admin.bulk import BulkOperations
from sellflow.shopify.admin.bulk_results import BulkObject, read_objects
from sellflow.shopify.admin.client import AdminClient
from sellflow.shopify.admin.stored_calls import StoredCalls
from sellflow.shopify.documents.bulk_operations import BULK_CUSTOMERS, BULK_ORDERS, BulkOperation, BulkOrder
from sellflow.shopify.documents.customers import Customer
from sellflow.shopify.documents.orders import LineItem
from sellflow.shops.customers.payloads import customer_of
from sellflow.shops.customers.store import write_customers
from sellflow.shops.imports import store
from sellflow.shops.imports.store import Import
from sellflow.shops.reconciliation import rules
from sellflow.shops.reconciliation.reading import Reader
from sellflow.shops.reconciliation.rest_shapes import Json, customer_resource, order_resource

imported_total = Counter("sellflow_imported_total", "Resources that imports stored.", ["kind"])

#: Resources stored in one transaction.
TOGETHER = 200
#: With so many messages waiting in a queue, orders of the past make way for those of today.
MOST_WAITING = 400
#: Seconds between two looks at a file that Shopify is still writing.
LOOK_AGAIN = 3.0
#: Seconds until a queue that was full is looked at again.
MAKE_WAY = 2.0

Store = Callable[[Import, list[BulkObject]], Awaitable[bool]]


class ImportStep:
    """One step. It may be cut off anywhere: what is stored and how far it came commit together."""

    def __init__(self, client: AdminClient, vault: Vault, *, budget: float) -> None:
        self._client = client
        self._transactions = client.transactions
        self._bulk = BulkOperations(client, StoredCalls(client, vault))
        self._reader = Reader(client)
        self._routes = Routes([rules.ORDER_UPDATED])
        self._stop_at = time.monotonic() + budget

    async def take(self, shop_id: int, import_id: int) -> float | None:
        """Do the next step of an import; return the seconds until the one after it, None where there is none."""
        async with self._transactions(shop_id) as connection:
            found = await store.find_import(connection, shop_id, import_id)
        if found is None:
            return None
        operation = await self._operation(found)
        state = "reading" if operation.status == "COMPLETED" else "exporting"
        async with self._transactions(shop_id) as connection:
            await store.note_export(
                connection, found, operation_id=operation.id, state=state, expected=operation.root_object_count or None
            )
        if state == "exporting":
            return LOOK_AGAIN
        # Without objects there is no file.
        wait = await self._read(found, operation.url) if operation.url else None
        if wait is None:
            async with self._transactions(shop_id) as connection:
                await store.end(connection, shop_id, import_id, state="done")
        return wait

    async def _operation(self, found: Import) -> BulkOperation:
        if found.operation_id:
            return await self._bulk.look(found.shop_id, found.operation_id)
        document = BULK_CUSTOMERS if found.kind == "customers" else BULK_ORDERS
        search = f"created_at:>='{found.since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}'" if found.since else None
        query = document.written_out({"query": search})
        return await self._bulk.start(found.shop_id, query, purpose=f"import:{found.import_id}")

    async def _read(self, found: Import, url: str) -> float | None:
        """Store what is left of a file, as far as time goes; return as `take` does."""
        keep: Store = self._keep_customers if found.kind == "customers" else self._keep_orders
        waiting: list[BulkObject] = []
        lines_before = found.lines_read
        async with aclosing(read_objects(self._client.transport, url, skip=lines_before)) as objects:
            async for each in objects:
                waiting.append(each)
                if len(waiting) < TOGETHER:
                    continue
                if found.kind == "orders" and await self._is_crowded(found.shop_id):
                    return MAKE_WAY
                if not await keep(found, waiting) or time.monotonic() > self._stop_at:
                    return 0.0
                found = self._after(found, waiting)
                waiting = []
        if waiting:
            await keep(found, waiting)
        return None

    def _after(self, found: Import, stored: list[BulkObject]) -> Import:
        """Return the import as it is once some objects are stored."""
        return replace(found, lines_read=stored[-1].next_line)

    async def _keep_customers(self, found: Import, objects: list[BulkObject]) -> bool:
        now = datetime.now(UTC)
        resources = [customer_resource(Customer.model_validate(each.fields)) for each in objects]
        customers = [customer_of(orjson.dumps(each), now=now) for each in resources]
        async with self._transactions(found.shop_id) as connection:
            if not await self._note(connection, found, objects):
                return False
            await write_customers(connection, [(found.shop_id, each) for each in customers])
        imported_total.labels("customers").inc(len(customers))
        return True

    async def _keep_orders(self, found: Import, objects: list[BulkObject]) -> bool:
        events = [self._event(resource) for each in objects if (resource := await self._order(found.shop_id, each))]
        async with self._transactions(found.shop_id) as connection:
            if not await self._note(connection, found, objects):
                return False
            await feed(connection, self._routes, found.shop_id, events)
        imported_total.labels("orders").inc(len(events))
        return True

    async def _order(self, shop_id: int, found: BulkObject) -> Json | None:
        """Return an order as a REST resource; one with refunds is read anew, whose parts no file can hold."""
        head = BulkOrder.model_validate(found.fields)
        if head.refunds:
            return await self._reader.order(shop_id, head.number)
        lines = [LineItem.model_validate(each.fields) for each in found.children if each.kind == "LineItem"]
        return order_resource(head, lines, [])

    def _event(self, resource: Json) -> FedEvent:
        order_id, revision = resource["id"], datetime.fromisoformat(resource["updated_at"])
        identity = rules.order_identity(order_id, rules.ORDER_UPDATED, revision)
        return FedEvent(rules.ORDER_UPDATED, f"order:{order_id}", identity, orjson.dumps(resource))

    async def _note(self, connection: Connection, found: Import, objects: list[BulkObject]) -> bool:
        return await store.note_stored(
            connection,
            found,
            lines_before=found.lines_read,
            lines_read=objects[-1].next_line,
            stored=len(objects),
        )

    async def _is_crowded(self, shop_id: int) -> bool:
        """Say whether those who take orders have enough to do."""
        async with self._transactions(shop_id) as connection:
            queues = await self._routes.topics_by_queue(connection, [rules.ORDER_UPDATED])
            return await store.backlog(connection, list(queues), enough=MOST_WAITING) >= MOST_WAITING
