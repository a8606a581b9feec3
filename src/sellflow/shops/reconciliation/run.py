"""Reconciles one shop: reads what changed at Shopify, compares it with the event log, and feeds what is missing."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from prometheus_client import Counter

from sellflow.postgres.transactions import Transactions
from sellflow.queue.event_log import feed
from sellflow.queue.routing import Routes
from sellflow.queue.topics import FedEvent
from sellflow.shopify.documents.orders import OrderRevision
from sellflow.shops.reconciliation import rules, store
from sellflow.shops.reconciliation.reading import Reader
from sellflow.shops.reconciliation.rest_shapes import customer_resource

examined_total = Counter("sellflow_reconciliation_examined_total", "Resources compared with the event log.", ["kind"])
repaired_total = Counter("sellflow_reconciliation_repaired_total", "Events that no webhook had brought.")

#: What may be missing, as far as anybody listens to it.
ORDER_TOPICS = (
    rules.ORDER_CREATED,
    rules.ORDER_PAID,
    rules.ORDER_UPDATED,
    rules.ORDER_CANCELLED,
    rules.REFUND_CREATED,
)


@dataclass
class Tally:
    """What a run did so far."""

    orders: int = 0
    customers: int = 0
    repaired: int = 0
    is_complete: bool = True

    #: What Shopify hides, and why.
    warning: str = ""

    def sentence(self) -> str:
        """Say it to people."""
        done = f"{self.orders} orders and {self.customers} customers looked at, {self.repaired} events repaired"
        return "; ".join(filter(None, (done, "" if self.is_complete else "goes on at once", self.warning)))

    def and_then(self, later: Tally) -> Tally:
        """Return what this run and a later one did together."""
        return Tally(
            self.orders + later.orders,
            self.customers + later.customers,
            self.repaired + later.repaired,
            later.is_complete,
            self.warning or later.warning,
        )


class Reconciliation:
    """One run for one shop. It may be cut off anywhere: what is fed and how far it came commit together."""

    def __init__(self, transactions: Transactions, reader: Reader, *, settle: float, budget: float) -> None:
        self._routes = Routes((*ORDER_TOPICS, rules.CUSTOMER_UPDATED))
        self._transactions = transactions
        self._reader = reader
        self._settle = timedelta(seconds=settle)
        self._stop_at = time.monotonic() + budget
        self.tally = Tally()

    async def run(self, shop_id: int) -> Tally | None:
        """Reconcile a shop for as long as the budget lasts; None where it is not installed.

        What changed in the last `settle` seconds is left for the next run: its webhook may still be on its way.
        """
        async with self._transactions(shop_id) as connection:
            progress = await store.read_progress(connection, shop_id)
            if progress is None:
                return None
            await store.note_started(connection, shop_id)
        now = datetime.now(UTC)
        self.tally.warning = rules.history_warning(progress.orders_until, now, has_all_orders=progress.has_all_orders)
        until = now - self._settle
        await self._customers(progress, until)
        await self._orders(progress, until)
        return self.tally

    async def _orders(self, progress: store.Progress, until: datetime) -> None:
        shop_id = progress.shop_id
        if progress.orders_until >= until:
            return
        wanted = await self._wanted(shop_id, ORDER_TOPICS)
        async for orders in self._reader.order_revisions(shop_id, rules.search(progress.orders_until, until)):
            async with self._transactions(shop_id) as connection:
                known = await store.known_orders(connection, shop_id, orders)
            missing = self._missing(orders, known, wanted, progress.installed_at.replace(microsecond=0))
            events = [event for each in missing for event in await self._events_of(shop_id, *each)]
            self.tally.orders += len(orders)
            await self._feed(shop_id, events, examined=len(orders), orders_until=_newest(orders))
            examined_total.labels("order").inc(len(orders))
            if self._is_out_of_time(orders, progress.orders_until):
                return
        await self._feed(shop_id, [], examined=0, orders_until=until)

    def _missing(
        self,
        orders: Sequence[OrderRevision],
        known: dict[int, rules.KnownOrder],
        wanted: set[str],
        since: datetime,
    ) -> list[tuple[OrderRevision, rules.MissingOrder]]:
        found = (
            (
                order,
                rules.missing_of_order(
                    order, known.get(order.legacy_resource_id, rules.NOTHING), wanted=wanted, since=since
                ),
            )
            for order in orders
        )
        return [(order, missing) for order, missing in found if missing]

    async def _events_of(self, shop_id: int, order: OrderRevision, missing: rules.MissingOrder) -> list[FedEvent]:
        """Read what is missing of an order and make events of it; none where it was deleted meanwhile."""
        key, events = f"order:{missing.order_id}", []
        if missing.topics:
            resource = await self._reader.order(shop_id, missing.order_id)
            # The order may have changed since it was listed: what it says of itself is what counts.
            revision = datetime.fromisoformat(resource["updated_at"]) if resource else order.updated_at
            events = [
                _event(topic, key, rules.order_identity(missing.order_id, topic, revision), resource)
                for topic in (missing.topics if resource else ())
            ]
        for refund_id in missing.refunds:
            refund = await self._reader.refund(shop_id, refund_id)
            if refund:
                events.append(_event(rules.REFUND_CREATED, key, rules.refund_identity(refund_id), refund))
        return events

    async def _customers(self, progress: store.Progress, until: datetime) -> None:
        shop_id = progress.shop_id
        wanted = await self._wanted(shop_id, [rules.CUSTOMER_UPDATED])
        if progress.customers_until >= until or not wanted:
            return
        async for customers in self._reader.customers(shop_id, rules.search(progress.customers_until, until)):
            ids = [customer.legacy_resource_id for customer in customers]
            async with self._transactions(shop_id) as connection:
                known = await store.known_customers(connection, shop_id, ids)
            events = [
                _event(
                    rules.CUSTOMER_UPDATED,
                    f"customer:{customer.legacy_resource_id}",
                    rules.customer_identity(customer.legacy_resource_id, customer.updated_at),
                    customer_resource(customer),
                )
                for customer in rules.missing_customers(customers, known)
            ]
            self.tally.customers += len(customers)
            await self._feed(shop_id, events, examined=len(customers), customers_until=_newest(customers))
            examined_total.labels("customer").inc(len(customers))
            if self._is_out_of_time(customers, progress.customers_until):
                return
        await self._feed(shop_id, [], examined=0, customers_until=until)

    async def _feed(
        self,
        shop_id: int,
        events: Sequence[FedEvent],
        *,
        examined: int,
        orders_until: datetime | None = None,
        customers_until: datetime | None = None,
    ) -> None:
        """Feed what is missing and note how far the shop has come, in one transaction."""
        async with self._transactions(shop_id) as connection:
            fed = await feed(connection, self._routes, shop_id, events)
            await store.advance(
                connection,
                shop_id,
                orders_until=orders_until,
                customers_until=customers_until,
                examined=examined,
                repaired=fed,
            )
        self.tally.repaired += fed
        repaired_total.inc(fed)

    async def _wanted(self, shop_id: int, topics: Collection[str]) -> set[str]:
        """Return those of `topics` that some queue listens to: nobody misses the others."""
        async with self._transactions(shop_id) as connection:
            routes = await self._routes.topics_by_queue(connection, topics)
        return {topic for bound in routes.values() for topic in bound}

    def _is_out_of_time(self, page: Sequence[Any], since: datetime) -> bool:
        """Say whether to stop here; never before the shop has come further than it was."""
        if time.monotonic() < self._stop_at or _newest(page) <= since:
            return False
        self.tally.is_complete = False
        return True


def _event(topic: str, key: str, identity: str, resource: object) -> FedEvent:
    return FedEvent(topic, key, identity, orjson.dumps(resource))


def _newest(page: Sequence[Any]) -> datetime:
    newest: datetime = max(each.updated_at for each in page)
    return newest
