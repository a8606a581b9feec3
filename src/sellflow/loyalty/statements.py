"""The SQL of what people are shown of the ledger: a customer's balance and history, an order's postings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sellflow.loyalty.models import MovementKind
from sellflow.postgres.database import Connection, SessionConnection

LONGEST_ID = 19  # digits of a bigint


@dataclass(frozen=True, slots=True)
class Balance:
    """A customer's points."""

    available: int
    pending: int


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One movement of a customer's points."""

    transfer_id: int
    kind: MovementKind
    points: int
    balance_after: int
    order_id: int
    order_name: str | None
    created_at: datetime


async def read_balance(connection: Connection, shop_id: int, customer_id: int) -> Balance:
    """Return a customer's balance; one who never earned anything has none, which is zero."""
    rows = await connection.fetch(
        """
        SELECT kind, balance FROM accounts
        WHERE shop_id = $1 AND kind IN ('customer', 'customer_pending') AND customer_id = $2
        """,
        shop_id,
        customer_id,
    )
    balances = {row["kind"]: row["balance"] for row in rows}
    return Balance(available=balances.get("customer", 0), pending=balances.get("customer_pending", 0))


async def read_history(
    connection: Connection, shop_id: int, customer_id: int, *, before: int | None, limit: int
) -> list[HistoryEntry]:
    """Return up to `limit` movements older than the transfer `before`, newest first."""
    rows = await connection.fetch(
        """
        SELECT t.transfer_id, t.kind, e.points, e.balance_after, split_part(t.source, ':', 2)::bigint AS order_id,
               o.name AS order_name, t.created_at
        FROM accounts a
        JOIN entries e ON e.account_id = a.account_id
        JOIN transfers t ON t.transfer_id = e.transfer_id
        LEFT JOIN orders o ON o.shop_id = t.shop_id AND o.order_id = split_part(t.source, ':', 2)::bigint
        WHERE a.shop_id = $1 AND a.kind = 'customer' AND a.customer_id = $2
          AND ($3::bigint IS NULL OR e.transfer_id < $3)
        ORDER BY e.transfer_id DESC
        LIMIT $4
        """,
        shop_id,
        customer_id,
        before,
        limit,
    )
    return [HistoryEntry(**{**row, "kind": MovementKind(row["kind"])}) for row in rows]


@dataclass(frozen=True, slots=True)
class ToldOrder:
    """An order as `sellflow explain` shows it."""

    shop_id: int
    order_id: int
    name: str
    customer_id: int | None
    currency: str
    subtotal: Decimal
    refunded: Decimal
    financial_status: str
    cancelled_at: datetime | None
    revised_at: datetime | None
    program_version: int | None


@dataclass(frozen=True, slots=True)
class ToldTransfer:
    """A movement of points for an order."""

    transfer_id: int
    kind: MovementKind
    customer_id: int
    points: int
    balance_after: int
    revision: int
    snapshot: str
    event_id: int | None
    created_at: datetime


async def find_orders(connection: SessionConnection, shop_id: int | None, identity: str) -> list[ToldOrder]:
    """Return the orders of an id or a name (#1001), in one shop or, for the owner, in all."""
    rows = await connection.fetch(
        """
        SELECT o.shop_id, o.order_id, o.name, o.customer_id, o.currency, o.subtotal, o.financial_status,
               o.cancelled_at, o.revised_at, o.program_version,
               COALESCE((SELECT sum(r.amount) FROM refunds r
                         WHERE r.shop_id = o.shop_id AND r.order_id = o.order_id), 0) AS refunded
        FROM orders o
        WHERE ($1::bigint IS NULL OR o.shop_id = $1) AND (o.order_id = $2 OR o.name = $3)
        ORDER BY o.recorded_at DESC
        """,
        shop_id,
        int(identity) if identity.isascii() and identity.isdigit() and len(identity) < LONGEST_ID else None,
        identity,
    )
    return [ToldOrder(**row) for row in rows]


async def transfers_for(connection: SessionConnection, shop_id: int, source: str) -> list[ToldTransfer]:
    """Return the movements of points for a source, such as an order, in the order they were posted."""
    rows = await connection.fetch(
        """
        SELECT t.transfer_id, t.kind, a.customer_id, e.points, e.balance_after, t.revision, t.snapshot, t.event_id,
               t.created_at
        FROM transfers t
        JOIN entries e ON e.transfer_id = t.transfer_id
        JOIN accounts a ON a.account_id = e.account_id AND a.customer_id IS NOT NULL
        WHERE t.shop_id = $1 AND t.source = $2
        ORDER BY t.transfer_id
        """,
        shop_id,
        source,
    )
    return [ToldTransfer(**{**row, "kind": MovementKind(row["kind"])}) for row in rows]
