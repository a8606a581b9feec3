"""Recomputes every order's points from what the simulator says it sold, and compares the ledger with that.

Nothing of the loyalty rules is imported: this is a second opinion, a few lines of plain arithmetic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from sellflow.postgres.database import SessionConnection
from sellflow.simulator.schemas import FinalOrder, SentWebhook


@dataclass(frozen=True)
class Difference:
    """An order whose points are not what they should be."""

    order: FinalOrder
    expected: int
    awarded: int


@dataclass(frozen=True)
class Verdict:
    """What the comparison found."""

    orders_processed: int
    duplicates_ignored: int
    points_expected: int
    points_awarded: int
    lost: int
    doubled: int
    differences: list[Difference]


def expected_points(order: FinalOrder, points_per_unit: Decimal) -> int:
    """Return what an order's customer should have by now: whole points, rounded down, for money that was kept."""
    if order.customer_id is None or not order.paid or order.cancelled:
        return 0
    earned = (order.subtotal * points_per_unit).to_integral_value(ROUND_FLOOR)
    taken_back = (min(order.refunded, order.subtotal) * points_per_unit).to_integral_value(ROUND_FLOOR)
    return int(earned - min(earned, taken_back))


async def compare(
    connection: SessionConnection,
    shop_id: int,
    *,
    orders: Sequence[FinalOrder],
    webhooks: Sequence[SentWebhook],
    points_per_unit: Decimal,
) -> Verdict:
    """Compare ledger and event log with what was sold and sent."""
    awarded = await _awarded(connection, shop_id, [order.order_id for order in orders])
    stored = await _stored(connection, [webhook.webhook_id for webhook in webhooks])
    differences = []
    for order in orders:
        expected = expected_points(order, points_per_unit)
        if awarded[order.order_id] != expected:
            differences.append(Difference(order, expected, awarded[order.order_id]))
    answered = [webhook for webhook in webhooks if any(attempt.status == 200 for attempt in webhook.attempts)]
    answers = sum(attempt.status == 200 for webhook in answered for attempt in webhook.attempts)
    return Verdict(
        orders_processed=await _processed(connection, shop_id, [order.order_id for order in orders]),
        duplicates_ignored=answers - sum(min(stored[webhook.webhook_id], 1) for webhook in answered),
        points_expected=sum(expected_points(order, points_per_unit) for order in orders),
        points_awarded=sum(awarded.values()),
        lost=sum(d.awarded < d.expected for d in differences) + sum(stored[w.webhook_id] == 0 for w in answered),
        doubled=sum(d.awarded > d.expected for d in differences) + sum(number > 1 for number in stored.values()),
        differences=differences,
    )


async def _awarded(connection: SessionConnection, shop_id: int, order_ids: list[int]) -> Counter[int]:
    """Return the net points that each order brought any customer."""
    rows = await connection.fetch(
        """
        SELECT o.order_id, sum(e.points)::bigint AS points
        FROM unnest($2::bigint[]) AS o (order_id)
        JOIN transfers t ON t.shop_id = $1 AND t.source = 'order:' || o.order_id
        JOIN entries e ON e.transfer_id = t.transfer_id
        JOIN accounts a ON a.account_id = e.account_id AND a.kind = 'customer'
        GROUP BY o.order_id
        """,
        shop_id,
        order_ids,
    )
    return Counter({row["order_id"]: row["points"] for row in rows})


async def _stored(connection: SessionConnection, webhook_ids: list[str]) -> Counter[str]:
    """Return how many events each webhook became."""
    rows = await connection.fetch(
        """
        SELECT webhook_id, count(*) AS events FROM events
        WHERE webhook_id = ANY ($1::text[]) AND day >= (now() AT TIME ZONE 'UTC')::date - 1
        GROUP BY webhook_id
        """,
        webhook_ids,
    )
    return Counter({row["webhook_id"]: row["events"] for row in rows})


async def _processed(connection: SessionConnection, shop_id: int, order_ids: list[int]) -> int:
    processed = await connection.fetchval(
        """
        SELECT count(*) FROM orders
        WHERE shop_id = $1 AND order_id = ANY ($2::bigint[]) AND revised_at IS NOT NULL
        """,
        shop_id,
        order_ids,
    )
    return int(processed)
