"""Transactions: what a failure undoes, whose rows they see, and in which state they leave their connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from sellflow.postgres.database import UNAVAILABLE, Connection, Database, Login, Pool, SessionConnection
from sellflow.postgres.transactions import batch_transaction, savepoint, shop_transaction
from tests.conftest import Tenant


class PlannedError(Exception):
    """Raised by a test to see what it undoes."""


@pytest.fixture
async def single(database: Database) -> AsyncIterator[Pool]:
    """Return a pool of the worker with one connection: whoever comes next gets the same one."""
    async with await database.pool(Login.WORKER, purpose="test", size=1) as pool:
        yield pool


async def add_account(connection: Connection, tenant: Tenant, customer_id: int) -> None:
    await connection.execute(
        "INSERT INTO accounts (shop_id, kind, customer_id, balance) VALUES ($1, 'customer', $2, 0)",
        tenant.shop_id,
        customer_id,
    )


async def add_accounts_and_fail(connection: Connection, tenant: Tenant, *customer_ids: int) -> None:
    for customer_id in customer_ids:
        await add_account(connection, tenant, customer_id)
    raise PlannedError


async def lose(connection: Connection, owner: SessionConnection) -> None:
    """End the connection at the server's side, and return when the driver knows."""
    lost = asyncio.Event()
    connection.add_termination_listener(lambda _: lost.set())
    await owner.execute("SELECT pg_terminate_backend($1, 5000)", connection.get_server_pid())
    await lost.wait()


async def customers(owner: SessionConnection) -> list[int]:
    return [row["customer_id"] for row in await owner.fetch("SELECT customer_id FROM accounts ORDER BY 1")]


async def test_a_transaction_that_ends_well_is_kept(owner: SessionConnection, single: Pool, tenant: Tenant) -> None:
    async with single.acquire() as connection, batch_transaction(connection, [tenant.shop_id]):
        await add_account(connection, tenant, 1)
        assert await customers(owner) == []
    assert await customers(owner) == [1]


async def test_a_transaction_that_raises_leaves_nothing(owner: SessionConnection, single: Pool, tenant: Tenant) -> None:
    async with single.acquire() as connection:
        with pytest.raises(PlannedError):
            async with batch_transaction(connection, [tenant.shop_id]):
                await add_accounts_and_fail(connection, tenant, 1)
        assert not connection.is_in_transaction()
        async with batch_transaction(connection, [tenant.shop_id]):
            await add_account(connection, tenant, 2)
    assert await customers(owner) == [2]


async def test_a_statement_that_fails_is_raised_as_it_is(
    owner: SessionConnection, single: Pool, tenant: Tenant
) -> None:
    async with single.acquire() as connection:
        with pytest.raises(asyncpg.UniqueViolationError):
            async with batch_transaction(connection, [tenant.shop_id]):
                await add_accounts_and_fail(connection, tenant, 1, 1)
        assert not connection.is_in_transaction()
    assert await customers(owner) == []


async def test_a_savepoint_undoes_its_block_alone(owner: SessionConnection, single: Pool, tenant: Tenant) -> None:
    async with single.acquire() as connection, batch_transaction(connection, [tenant.shop_id]):
        await add_account(connection, tenant, 1)
        with pytest.raises(asyncpg.UniqueViolationError):
            async with savepoint(connection):
                await add_accounts_and_fail(connection, tenant, 2, 1)
        await add_account(connection, tenant, 3)
        async with savepoint(connection):
            await add_account(connection, tenant, 4)
    assert await customers(owner) == [1, 3, 4]


async def test_savepoints_within_savepoints_undo_what_is_theirs(
    owner: SessionConnection, single: Pool, tenant: Tenant
) -> None:
    async with single.acquire() as connection, batch_transaction(connection, [tenant.shop_id]):
        async with savepoint(connection):
            await add_account(connection, tenant, 1)
            with pytest.raises(PlannedError):
                async with savepoint(connection):
                    await add_accounts_and_fail(connection, tenant, 2)
            await add_account(connection, tenant, 3)
        with pytest.raises(PlannedError):
            async with savepoint(connection), savepoint(connection):
                await add_accounts_and_fail(connection, tenant, 4)
    assert await customers(owner) == [1, 3]


