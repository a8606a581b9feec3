"""The SQL of reconciliation: whose turn it is, what the event log knows, and how far a shop has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sellflow.postgres.database import Connection, SessionConnection
from sellflow.shopify.documents.orders import OrderRevision
from sellflow.shops.reconciliation.rules import REFUND_CREATED, SNAPSHOTS, KnownOrder


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a shop has been reconciled."""

    shop_id: int
    installed_at: datetime
    orders_until: datetime
    customers_until: datetime
    #: Whether Shopify shows the app orders of more than 60 days ago.
    has_all_orders: bool


@dataclass(frozen=True, slots=True)
class Reconciled:
    """A row for people: how reconciliation of a shop goes."""

    shop_id: int
    domain: str
    orders_until: datetime
    customers_until: datetime
    next_run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    detail: str
    error: str
    runs: int
    examined: int
    repaired: int


async def begin_due(connection: SessionConnection, *, every: float, at_most: int) -> list[int]:
    """Return the shops whose turn it is, each once per period; installed shops join by themselves.

    A shop without a token that Shopify takes cannot be asked anything, and has its turn once there is one.

    Runs as the owner. The turn comes again after a period even where nobody tells how it ended.
    """
    await connection.execute(
        """
        INSERT INTO reconciliations (shop_id, orders_until, customers_until)
        SELECT s.shop_id, s.installed_at, s.installed_at FROM shops s
        WHERE s.uninstalled_at IS NULL AND NOT EXISTS (SELECT FROM reconciliations r WHERE r.shop_id = s.shop_id)
        ON CONFLICT DO NOTHING
        """
    )
    rows = await connection.fetch(
        """
        WITH due AS (
            SELECT r.shop_id FROM reconciliations r JOIN shops s USING (shop_id)
            WHERE r.next_run_at <= clock_timestamp() AND s.uninstalled_at IS NULL
              AND EXISTS (SELECT FROM access_tokens t WHERE t.shop_id = r.shop_id AND t.broken_at IS NULL)
            ORDER BY r.next_run_at
            LIMIT $2
            FOR UPDATE OF r SKIP LOCKED
        )
        UPDATE reconciliations r SET next_run_at = clock_timestamp() + make_interval(secs => $1)
        FROM due WHERE r.shop_id = due.shop_id
        RETURNING r.shop_id
        """,
        every,
        at_most,
    )
    return sorted(row["shop_id"] for row in rows)


async def make_due(connection: SessionConnection, shop_id: int, *, since: datetime | None) -> None:
    """Have a shop reconciled at once; with `since`, everything that changed from that moment on is looked at again."""
    await connection.execute(
        """
        INSERT INTO reconciliations AS r (shop_id, orders_until, customers_until)
        SELECT s.shop_id, COALESCE($2, s.installed_at), COALESCE($2, s.installed_at) FROM shops s WHERE s.shop_id = $1
        ON CONFLICT (shop_id) DO UPDATE
        SET next_run_at = clock_timestamp(),
            orders_until = LEAST(r.orders_until, COALESCE($2, r.orders_until)),
            customers_until = LEAST(r.customers_until, COALESCE($2, r.customers_until))
        """,
        shop_id,
        since,
    )


async def read_progress(connection: Connection, shop_id: int) -> Progress | None:
    """Return how far an installed shop has come; None where it is not, or not any more."""
    row = await connection.fetchrow(
        """
        SELECT r.shop_id, s.installed_at, r.orders_until, r.customers_until,
               EXISTS (
                   SELECT FROM access_tokens t WHERE t.shop_id = r.shop_id AND 'read_all_orders' = ANY (t.scopes)
               ) AS has_all_orders
        FROM reconciliations r JOIN shops s USING (shop_id)
        WHERE r.shop_id = $1 AND s.uninstalled_at IS NULL
        """,
        shop_id,
    )
    return Progress(**row) if row else None


