"""The SQL of orders, refunds and earning rules: each statement serves a whole batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from decimal import Decimal

import asyncpg

from sellflow.loyalty.models import Order, OrderState, Posted, Refund
from sellflow.postgres.database import Connection
from sellflow.postgres.rows import json_rows

#: A shop and one of its orders.
OrderKey = tuple[int, int]

_STATE_COLUMNS = (
    "name, currency, presentment_currency, subtotal, presentment_subtotal, financial_status, ordered_at, "
    "cancelled_at, revised_at, revision_rank, customer_id, customer_revised_at, program_version"
)
_QUALIFIED_COLUMNS = ", ".join(f"o.{column}" for column in _STATE_COLUMNS.split(", "))
#: States as rows of a JSON parameter.
_STATES = """
    json_to_recordset($1::json) AS o (
        shop_id bigint, order_id bigint, name text, currency text, presentment_currency text, subtotal numeric,
        presentment_subtotal numeric, financial_status text, ordered_at timestamptz, cancelled_at timestamptz,
        revised_at timestamptz, revision_rank text, customer_id bigint, customer_revised_at timestamptz,
        program_version integer
    )
"""


def order_source(order_id: int) -> str:
    """Return the ledger's name for an order."""
    return f"order:{order_id}"


def unknown_order(shop_id: int, order_id: int) -> OrderState:
    """Return the state of an order of which nothing has arrived."""
    nothing = Decimal(0)
    return OrderState(
        shop_id, order_id, "", None, None, "", "", nothing, nothing, "", None, None, None, "", None
    )  # fmt: skip


async def insert_new(connection: Connection, states: Collection[OrderState]) -> set[OrderKey]:
    """Insert the orders that are not there yet, in key order, and return their keys.

    A key that is neither inserted nor found by `lock_known` afterwards belongs to another shop of the same app.
    """
    rows = await connection.fetch(
        f"""
        INSERT INTO orders (shop_id, order_id, app_id, {_STATE_COLUMNS})
        SELECT s.shop_id, o.order_id, s.app_id, {_QUALIFIED_COLUMNS}
        FROM {_STATES} JOIN shops s ON s.shop_id = o.shop_id
        ORDER BY s.shop_id, o.order_id
        ON CONFLICT DO NOTHING
        RETURNING shop_id, order_id
        """,
        json_rows(state._asdict() for state in states),
    )
    return {(row["shop_id"], row["order_id"]) for row in rows}


async def lock_known(connection: Connection, keys: Collection[OrderKey]) -> dict[OrderKey, OrderState]:
    """Lock orders in key order and return their states: one worker at a time works on an order."""
    rows = await connection.fetch(
        f"""
        SELECT o.shop_id, o.order_id, {_STATE_COLUMNS}
        FROM orders o JOIN unnest($1::bigint[], $2::bigint[]) AS k (shop_id, order_id) USING (shop_id, order_id)
        ORDER BY o.shop_id, o.order_id
        FOR UPDATE OF o
        """,
        *_key_arguments(keys),
    )
    return {(row["shop_id"], row["order_id"]): _state(row) for row in rows}


async def update_known(connection: Connection, states: Collection[OrderState]) -> None:
    """Write the changed states of locked orders."""
    assignments = ", ".join(f"{column} = o.{column}" for column in _STATE_COLUMNS.split(", "))
    await connection.execute(
        f"""
        UPDATE orders known SET {assignments}
        FROM {_STATES}
        WHERE known.shop_id = o.shop_id AND known.order_id = o.order_id
        """,
        json_rows(state._asdict() for state in states),
    )


async def write_lines(connection: Connection, orders: Sequence[tuple[int, Order]]) -> None:
    """Write the lines of (shop, order) snapshots; a line never vanishes from an order, it only changes."""
    await connection.execute(
        """
        INSERT INTO order_lines (shop_id, order_id, line_id, product_id, variant_id, quantity, price, discount)
        SELECT shop_id, order_id, line_id, product_id, variant_id, quantity, price, discount
        FROM json_to_recordset($1::json) AS l (
            shop_id bigint, order_id bigint, line_id bigint, product_id bigint, variant_id bigint, quantity integer,
            price numeric, discount numeric
        )
        ON CONFLICT (shop_id, order_id, line_id) DO UPDATE
        SET quantity = EXCLUDED.quantity, price = EXCLUDED.price, discount = EXCLUDED.discount
        """,
        json_rows(
            {"shop_id": shop_id, "order_id": order.order_id, **line._asdict()}
            for shop_id, order in orders
            for line in order.lines
        ),
    )


