"""Locking accounts while others make, rename and lock them."""

from __future__ import annotations

import asyncio

import pytest

from sellflow.loyalty.ledger import InsufficientPointsError
from sellflow.loyalty.ledger_store import post_movements
from sellflow.loyalty.models import AccountKind, Movement, MovementKind, OnShortfall
from sellflow.postgres.database import Database, Login, Pool, SessionConnection, close_connection
from sellflow.postgres.transactions import batch_transaction
from tests.conftest import Tenant
from tests.loyalty.books import check_books

CUSTOMER = 7


def movement(tenant: Tenant, points: int, source: str, kind: MovementKind = MovementKind.EARN) -> Movement:
    return Movement(tenant.shop_id, CUSTOMER, kind, points, source, "spend", 1, {})


async def book(pool: Pool, tenant: Tenant, *movements: Movement) -> None:
    async with pool.acquire() as connection, batch_transaction(connection, [tenant.shop_id]):
        await post_movements(connection, movements)


async def balances(owner: SessionConnection) -> dict[tuple[str, int], int]:
    rows = await owner.fetch("SELECT kind, customer_id, balance FROM accounts WHERE customer_id IS NOT NULL")
    return {(row["kind"], row["customer_id"]): row["balance"] for row in rows}


async def test_an_account_that_loses_its_customer_while_we_wait_for_it_is_made_anew(
    database: Database, owner: SessionConnection, worker_pool: Pool, tenant: Tenant
) -> None:
    await book(worker_pool, tenant, movement(tenant, 10, "order:1"))
    eraser = await database.connect(Login.OWNER, purpose="test")
    async with eraser.transaction():
        await eraser.execute("UPDATE accounts SET customer_id = -1 WHERE customer_id = $1", CUSTOMER)
        booking = asyncio.create_task(book(worker_pool, tenant, movement(tenant, 5, "order:2")))
        async with asyncio.timeout(20):
            while not await owner.fetchval(  # noqa: ASYNC110 - a session of the server sets no event
                "SELECT true FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ):
                await asyncio.sleep(0.01)
    await booking
    await close_connection(eraser)
    assert await balances(owner) == {("customer", -1): 10, ("customer", CUSTOMER): 5}
    await check_books(owner)


async def test_pending_points_have_an_account_of_their_own_and_become_available_by_two_movements(
    owner: SessionConnection, worker_pool: Pool, tenant: Tenant
) -> None:
    earned = movement(tenant, 10, "order:1")._replace(account=AccountKind.PENDING)
    await book(worker_pool, tenant, earned, movement(tenant, 3, "order:2"))
    assert await balances(owner) == {("customer_pending", CUSTOMER): 10, ("customer", CUSTOMER): 3}
    out = earned._replace(kind=MovementKind.RELEASE, points=-10, revision=2)
    into = earned._replace(kind=MovementKind.RELEASE, revision=3, account=AccountKind.AVAILABLE)
    await book(worker_pool, tenant, out, into)
    assert await balances(owner) == {("customer_pending", CUSTOMER): 0, ("customer", CUSTOMER): 13}
    await check_books(owner)


@pytest.mark.parametrize(
    ("policy", "after_debit", "after_earn"),
    [
        (OnShortfall.FORGIVE, (0, 0), (8, 8)),
        (OnShortfall.ALLOW, (-15, 0), (-7, 8)),
        (OnShortfall.RECOVER, (-15, 0), (-7, 0)),
    ],
    ids=["forgive", "allow", "recover"],
)
async def test_what_a_debit_takes_beyond_what_there_is_follows_the_policy(
    owner: SessionConnection,
    worker_pool: Pool,
    tenant: Tenant,
    *,
    policy: OnShortfall,
    after_debit: tuple[int, int],
    after_earn: tuple[int, int],
) -> None:
    async def standing() -> tuple[int, int]:
        spendable = await owner.fetchval("SELECT COALESCE(sum(remaining), 0)::bigint FROM lots")
        return (await balances(owner))["customer", CUSTOMER], spendable

    await book(worker_pool, tenant, movement(tenant, 10, "order:1"))
    debit = movement(tenant, -25, "order:1", MovementKind.CLAWBACK)._replace(revision=2, on_shortfall=policy)
    await book(worker_pool, tenant, debit)
    assert await standing() == after_debit
    await book(worker_pool, tenant, movement(tenant, 8, "order:2"))
    assert await standing() == after_earn
    await check_books(owner)


async def test_a_debit_that_refuses_a_shortfall_posts_nothing(
    owner: SessionConnection, worker_pool: Pool, tenant: Tenant
) -> None:
    await book(worker_pool, tenant, movement(tenant, 10, "order:1"))
    debit = movement(tenant, -11, "redemption:1", MovementKind.REDEEM)._replace(on_shortfall=OnShortfall.REFUSE)
    with pytest.raises(InsufficientPointsError, match="11 points are needed and there are 10"):
        await book(worker_pool, tenant, debit)
    await book(worker_pool, tenant, debit._replace(points=-10))
    assert await balances(owner) == {("customer", CUSTOMER): 0}
    await check_books(owner)