async def advance(
    connection: Connection,
    shop_id: int,
    *,
    orders_until: datetime | None = None,
    customers_until: datetime | None = None,
    examined: int,
    repaired: int,
) -> None:
    """Note how far a shop has come, with the transaction that feeds what was missing up to there."""
    await connection.execute(
        """
        UPDATE reconciliations
        SET orders_until = GREATEST(orders_until, COALESCE($2, orders_until)),
            customers_until = GREATEST(customers_until, COALESCE($3, customers_until)),
            examined = examined + $4, repaired = repaired + $5
        WHERE shop_id = $1
        """,
        shop_id,
        orders_until,
        customers_until,
        examined,
        repaired,
    )


async def note_started(connection: Connection, shop_id: int) -> None:
    """Note that a run begins."""
    await connection.execute(
        "UPDATE reconciliations SET started_at = clock_timestamp(), runs = runs + 1 WHERE shop_id = $1", shop_id
    )


async def note_finished(connection: Connection, shop_id: int, *, detail: str, more: bool) -> None:
    """Note what a run did; where `more` is to be done, its next is due at once."""
    await connection.execute(
        """
        UPDATE reconciliations
        SET finished_at = clock_timestamp(), detail = $2, error = '', failures_in_row = 0,
            next_run_at = CASE WHEN $3 THEN clock_timestamp() ELSE next_run_at END
        WHERE shop_id = $1
        """,
        shop_id,
        detail,
        more,
    )


async def note_failed(connection: Connection, shop_id: int, *, error: str) -> None:
    """Note why a run failed; the next is due when its turn comes, sooner at first and then ever later."""
    await connection.execute(
        """
        UPDATE reconciliations
        SET finished_at = clock_timestamp(), error = $2, failures_in_row = failures_in_row + 1,
            next_run_at = LEAST(
                next_run_at, clock_timestamp() + make_interval(secs => 30 * 2 ^ LEAST(failures_in_row, 10))
            )
        WHERE shop_id = $1
        """,
        shop_id,
        error[:1000],
    )


async def known_orders(connection: Connection, shop_id: int, orders: Sequence[OrderRevision]) -> dict[int, KnownOrder]:
    """Return what the event log holds about orders. No event of an order is elder than the order."""
    rows = await connection.fetch(
        """
        SELECT o.order_id, array_agg(DISTINCT e.topic) AS topics,
               max(payload_revision(e.payload)) FILTER (WHERE e.topic = ANY ($4::text[])) AS revision,
               array_agg(payload_id(e.payload)) FILTER (WHERE e.topic = $5) AS refunds
        FROM unnest($2::bigint[], $3::timestamptz[]) AS o (order_id, created_at)
        JOIN events e ON e.shop_id = $1 AND e.key = 'order:' || o.order_id AND e.key <> ''
             AND e.day >= (o.created_at AT TIME ZONE 'UTC')::date
        GROUP BY o.order_id
        """,
        shop_id,
        [order.legacy_resource_id for order in orders],
        [order.created_at for order in orders],
        list(SNAPSHOTS),
        REFUND_CREATED,
    )
    return {
        row["order_id"]: KnownOrder(frozenset(row["topics"]), row["revision"], frozenset(row["refunds"] or ()))
        for row in rows
    }


async def known_customers(connection: Connection, shop_id: int, customer_ids: Sequence[int]) -> dict[int, datetime]:
    """Return the newest revision of customers that is stored."""
    rows = await connection.fetch(
        "SELECT customer_id, revised_at FROM customers WHERE shop_id = $1 AND customer_id = ANY ($2::bigint[])",
        shop_id,
        list(customer_ids),
    )
    return {row["customer_id"]: row["revised_at"] for row in rows}


async def list_reconciled(connection: SessionConnection, *, shop_id: int | None = None) -> list[Reconciled]:
    """Return every installed shop that takes part, or one; the owner's view."""
    rows = await connection.fetch(
        """
        SELECT r.shop_id, s.domain, r.orders_until, r.customers_until, r.next_run_at, r.started_at, r.finished_at,
               r.detail, r.error, r.runs, r.examined, r.repaired
        FROM reconciliations r JOIN shops s USING (shop_id)
        WHERE s.uninstalled_at IS NULL AND ($1::bigint IS NULL OR r.shop_id = $1)
        ORDER BY s.domain
        """,
        shop_id,
    )
    return [Reconciled(**row) for row in rows]