async def write_refunds(connection: Connection, refunds: Sequence[tuple[int, Refund]]) -> None:
    """Write (shop, refund) pairs.

    One that is known already keeps the larger amount: a transaction may have been pending when it was first told
    of, and whichever arrives first must not decide.
    """
    if not refunds:
        return
    await connection.execute(
        """
        INSERT INTO refunds (shop_id, refund_id, order_id, amount, currency, refunded_at)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::numeric[], $5::text[], $6::timestamptz[])
        ORDER BY 1, 2
        ON CONFLICT (shop_id, refund_id) DO UPDATE SET amount = GREATEST(refunds.amount, EXCLUDED.amount)
        WHERE refunds.order_id = EXCLUDED.order_id AND refunds.amount < EXCLUDED.amount
        """,
        [shop_id for shop_id, _ in refunds],
        [refund.refund_id for _, refund in refunds],
        [refund.order_id for _, refund in refunds],
        [refund.amount for _, refund in refunds],
        [refund.currency for _, refund in refunds],
        [refund.refunded_at for _, refund in refunds],
    )
    lines = [(shop_id, refund.refund_id, line) for shop_id, refund in refunds for line in refund.lines]
    await connection.execute(
        """
        INSERT INTO refund_lines (shop_id, refund_id, line_id, quantity, subtotal)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::numeric[])
        ON CONFLICT DO NOTHING
        """,
        [shop_id for shop_id, _, _ in lines],
        [refund_id for _, refund_id, _ in lines],
        [line.line_id for *_, line in lines],
        [line.quantity for *_, line in lines],
        [line.subtotal for *_, line in lines],
    )


async def read_refunds(connection: Connection, keys: Collection[OrderKey]) -> dict[OrderKey, list[Refund]]:
    """Return the refunds of orders, without their lines."""
    rows = await connection.fetch(
        """
        SELECT r.shop_id, r.order_id, r.refund_id, r.amount, r.currency, r.refunded_at
        FROM refunds r JOIN unnest($1::bigint[], $2::bigint[]) AS k (shop_id, order_id) USING (shop_id, order_id)
        """,
        *_key_arguments(keys),
    )
    found: dict[OrderKey, list[Refund]] = defaultdict(list)
    for row in rows:
        refund = Refund(row["refund_id"], row["order_id"], row["amount"], row["currency"], row["refunded_at"], ())
        found[row["shop_id"], row["order_id"]].append(refund)
    return found


async def read_posted(connection: Connection, keys: Collection[OrderKey]) -> dict[OrderKey, Posted]:
    """Return what the ledger holds for orders so far."""
    rows = await connection.fetch(
        """
        SELECT k.shop_id, k.order_id, a.customer_id, sum(e.points)::bigint AS points, max(t.revision) AS revision
        FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS k (shop_id, order_id, source)
        JOIN transfers t ON t.shop_id = k.shop_id AND t.source = k.source
        JOIN entries e ON e.transfer_id = t.transfer_id
        JOIN accounts a ON a.account_id = e.account_id AND a.customer_id IS NOT NULL
        GROUP BY k.shop_id, k.order_id, a.customer_id
        """,
        *_key_arguments(keys),
        [order_source(order_id) for _, order_id in keys],
    )
    found: dict[OrderKey, Posted] = {}
    for row in rows:
        key = (row["shop_id"], row["order_id"])
        before = found.get(key, Posted({}, 0))
        points = before.points | {row["customer_id"]: row["points"]}
        found[key] = Posted(points, max(before.revision, row["revision"]))
    return found


def _key_arguments(keys: Collection[OrderKey]) -> tuple[list[int], list[int]]:
    return [shop_id for shop_id, _ in keys], [order_id for _, order_id in keys]


def _state(row: asyncpg.Record) -> OrderState:
    return OrderState(**dict(row))
