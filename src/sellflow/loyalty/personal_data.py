"""What loyalty holds of customers, and how they are erased: their names go, their orders' figures and the books stay.

An account and its orders keep an id that means nobody. The ledger itself knows accounts alone, so nothing in it is
changed, and it goes on adding up.
"""

from __future__ import annotations

from sellflow.loyalty import payloads
from sellflow.loyalty.ledger_store import delete_ledger
from sellflow.postgres.personal_data import Holds, RoomData, Table

_THEIR_ACCOUNTS = """
    SELECT a.account_id FROM subject s JOIN accounts a ON a.shop_id = s.shop_id AND a.customer_id = s.customer_id
"""

PERSONAL_DATA = RoomData(
    room="loyalty",
    tables=(
        Table(
            name="refund_lines",
            holds=Holds.SHOP,
            why="what was given back, by order",
            export="""
                SELECT l.refund_id, l.line_id, l.quantity, l.subtotal
                FROM subject s JOIN refunds r ON r.shop_id = s.shop_id AND r.order_id = ANY (s.order_ids)
                JOIN refund_lines l ON l.shop_id = r.shop_id AND l.refund_id = r.refund_id
                ORDER BY l.refund_id, l.line_id
            """,
        ),
        Table(
            name="refunds",
            holds=Holds.SHOP,
            why="what was given back, by order",
            export="""
                SELECT r.refund_id, r.order_id, r.amount, r.currency, r.refunded_at
                FROM subject s JOIN refunds r ON r.shop_id = s.shop_id AND r.order_id = ANY (s.order_ids)
                ORDER BY r.refund_id
            """,
        ),
        Table(
            name="order_lines",
            holds=Holds.SHOP,
            why="what was sold, by order",
            export="""
                SELECT l.order_id, l.line_id, l.product_id, l.variant_id, l.quantity, l.price, l.discount
                FROM subject s JOIN order_lines l ON l.shop_id = s.shop_id AND l.order_id = ANY (s.order_ids)
                ORDER BY l.order_id, l.line_id
            """,
        ),
        # Orders before accounts, as the handler locks them.
        Table(
            name="orders",
            holds=Holds.PERSONAL,
            why="whose order it is; the figures stay",
            erase="""
                UPDATE orders o SET customer_id = s.anonymous_id FROM subject s
                WHERE o.shop_id = s.shop_id AND o.order_id IN (
                    SELECT k.order_id FROM orders k
                    WHERE k.shop_id = s.shop_id AND k.customer_id = s.customer_id
                    ORDER BY k.order_id FOR UPDATE
                )
            """,
            export="""
                SELECT o.order_id, o.name, o.currency, o.subtotal, o.financial_status, o.ordered_at, o.cancelled_at,
                       o.customer_id, o.recorded_at
                FROM subject s JOIN orders o ON o.shop_id = s.shop_id AND o.order_id = ANY (s.order_ids)
                ORDER BY o.order_id
            """,
        ),
        Table(
            name="allocations",
            holds=Holds.SHOP,
            why="which debit took how much of which lot",
            export=f"""
                SELECT l.lot_id, c.transfer_id, c.points
                FROM lots l JOIN allocations c USING (lot_id)
                WHERE l.account_id IN ({_THEIR_ACCOUNTS})
                ORDER BY l.lot_id, c.transfer_id
            """,
            goes_with="transfers",
        ),
        Table(
            name="shortfalls",
            holds=Holds.SHOP,
            why="debits that no lot covered, by account",
            export=f"""
                SELECT f.transfer_id, f.points, f.remaining FROM shortfalls f
                WHERE f.account_id IN ({_THEIR_ACCOUNTS}) ORDER BY f.transfer_id
            """,
            goes_with="transfers",
        ),
        Table(
            name="lots",
            holds=Holds.SHOP,
            why="points that can be spent, by account",
            export=f"""
                SELECT l.lot_id, l.transfer_id, l.points, l.remaining, l.expires_at, l.created_at
                FROM entries e JOIN lots l ON l.transfer_id = e.transfer_id AND l.account_id = e.account_id
                WHERE e.account_id IN ({_THEIR_ACCOUNTS}) ORDER BY l.lot_id
            """,
            goes_with="transfers",
        ),
        Table(
            name="entries",
            holds=Holds.SHOP,
            why="movements of points, by account",
            export=f"""
                SELECT e.transfer_id, t.kind, t.source, e.points, e.balance_after, t.snapshot, t.created_at
                FROM entries e JOIN transfers t USING (transfer_id)
                WHERE e.account_id IN ({_THEIR_ACCOUNTS}) ORDER BY e.transfer_id
            """,
            goes_with="transfers",
        ),
        Table(
            name="transfers",
            holds=Holds.SHOP,
            why="movements of points, by order: the books, which stay as they are",
            delete=delete_ledger,
        ),
        Table(
            name="accounts",
            holds=Holds.PERSONAL,
            why="whose points they are; the balance stays",
            erase="""
                UPDATE accounts a SET customer_id = s.anonymous_id FROM subject s
                WHERE a.shop_id = s.shop_id AND a.customer_id = s.customer_id
            """,
            export="""
                SELECT a.kind, a.customer_id, a.balance, a.created_at
                FROM subject s JOIN accounts a ON a.shop_id = s.shop_id AND a.customer_id = s.customer_id
                ORDER BY a.account_id
            """,
        ),
        Table(
            name="members",
            holds=Holds.PERSONAL,
            why="birthdays, tiers and referral codes of customers",
            erase="""
                DELETE FROM members m USING subject s
                WHERE m.shop_id = s.shop_id AND m.customer_id = s.customer_id
            """,
            export="""
                SELECT m.customer_id, m.joined_at, m.birthday, m.tier, m.tier_since, m.tier_lapsed_at, m.referral_code
                FROM subject s JOIN members m ON m.shop_id = s.shop_id AND m.customer_id = s.customer_id
            """,
        ),
        Table(name="programs", holds=Holds.SHOP, why="a merchant's programme"),
    ),
    find_orders="""
        SELECT o.order_id FROM subject s JOIN orders o ON o.shop_id = s.shop_id AND o.customer_id = s.customer_id
    """,
    keeps=payloads.FIELDS | {"transfer_id", "points", "balance", "source"},
)