async def test_a_savepoint_keeps_the_shops_of_its_transaction(single: Pool, tenant: Tenant) -> None:
    async with single.acquire() as connection, batch_transaction(connection, [tenant.shop_id]):
        with pytest.raises(PlannedError):
            async with savepoint(connection):
                raise PlannedError
        assert await connection.fetchval("SELECT shop_id FROM shops") == tenant.shop_id


async def test_a_batch_of_no_shop_sees_nothing(single: Pool, tenant: Tenant) -> None:
    assert tenant.shop_id
    async with single.acquire() as connection, batch_transaction(connection, []):
        assert await connection.fetchval("SELECT count(*) FROM shops") == 0


async def test_a_batch_names_each_shop_once_whatever_its_order(
    single: Pool, tenant: Tenant, other_tenant: Tenant
) -> None:
    shop_ids = [other_tenant.shop_id, tenant.shop_id, other_tenant.shop_id]
    async with single.acquire() as connection, batch_transaction(connection, iter(shop_ids)):
        assert await connection.fetchval("SELECT current_shops()") == sorted(set(shop_ids))


async def test_what_is_no_number_never_reaches_the_statement(web_pool: Pool, single: Pool) -> None:
    malicious: Any = "1'; SET sellflow.shop_id = '2"
    with pytest.raises(ValueError, match="invalid literal"):
        async with shop_transaction(web_pool, malicious):
            raise AssertionError("it was let in")
    async with single.acquire() as connection:
        with pytest.raises(ValueError, match="invalid literal"):
            async with batch_transaction(connection, [malicious]):
                raise AssertionError("it was let in")


async def test_a_connection_lost_within_a_transaction_is_told_as_such_and_replaced(
    owner: SessionConnection, single: Pool, tenant: Tenant
) -> None:
    async with single.acquire() as connection:
        pid = connection.get_server_pid()

        async def work() -> None:
            async with batch_transaction(connection, [tenant.shop_id]):
                await add_account(connection, tenant, 1)
                await lose(connection, owner)
                await add_account(connection, tenant, 2)

        with pytest.raises(UNAVAILABLE):
            await work()
    async with single.acquire() as connection, batch_transaction(connection, [tenant.shop_id]):
        assert connection.get_server_pid() != pid
        await add_account(connection, tenant, 3)
    assert await customers(owner) == [3]


@pytest.mark.parametrize("error", [PlannedError, asyncio.CancelledError])
async def test_an_error_is_not_hidden_by_a_rollback_that_cannot_be(
    owner: SessionConnection, single: Pool, tenant: Tenant, error: type[BaseException]
) -> None:
    async def work() -> None:
        async with (
            single.acquire() as connection,
            batch_transaction(connection, [tenant.shop_id]),
            savepoint(connection),
        ):
            await lose(connection, owner)
            raise error

    with pytest.raises(error):
        await work()
    assert await single.fetchval("SELECT 1") == 1


async def test_a_transaction_given_up_in_the_middle_of_a_statement_is_rolled_back(
    owner: SessionConnection, single: Pool, tenant: Tenant
) -> None:
    async def work() -> None:
        async with single.acquire() as connection, batch_transaction(connection, [tenant.shop_id]):
            await add_account(connection, tenant, 1)
            await connection.execute("SELECT pg_sleep(60)")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(work(), timeout=0.2)
    async with single.acquire() as connection:
        assert not connection.is_in_transaction()
        assert await connection.fetchval("SELECT count(*) FROM shops") == 0
    assert await customers(owner) == []


async def test_a_transaction_given_up_at_any_moment_leaves_its_connection_clean(single: Pool, tenant: Tenant) -> None:
    async def work() -> None:
        async with single.acquire() as connection, batch_transaction(connection, [tenant.shop_id]):
            await connection.fetchval("SELECT 1")

    for turns in range(25):  # of the event loop, until it is cancelled
        task = asyncio.create_task(work())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with single.acquire() as connection:
            assert not connection.is_in_transaction(), f"cancelled after {turns} turns"
            assert await connection.fetchval("SELECT current_setting('sellflow.shop_ids', true)") in (None, "")
