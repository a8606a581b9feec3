"""The SQL of what a customer sees: balance and history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sellflow.loyalty.models import MovementKind
from sellflow.postgres.database import Connection


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
