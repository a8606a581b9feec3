"""What the edge holds of people: customers' sessions, and what requests about them were answered.

A customer who is erased is logged out for good: no refresh token is left. Somebody who logs in again begins anew.
"""

from __future__ import annotations

from sellflow.postgres.personal_data import Holds, RoomData, Table

_THEIR_SESSIONS = """
    SELECT c.session_id FROM subject s
    JOIN customer_sessions c ON c.shop_id = s.shop_id AND c.customer_id = s.customer_id
"""

PERSONAL_DATA = RoomData(
    room="edge",
    tables=(
        # Sessions are locked before their tokens, and both before stored answers, as whoever renews one does.
        Table(
            name="refresh_tokens",
            holds=Holds.PERSONAL,
            why="what a customer's session is renewed with, as hashes",
            erase=f"""
                DELETE FROM refresh_tokens t WHERE t.session_id IN (
                    SELECT k.session_id FROM customer_sessions k WHERE k.session_id IN ({_THEIR_SESSIONS})
                    ORDER BY k.session_id FOR UPDATE
                )
            """,
            export=f"""
                SELECT t.session_id, t.issued_at, t.used_at, t.expires_at FROM refresh_tokens t
                WHERE t.session_id IN ({_THEIR_SESSIONS}) ORDER BY t.session_id, t.issued_at
            """,
        ),
        Table(
            name="customer_sessions",
            holds=Holds.PERSONAL,
            why="who logged in, and when",
            erase=f"DELETE FROM customer_sessions WHERE session_id IN ({_THEIR_SESSIONS})",
            export=f"""
                SELECT c.session_id, c.created_at, c.ended_at, c.end_reason FROM customer_sessions c
                WHERE c.session_id IN ({_THEIR_SESSIONS}) ORDER BY c.session_id
            """,
        ),
        Table(
            name="idempotency_keys",
            holds=Holds.PERSONAL,
            why="what requests were answered, sealed, and who sent them",
            erase="""
                DELETE FROM idempotency_keys k USING subject s
                WHERE k.shop_id = s.shop_id
                  AND (k.customer_id = s.customer_id OR k.caller = 'customer:' || s.customer_id)
            """,
            export="""
                SELECT k.route, k.status, k.created_at FROM subject s JOIN idempotency_keys k
                  ON k.shop_id = s.shop_id
                  AND (k.customer_id = s.customer_id OR k.caller = 'customer:' || s.customer_id)
                ORDER BY k.created_at
            """,
        ),
        Table(name="service_keys", holds=Holds.SHOP, why="hashes of other programs' keys"),
        Table(name="signing_keys", holds=Holds.INSTALLATION, why="keys of tokens"),
    ),
)
