"""What this room holds of people: calls to Shopify that are about customers."""

from __future__ import annotations

from sellflow.postgres.database import Connection
from sellflow.postgres.personal_data import Holds, RoomData, Subject, Table
from sellflow.shopify.admin.stored_store import forget_subjects


async def _erase_calls(connection: Connection, subject: Subject) -> int:
    """Forget what calls about a customer and their orders said, and what Shopify answered."""
    subjects = [f"order:{order_id}" for order_id in sorted(subject.order_ids)]
    if subject.customer_id is not None:
        subjects.append(f"customer:{subject.customer_id}")
    return await forget_subjects(connection, subject.shop_id, subjects)


PERSONAL_DATA = RoomData(
    room="shopify",
    tables=(
        Table(
            name="admin_calls",
            holds=Holds.PERSONAL,
            why="what Shopify was asked to change, and for whom; the sealed words of both sides",
            erase=_erase_calls,
            export="""
                SELECT c.purpose, c.document, c.state, c.created_at, c.finished_at
                FROM subject s JOIN admin_calls c ON c.shop_id = s.shop_id AND c.subject = 'customer:' || s.customer_id
                ORDER BY c.call_id
            """,
        ),
        Table(name="admin_buckets", holds=Holds.SHOP, why="points that calls may spend"),
        Table(name="access_tokens", holds=Holds.SHOP, why="what the Admin API is called with, sealed"),
        Table(
            name="token_leases",
            holds=Holds.SHOP,
            why="domains",
            goes_with="the shop's name",
            delete_domain="DELETE FROM token_leases WHERE app_id = $1 AND domain = $2",
        ),
        Table(
            name="authorizations",
            holds=Holds.SHOP,
            why="domains, and digests of what a browser brings",
            goes_with="the shop's name",
            delete_domain="DELETE FROM authorizations WHERE app_id = $1 AND domain = $2",
        ),
    ),
)
