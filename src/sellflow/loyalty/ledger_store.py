"""The SQL of the ledger: locks the accounts of a batch in id order, lets `ledger` book, and writes what it says."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sellflow.loyalty.ledger import (
    Account,
    AccountKey,
    Lot,
    Posting,
    Shortfall,
    Transfer,
    ids_needed,
    post,
)
from sellflow.loyalty.models import AccountKind, Movement
from sellflow.postgres.database import Connection
from sellflow.postgres.rows import json_rows


async def post_movements(connection: Connection, movements: Sequence[Movement]) -> list[Transfer]:
    """Book movements inside the caller's transaction and return the transfers they became.

    Whoever else posts to one of the accounts waits from the locks on: as little as possible comes after them.

    Raises
    ------
    InsufficientPointsError
        If a movement that refuses a shortfall is larger than what can be spent: the transaction is to be undone.
    """
    if not movements:
        return []
    transfer_ids, lot_ids = await _draw_ids(connection, *ids_needed(movements))
    accounts = await lock_accounts(connection, {(m.shop_id, m.customer_id, m.account) for m in movements})
    debited = {(m.shop_id, m.customer_id, m.account) for m in movements if m.points < 0}
    await _read_open_lots(connection, accounts, debited)
    posting = post(movements, accounts, transfer_ids, lot_ids)
    await _write_posting(connection, posting, accounts.values())
    await _write_drawn_lots(connection, accounts.values())
    await _write_shortfalls(connection, accounts.values())
    await _write_allocations(connection, posting)
    return posting.transfers


async def lock_accounts(connection: Connection, keys: Collection[AccountKey]) -> dict[AccountKey, Account]:
    """Lock customers' accounts, made where they are missing, in the order of their ids.

    Shops' own accounts are named, never locked: they hold no balance. A customer who is erased between our look and
    our lock leaves an account of nobody's behind: theirs is then made anew, and erased in its turn.
    """
    wanted = set(keys)
    accounts: dict[AccountKey, Account] = {}
    while missing := wanted - accounts.keys():
        await _make_accounts(connection, missing)
        accounts |= await _lock_known(connection, missing)
    locked = {key: accounts[key] for key in wanted}
    await _read_open_shortfalls(connection, locked)
    return locked


async def _make_accounts(connection: Connection, keys: Collection[AccountKey]) -> None:
    """Make the customers' accounts that are missing, and those of their shops, the other side of every earn."""
    wanted = [*{(shop_id, None, "issued") for shop_id, _, _ in keys}, *keys]
    await connection.execute(
        """
        INSERT INTO accounts (shop_id, kind, customer_id, balance)
        SELECT w.shop_id, w.kind, w.customer_id, CASE WHEN w.customer_id IS NOT NULL THEN 0 END
        FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS w (shop_id, customer_id, kind)
        ORDER BY w.shop_id, w.kind, w.customer_id
        ON CONFLICT DO NOTHING
        """,
        [shop_id for shop_id, _, _ in wanted],
        [customer_id for _, customer_id, _ in wanted],
        [kind for _, _, kind in wanted],
    )


async def _lock_known(connection: Connection, keys: Collection[AccountKey]) -> dict[AccountKey, Account]:
    """Lock the accounts there are.

    Their ids are looked up one by one first: as a join, the planner may read all of a shop's accounts for each of them.
    """
    rows = await connection.fetch(
        """
        SELECT a.account_id, a.shop_id, a.customer_id, a.kind, a.balance,
               (SELECT i.account_id FROM accounts i
                WHERE i.shop_id = a.shop_id AND i.kind = 'issued' AND i.customer_id IS NULL) AS issued_account_id
        FROM accounts a
        WHERE a.account_id = ANY (ARRAY(
            SELECT (SELECT f.account_id FROM accounts f
                    WHERE f.shop_id = k.shop_id AND f.kind = k.kind AND f.customer_id = k.customer_id)
            FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS k (shop_id, customer_id, kind)
        ))
        ORDER BY a.account_id
        FOR UPDATE OF a
        """,
        [shop_id for shop_id, _, _ in keys],
        [customer_id for _, customer_id, _ in keys],
        [kind for _, _, kind in keys],
    )
    found = (Account(**{**row, "kind": AccountKind(row["kind"])}) for row in rows)
    return {(each.shop_id, each.customer_id, each.kind): each for each in found}


async def _read_open_lots(
    connection: Connection, accounts: dict[AccountKey, Account], debited: Collection[AccountKey]
) -> None:
    """Load what can still be spent of the accounts that something is taken from, soonest expiry first."""
    by_id = {accounts[key].account_id: accounts[key] for key in debited}
    if not by_id:
        return
    rows = await connection.fetch(
        """
        SELECT l.account_id, l.lot_id, l.transfer_id, t.source, t.rule, l.points, l.remaining
        FROM lots l JOIN transfers t ON t.transfer_id = l.transfer_id
        WHERE l.account_id = ANY ($1::bigint[]) AND l.remaining > 0
        ORDER BY l.account_id, l.expires_at NULLS LAST, l.lot_id
        """,
        list(by_id),
    )
    for row in rows:
        lot = Lot(row["lot_id"], row["transfer_id"], row["source"], row["rule"], row["points"], row["remaining"])
        by_id[row["account_id"]].lots.append(lot)


