"""Connections that die at a chosen statement, as a worker does that is killed between two of them, or fail there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import asyncpg

from sellflow.postgres.database import Database, Login, Pool, SessionConnection

When = Literal["before", "after", "fails"]

#: Statements that cannot fail alone: the server would have ended the transaction with them.
CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


@dataclass
class Fate:
    """Dies around the statement with this number, from 1: before it is sent, or after it was done.

    With `fails`, the server refuses that statement (or the first after it that may fail alone), and nobody dies.
    """

    statement: int
    when: When
    seen: int = 0

    @property
    def is_dead(self) -> bool:
        """Whether that statement was reached."""
        return self.seen >= self.statement and self.when != "fails"

    def _is_refused(self, query: str) -> bool:
        """Count a statement, and say whether it is the one that the server refuses."""
        if self.seen >= self.statement or (self.seen + 1 == self.statement and query.startswith(CONTROL)):
            return False
        self.seen += 1
        return self.seen == self.statement

    async def meet(self, connection: SessionConnection, query: str, run: Callable[[], Awaitable[object]]) -> object:
        """Run a statement, unless this is the one to die or fail at: nothing is done any more after a death."""
        if self.when == "fails":
            return await (_refused(connection) if self._is_refused(query) else run())
        if not self.is_dead:
            self.seen += 1
            if self.seen < self.statement:
                return await run()
            if self.when == "after":
                await run()
        connection.terminate()
        raise asyncpg.ConnectionDoesNotExistError("killed by a test")


def _mortal(name: str, fate: Fate) -> Callable[..., Awaitable[object]]:
    """Return a method of a connection that meets its fate first."""
    immortal = getattr(asyncpg.Connection, name)

    async def method(self: SessionConnection, query: str, *args: object, **kwargs: object) -> object:
        return await fate.meet(self, query, lambda: immortal(self, query, *args, **kwargs))

    return method


async def _refused(connection: SessionConnection) -> object:
    """Let the server refuse a statement: a transaction that is open has failed then."""
    return await asyncpg.Connection.execute(connection, "SELECT 1/0")


@asynccontextmanager
async def mortal_pool(database: Database, fate: Fate, *, login: Login = Login.WORKER) -> AsyncIterator[Pool]:
    """Yield a pool whose connections share a fate."""
    methods = ("execute", "executemany", "fetch", "fetchrow", "fetchval")
    mortal = type("Mortal", (asyncpg.Connection,), {name: _mortal(name, fate) for name in methods})
    pool = await asyncpg.create_pool(
        database.pooled_url, user=database.user(login), connection_class=mortal, min_size=0, max_size=2
    )
    try:
        yield pool
    finally:
        pool.terminate()
