"""The SQL of the ledger: locks the accounts of a batch in id order, lets `ledger` book, and writes what it says."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import orjson

from sellflow.loyalty.ledger import Account, Lot, Posting, Shortfall, Transfer, post
from sellflow.loyalty.models import Movement
from sellflow.postgres.database import Connection

#: A shop and one of its customers.
AccountKey = tuple[int, int]


async def post_movements(connection: Connection, movements: Sequence[Movement]) -> list[Transfer]:
    """Book movements inside the caller's transaction and return the transfers they became."""
    if not movements:
        return []
    accounts = await _lock_accounts(connection, {(m.shop_id, m.customer_id) for m in movements})
    issued = await _issued_accounts(connection, {m.shop_id for m in movements})
    await _read_open_lots(connection, accounts, {(m.shop_id, m.customer_id) for m in movements if m.points < 0})
    await _read_open_shortfalls(connection, accounts)
    earns = sum(m.points > 0 for m in movements)
    transfer_ids, lot_ids = await _draw_ids(connection, len(movements), earns)
    posting = post(movements, accounts, transfer_ids, lot_ids)
    await _write_transfers(connection, posting, issued)
    await _write_lots(connection, accounts.values())
    await _write_shortfalls(connection, accounts.values())
    await _write_allocations(connection, posting)
    await _write_balances(connection, accounts.values())
    return posting.transfers


async def _lock_accounts(connection: Connection, keys: Collection[AccountKey]) -> dict[AccountKey, Account]:
    """Make the accounts that are missing, then lock all of them in id order."""
    ordered = sorted(keys)
    arguments = [shop_id for shop_id, _ in ordered], [customer_id for _, customer_id in ordered]
    await connection.execute(
        """
        WITH wanted AS (SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS k (shop_id, customer_id))
        INSERT INTO accounts (shop_id, kind, customer_id, balance)
        SELECT w.shop_id, 'customer', w.customer_id, 0
        FROM wanted w
        WHERE NOT EXISTS (
            SELECT 1 FROM accounts a
            WHERE a.shop_id = w.shop_id AND a.kind = 'customer' AND a.customer_id = w.customer_id
        )
        ORDER BY w.shop_id, w.customer_id
        ON CONFLICT DO NOTHING
        """,
        *arguments,
    )
    rows = await connection.fetch(
        """
        SELECT a.account_id, a.shop_id, a.customer_id, a.balance
        FROM accounts a JOIN unnest($1::bigint[], $2::bigint[]) AS k (shop_id, customer_id) USING (shop_id, customer_id)
        WHERE a.kind = 'customer'
        ORDER BY a.account_id
        FOR UPDATE OF a
        """,
        *arguments,
    )
    return {(row["shop_id"], row["customer_id"]): Account(**row) for row in rows}


async def _issued_accounts(connection: Connection, shop_ids: Collection[int]) -> dict[int, int]:
    """Return each shop's own account, the other side of what customers earn; never locked, it has no balance."""
    ordered = sorted(shop_ids)
    await connection.execute(
        """
        INSERT INTO accounts (shop_id, kind)
        SELECT s, 'issued' FROM unnest($1::bigint[]) AS s
        WHERE NOT EXISTS (SELECT 1 FROM accounts a WHERE a.shop_id = s AND a.kind = 'issued')
        ON CONFLICT DO NOTHING
        """,
        ordered,
    )
    rows = await connection.fetch(
        "SELECT shop_id, account_id FROM accounts WHERE shop_id = ANY ($1::bigint[]) AND kind = 'issued'",
        ordered,
    )
    return {row["shop_id"]: row["account_id"] for row in rows}


async def _read_open_lots(
    connection: Connection, accounts: dict[AccountKey, Account], debited: Collection[AccountKey]
) -> None:
    """Load what can still be spent of the accounts that something is taken from, soonest expiry first."""
    by_id = {accounts[key].account_id: accounts[key] for key in debited}
    if not by_id:
        return
    rows = await connection.fetch(
        """
        SELECT l.account_id, l.lot_id, l.transfer_id, t.source, l.points, l.remaining
        FROM lots l JOIN transfers t ON t.transfer_id = l.transfer_id
        WHERE l.account_id = ANY ($1::bigint[]) AND l.remaining > 0
        ORDER BY l.account_id, l.expires_at NULLS LAST, l.lot_id
        """,
        list(by_id),
    )
    for row in rows:
        lot = Lot(row["lot_id"], row["transfer_id"], row["source"], row["points"], row["remaining"])
        by_id[row["account_id"]].lots.append(lot)


async def _read_open_shortfalls(connection: Connection, accounts: dict[AccountKey, Account]) -> None:
    """Load what is still owed by the accounts that are below zero, eldest first."""
    by_id = {account.account_id: account for account in accounts.values() if account.balance < 0}
    if not by_id:
        return
    rows = await connection.fetch(
        """
        SELECT account_id, transfer_id, points, remaining FROM shortfalls
        WHERE account_id = ANY ($1::bigint[]) AND remaining > 0
        ORDER BY account_id, transfer_id
        """,
        list(by_id),
    )
    for row in rows:
        shortfall = Shortfall(row["transfer_id"], row["points"], row["remaining"])
        by_id[row["account_id"]].shortfalls.append(shortfall)


