"""The SQL of customers: a snapshot replaces what is elder, whatever the order they arrive in."""

from __future__ import annotations

from collections.abc import Sequence

from sellflow.postgres.database import Connection
from sellflow.postgres.rows import json_rows
from sellflow.shops.models import Customer


async def write_customers(connection: Connection, customers: Sequence[tuple[int, Customer]]) -> int:
    """Write (shop, customer) snapshots; return how many were news."""
    newest: dict[tuple[int, int], Customer] = {}
    for shop_id, customer in customers:
        known = newest.get((shop_id, customer.customer_id))
        if known is None or known.revised_at <= customer.revised_at:
            newest[shop_id, customer.customer_id] = customer
    rows = await connection.fetch(
        """
        INSERT INTO customers AS known (
            shop_id, customer_id, email, phone, first_name, last_name, locale, state, tags, accepts_marketing,
            created_at, revised_at
        )
        SELECT shop_id, customer_id, email, phone, first_name, last_name, locale, state, tags, accepts_marketing,
               created_at, revised_at
        FROM json_to_recordset($1::json) AS c (
            shop_id bigint, customer_id bigint, email text, phone text, first_name text, last_name text, locale text,
            state text, tags text, accepts_marketing boolean, created_at timestamptz, revised_at timestamptz
        )
        ORDER BY shop_id, customer_id
        ON CONFLICT (shop_id, customer_id) DO UPDATE
        SET email = EXCLUDED.email, phone = EXCLUDED.phone, first_name = EXCLUDED.first_name,
            last_name = EXCLUDED.last_name, locale = EXCLUDED.locale, state = EXCLUDED.state, tags = EXCLUDED.tags,
            accepts_marketing = EXCLUDED.accepts_marketing, created_at = EXCLUDED.created_at,
            revised_at = EXCLUDED.revised_at
        WHERE known.revised_at <= EXCLUDED.revised_at
        RETURNING customer_id
        """,
        json_rows({"shop_id": shop_id, **customer._asdict()} for (shop_id, _), customer in newest.items()),
    )
    return len(rows)


async def delete_customers(connection: Connection, customers: Sequence[tuple[int, int]]) -> None:
    """Forget (shop, customer) pairs that were deleted at Shopify."""
    await connection.execute(
        """
        DELETE FROM customers c USING unnest($1::bigint[], $2::bigint[]) AS d (shop_id, customer_id)
        WHERE c.shop_id = d.shop_id AND c.customer_id = d.customer_id
        """,
        [shop_id for shop_id, _ in customers],
        [customer_id for _, customer_id in customers],
    )