async def _read_open_shortfalls(connection: Connection, accounts: dict[AccountKey, Account]) -> None:
    """Load what is still owed, eldest first. Accounts that owe are few, and the index holds no others."""
    by_id = {account.account_id: account for account in accounts.values()}
    rows = await connection.fetch(
        """
        SELECT account_id, transfer_id, points, remaining, is_recovered FROM shortfalls
        WHERE account_id = ANY ($1::bigint[]) AND remaining > 0
        ORDER BY account_id, transfer_id
        """,
        list(by_id),
    )
    for row in rows:
        shortfall = Shortfall(row["transfer_id"], row["points"], row["remaining"], row["is_recovered"])
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


async def _write_posting(connection: Connection, posting: Posting, accounts: Collection[Account]) -> None:
    """Write transfers with both sides of each, the lots they open and the balances they leave, all in one statement.

    What belongs together cannot be written apart: the trigger on entries checks that they sum to zero.
    """
    opened = (lot for account in accounts for lot in account.lots if lot.is_new)
    lots = {lot.transfer_id: {"lot_id": lot.lot_id, "remaining": lot.remaining} for lot in opened}
    await connection.execute(
        """
        WITH moved AS MATERIALIZED (
            SELECT * FROM json_to_recordset($1::json) AS m (
                transfer_id bigint, shop_id bigint, account_id bigint, issued_account_id bigint, balance_after bigint,
                kind text, source text, rule text, revision integer, points bigint, snapshot jsonb, day date,
                event_id bigint, expires_at timestamptz, release_at timestamptz, lot_id bigint, remaining bigint
            )
        ), transferred AS (
            INSERT INTO transfers
                (transfer_id, shop_id, kind, source, rule, revision, points, snapshot, day, event_id)
            SELECT transfer_id, shop_id, kind, source, rule, revision, abs(points), snapshot, day, event_id
            FROM moved
        ), entered AS (
            INSERT INTO entries (transfer_id, account_id, shop_id, points, balance_after)
            SELECT transfer_id, account_id, shop_id, points, balance_after FROM moved
            UNION ALL
            SELECT transfer_id, issued_account_id, shop_id, -points, NULL FROM moved
        ), opened AS (
            INSERT INTO lots (lot_id, shop_id, account_id, transfer_id, points, remaining, expires_at, release_at)
            SELECT lot_id, shop_id, account_id, transfer_id, points, remaining, expires_at, release_at
            FROM moved WHERE lot_id IS NOT NULL
        )
        UPDATE accounts a SET balance = b.balance
        FROM json_to_recordset($2::json) AS b (account_id bigint, balance bigint)
        WHERE a.account_id = b.account_id
        """,
        json_rows(_transfer_row(each) | lots.get(each.transfer_id, {}) for each in posting.transfers),
        json_rows({"account_id": each.account_id, "balance": each.balance} for each in accounts),
    )


def _transfer_row(transfer: Transfer) -> dict[str, object]:
    account = transfer.account
    return {
        "transfer_id": transfer.transfer_id,
        "account_id": account.account_id,
        "issued_account_id": account.issued_account_id,
        "balance_after": transfer.balance_after,
        **transfer.movement._asdict(),
    }


async def _write_drawn_lots(connection: Connection, accounts: Collection[Account]) -> None:
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
            INSERT INTO shortfalls (transfer_id, shop_id, account_id, points, remaining, is_recovered)
            SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[])
            ON CONFLICT (transfer_id) DO UPDATE SET remaining = EXCLUDED.remaining
            """,
            [each.transfer_id for _, each in changed],
            [account.shop_id for account, _ in changed],
            [account.account_id for account, _ in changed],
            [each.points for _, each in changed],
            [each.remaining for _, each in changed],
            [each.is_recovered for _, each in changed],
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


async def delete_ledger(connection: Connection, shop_id: int, limit: int) -> dict[str, int]:
    """Delete up to `limit` transfers of a shop that is being erased, with everything that hangs on them.

    Runs as the owner, who may do so only while `sellflow.erased_shop` names the shop, and Shopify asked for it. Whole
    transfers go, so that what is left of the entries sums to zero at any time.
    """
    await connection.execute("SELECT set_config('sellflow.erased_shop', $1, true)", str(shop_id))
    doomed = await connection.fetch(
        "SELECT transfer_id FROM transfers WHERE shop_id = $1 ORDER BY source, transfer_id LIMIT $2", shop_id, limit
    )
    ids = [row["transfer_id"] for row in doomed]
    deleted: dict[str, int] = {}
    for table, condition in (
        ("allocations", "lot_id IN (SELECT lot_id FROM lots WHERE transfer_id = ANY ($1::bigint[]))"),
        ("allocations", "transfer_id = ANY ($1::bigint[])"),
        ("shortfalls", "transfer_id = ANY ($1::bigint[])"),
        ("lots", "transfer_id = ANY ($1::bigint[])"),
        ("entries", "transfer_id = ANY ($1::bigint[])"),
        ("transfers", "transfer_id = ANY ($1::bigint[])"),
    ):
        tag = await connection.execute(f"DELETE FROM {table} WHERE {condition}", ids)
        deleted[table] = deleted.get(table, 0) + int(tag.removeprefix("DELETE "))
    return {table: number for table, number in deleted.items() if number}
