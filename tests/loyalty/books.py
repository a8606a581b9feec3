"""What has to hold of a ledger whatever happened."""

from __future__ import annotations

from sellflow.postgres.database import SessionConnection


async def check_books(owner: SessionConnection) -> None:
    """The ledger's own laws, over everything in the database."""
    assert await owner.fetchval("SELECT COALESCE(sum(points), 0) FROM entries") == 0
    unbalanced = "SELECT count(*) FROM (SELECT 1 FROM entries GROUP BY transfer_id HAVING sum(points) <> 0) u"
    assert await owner.fetchval(unbalanced) == 0
    accounts = await owner.fetch(
        """
        SELECT a.balance,
               (SELECT COALESCE(sum(points), 0) FROM entries e WHERE e.account_id = a.account_id) AS entries,
               (SELECT COALESCE(sum(remaining), 0) FROM lots l WHERE l.account_id = a.account_id) AS lots,
               (SELECT COALESCE(sum(remaining), 0) FROM shortfalls s WHERE s.account_id = a.account_id) AS owed
        FROM accounts a WHERE a.customer_id IS NOT NULL
        """
    )
    for row in accounts:
        assert row["balance"] == row["entries"] == row["lots"] - row["owed"]
    overdrawn = await owner.fetchval(
        """
        SELECT count(*) FROM lots l
        LEFT JOIN (SELECT lot_id, sum(points) AS points FROM allocations GROUP BY lot_id) a USING (lot_id)
        WHERE l.points - l.remaining <> COALESCE(a.points, 0)
        """
    )
    assert overdrawn == 0
