"""Transactions with their row-level-security context: nobody commits but these."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import count
from typing import TypeAlias

import asyncpg

from sellflow.postgres.database import Connection, Pool, SessionConnection

_savepoint_names = count(1)

#: Opens a short transaction that sees one shop. What works alike under every login is given one of these; nothing
#: slow may be waited for inside it.
Transactions: TypeAlias = Callable[[int], AbstractAsyncContextManager[Connection]]

#: A batch looks a few hundred rows up by their keys in tables of any size. Left to its estimates, which are old or
#: wrong while a table grows, the planner reads all of a shop's rows instead.
_BY_INDEX = "".join(f"; SET LOCAL enable_{way} = off" for way in ("seqscan", "bitmapscan", "hashjoin", "mergejoin"))


@asynccontextmanager
async def shop_transaction(pool: Pool, shop_id: int) -> AsyncIterator[Connection]:
    """Run one transaction of the `web` login that sees `shop_id` and no other shop."""
    async with pool.acquire() as connection, _transaction(connection, "sellflow.shop_id", str(int(shop_id))):
        yield connection


@asynccontextmanager
async def admin_transaction(pool: Pool, shop_id: int | None) -> AsyncIterator[Connection]:
    """Run one transaction of the `admin` login that sees `shop_id` and no other shop.

    None is for services of the whole installation: it sees every shop, and what belongs to none.
    """
    name, value = ("sellflow.installation", "on") if shop_id is None else ("sellflow.shop_id", str(int(shop_id)))
    # The driver's own transaction: what runs inside opens savepoints through it.
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config($1, $2, true)", name, value)
        yield connection


@asynccontextmanager
async def batch_transaction(connection: Connection, shop_ids: Iterable[int]) -> AsyncIterator[Connection]:
    """Run one transaction of the `worker` login that sees the shops of its batch and no other.

    Statements are planned as look-ups by index. One that reads a large part of a table may SET LOCAL the planner's
    enable_… settings back.
    """
    listed = ",".join(str(int(shop_id)) for shop_id in sorted(set(shop_ids)))
    async with _transaction(connection, "sellflow.shop_ids", f"{{{listed}}}", _BY_INDEX):
        yield connection


def of_web(pool: Pool) -> Transactions:
    """Return what opens transactions of the `web` login."""
    return partial(shop_transaction, pool)


def of_worker(pool: Pool) -> Transactions:
    """Return what opens transactions of the `worker` login, with the statements of one shop planned as usual."""

    @asynccontextmanager
    async def transaction(shop_id: int) -> AsyncIterator[Connection]:
        async with pool.acquire() as connection, _transaction(connection, "sellflow.shop_ids", f"{{{int(shop_id)}}}"):
            yield connection

    return transaction


def of_owner(pool: Pool) -> Transactions:
    """Return what opens transactions of the owner, who sees every shop whichever is named."""

    @asynccontextmanager
    async def transaction(_shop_id: int) -> AsyncIterator[Connection]:
        async with pool.acquire() as connection, connection.transaction():
            yield connection

    return transaction


def of_session(connection: SessionConnection) -> Transactions:
    """Return what opens transactions on one connection of the owner's, one after the other."""
    turn = asyncio.Lock()

    @asynccontextmanager
    async def transaction(_shop_id: int) -> AsyncIterator[Connection]:
        async with turn, connection.transaction():
            yield connection

    return transaction


@asynccontextmanager
async def savepoint(connection: Connection) -> AsyncIterator[None]:
    """Undo what the block did when it raises, and keep the transaction around it usable."""
    name = f"s{next(_savepoint_names)}"
    await connection.execute(f"SAVEPOINT {name}")
    try:
        yield
    except BaseException:
        if not is_lost(connection):
            await connection.execute(f"ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}")
        raise
    await connection.execute(f"RELEASE SAVEPOINT {name}")


@asynccontextmanager
async def _transaction(connection: Connection, setting: str, value: str, more: str = "") -> AsyncIterator[None]:
    """Open and close a transaction in one round trip each; `value` holds digits, commas and braces only."""
    await connection.execute(f"BEGIN; SET LOCAL {setting} = '{value}'{more}")
    try:
        yield
    except BaseException:
        if not is_lost(connection):
            await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")


def is_lost(connection: Connection) -> bool:
    """Say whether there is no server to roll back on; the error that told so must not be replaced by another."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # its pool took the lost connection back and answers for it no more
        return True
