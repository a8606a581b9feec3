"""Databases beside the one that a test is given: empty ones, and clones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

from sellflow.postgres.database import Database, Login, SessionConnection

_numbers = count(1)


@asynccontextmanager
async def connected(database: Database, login: Login = Login.OWNER) -> AsyncIterator[SessionConnection]:
    """Yield a connection that is closed however the block ends."""
    connection = await database.connect(login, purpose="test")
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def empty_database(beside: Database, *, owner: str | None = None) -> AsyncIterator[Database]:
    """Yield a database of the same server that holds nothing, and belongs to `owner` where one is named."""
    name = f"empty_{next(_numbers)}"
    async with connected(beside) as admin:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE template0" + (f" OWNER {owner}" if owner else ""))
        current = await admin.fetchval("SELECT current_database()")
    url = beside.session_url.replace(f"/{current}?", f"/{name}?")
    settings = beside.settings.model_copy(update={"database_owner": owner} if owner else {})
    try:
        yield replace(beside, session_url=url, pooled_url=url, settings=settings)
    finally:
        async with connected(beside) as admin:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
