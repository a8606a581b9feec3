"""What is missing: what Shopify says of its resources, compared with the events that are known. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sellflow.queue.topics import RECONCILED
from sellflow.shopify.documents.customers import Customer
from sellflow.shopify.documents.orders import OrderRevision

ORDER_CREATED = "shopify.orders.create"
ORDER_PAID = "shopify.orders.paid"
ORDER_UPDATED = "shopify.orders.updated"
ORDER_CANCELLED = "shopify.orders.cancelled"
REFUND_CREATED = "shopify.refunds.create"
CUSTOMER_UPDATED = "shopify.customers.update"

#: Those whose payload is a whole order, and so tells its revision.
SNAPSHOTS = (
    ORDER_CREATED,
    ORDER_PAID,
    ORDER_UPDATED,
    ORDER_CANCELLED,
    "shopify.orders.fulfilled",
    "shopify.orders.partially_fulfilled",
)
#: An order with one of these was paid for in full at some time.
PAID = frozenset({"PAID", "PARTIALLY_REFUNDED", "REFUNDED"})
#: Shopify's search may lag behind what it searches.
OVERLAP = timedelta(minutes=5)
#: How far back orders can be read without the scope `read_all_orders`
#: (https://shopify.dev/docs/api/usage/access-scopes#orders-permissions).
HISTORY_WITHOUT_SCOPE = timedelta(days=60)


@dataclass(frozen=True, slots=True)
class KnownOrder:
    """What the event log holds about an order."""

    topics: frozenset[str] = frozenset()
    #: The newest updated_at that a payload carried.
    revision: datetime | None = None
    refunds: frozenset[int] = frozenset()


NOTHING = KnownOrder()


@dataclass(frozen=True, slots=True)
class MissingOrder:
    """An order of which something never came: topics that carry the order itself, and refunds."""

    order_id: int
    topics: tuple[str, ...]
    refunds: tuple[int, ...] = field(default=())


def missing_of_order(
    order: OrderRevision, known: KnownOrder, *, wanted: Collection[str], since: datetime
) -> MissingOrder | None:
    """Return what no webhook told of an order; None where nothing is missing.

    Only topics that somebody listens to are `wanted`, and only what happened `since` the shop installed the app: an
    old order that is touched today was not created today.
    """
    happened = {
        ORDER_CREATED: order.created_at >= since,
        ORDER_PAID: order.created_at >= since and order.display_financial_status in PAID,
        ORDER_CANCELLED: order.cancelled_at is not None and order.cancelled_at >= since,
    }
    topics = [topic for topic, has in happened.items() if has and topic in wanted and topic not in known.topics]
    is_revision_known = known.revision is not None and known.revision >= order.updated_at
    # Each of the others carries the whole order as it is now, and with it the revision.
    if not topics and not is_revision_known and ORDER_UPDATED in wanted:
        topics = [ORDER_UPDATED]
    refunds = [
        refund.number
        for refund in order.refunds
        if REFUND_CREATED in wanted
        and refund.number not in known.refunds
        and (refund.created_at is None or refund.created_at >= since)
    ]
    return MissingOrder(order.legacy_resource_id, tuple(topics), tuple(refunds)) if topics or refunds else None


def missing_customers(customers: Collection[Customer], known: Mapping[int, datetime]) -> list[Customer]:
    """Return the customers of which no event carried the present revision."""
    return [
        customer
        for customer in customers
        if (revision := known.get(customer.legacy_resource_id)) is None or revision < customer.updated_at
    ]


def search(since: datetime, until: datetime) -> str:
    """Return the search for what was updated in a span, both ends included (https://shopify.dev/docs/api/usage/search-syntax)."""
    return f"updated_at:>='{_searched(since - OVERLAP)}' AND updated_at:<='{_searched(until)}'"


def order_identity(order_id: int, topic: str, revision: datetime) -> str:
    """Return what stands for the Webhook-Id of an order at a revision."""
    return f"{RECONCILED}{topic}/{order_id}@{revision.astimezone(UTC).isoformat()}"


def refund_identity(refund_id: int) -> str:
    """Return what stands for the Webhook-Id of a refund, which never changes."""
    return f"{RECONCILED}refund/{refund_id}"


def customer_identity(customer_id: int, revision: datetime) -> str:
    """Return what stands for the Webhook-Id of a customer at a revision."""
    return f"{RECONCILED}customer/{customer_id}@{revision.astimezone(UTC).isoformat()}"


def history_warning(since: datetime, now: datetime, *, has_all_orders: bool) -> str:
    """Say that Shopify hides what is older, where that matters."""
    if has_all_orders or now - since < HISTORY_WITHOUT_SCOPE:
        return ""
    return "orders older than 60 days are hidden without the scope read_all_orders"


def _searched(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