async def _draw_ids(connection: Connection, transfers: int, lots: int) -> tuple[list[int], list[int]]:
    row = await connection.fetchrow(
        """
        SELECT ARRAY(SELECT nextval('transfers_transfer_id_seq') FROM generate_series(1, $1)) AS transfers,
               ARRAY(SELECT nextval('lots_lot_id_seq') FROM generate_series(1, $2)) AS lots
        """,
        transfers,
        lots,
    )
    assert row is not None
    return row["transfers"], row["lots"]


async def _write_transfers(connection: Connection, posting: Posting, issued: dict[int, int]) -> None:
    transfers = posting.transfers
    movements = [each.movement for each in transfers]
    await connection.execute(
        """
        INSERT INTO transfers (transfer_id, shop_id, kind, source, rule_id, revision, points, snapshot, day, event_id)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::integer[],
                             $7::bigint[], $8::jsonb[], $9::date[], $10::bigint[])
        """,
        [each.transfer_id for each in transfers],
        [m.shop_id for m in movements],
        [m.kind.value for m in movements],
        [m.source for m in movements],
        [m.rule_id for m in movements],
        [m.revision for m in movements],
        [abs(m.points) for m in movements],
        [orjson.dumps(m.snapshot).decode() for m in movements],
        [m.day for m in movements],
        [m.event_id for m in movements],
    )
    # Both sides of a transfer go in with one statement: its trigger checks that they sum to zero.
    await connection.execute(
        """
        WITH moved AS (
            SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
                AS m (transfer_id, shop_id, customer_account, issued_account, points, balance_after)
        )
        INSERT INTO entries (transfer_id, account_id, shop_id, points, balance_after)
        SELECT transfer_id, customer_account, shop_id, points, balance_after FROM moved
        UNION ALL
        SELECT transfer_id, issued_account, shop_id, -points, NULL FROM moved
        """,
        [each.transfer_id for each in transfers],
        [m.shop_id for m in movements],
        [each.account_id for each in transfers],
        [issued[m.shop_id] for m in movements],
        [m.points for m in movements],
        [each.balance_after for each in transfers],
    )


async def _write_lots(connection: Connection, accounts: Collection[Account]) -> None:
    opened = [(account, lot) for account in accounts for lot in account.lots if lot.is_new]
    if opened:
        await connection.execute(
            """
            INSERT INTO lots (lot_id, shop_id, account_id, transfer_id, points, remaining)
            SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
            """,
            [lot.lot_id for _, lot in opened],
            [account.shop_id for account, _ in opened],
            [account.account_id for account, _ in opened],
            [lot.transfer_id for _, lot in opened],
            [lot.points for _, lot in opened],
            [lot.remaining for _, lot in opened],
        )
    drawn = [lot for account in accounts for lot in account.lots if not lot.is_new]
    if drawn:
        await connection.execute(
            """
            UPDATE lots l SET remaining = v.remaining
            FROM unnest($1::bigint[], $2::bigint[]) AS v (lot_id, remaining)
            WHERE l.lot_id = v.lot_id AND l.remaining <> v.remaining
            """,
            [lot.lot_id for lot in drawn],
            [lot.remaining for lot in drawn],
        )


async def _write_shortfalls(connection: Connection, accounts: Collection[Account]) -> None:
    changed = [(account, each) for account in accounts for each in account.shortfalls]
    if changed:
        await connection.execute(
            """
            INSERT INTO shortfalls (transfer_id, shop_id, account_id, points, remaining)
            SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
            ON CONFLICT (transfer_id) DO UPDATE SET remaining = EXCLUDED.remaining
            """,
            [each.transfer_id for _, each in changed],
            [account.shop_id for account, _ in changed],
            [account.account_id for account, _ in changed],
            [each.points for _, each in changed],
            [each.remaining for _, each in changed],
        )


async def _write_allocations(connection: Connection, posting: Posting) -> None:
    if posting.allocations:
        await connection.execute(
            """
            INSERT INTO allocations (lot_id, transfer_id, shop_id, points)
            SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
            """,
            [each.lot_id for each in posting.allocations],
            [each.transfer_id for each in posting.allocations],
            [each.account.shop_id for each in posting.allocations],
            [each.points for each in posting.allocations],
        )


async def _write_balances(connection: Connection, accounts: Collection[Account]) -> None:
    await connection.execute(
        """
        UPDATE accounts a SET balance = v.balance
        FROM unnest($1::bigint[], $2::bigint[]) AS v (account_id, balance)
        WHERE a.account_id = v.account_id
        """,
        [account.account_id for account in accounts],
        [account.balance for account in accounts],
    )
