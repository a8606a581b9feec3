"""What every command does first: settings, logging, and a database that is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sellflow.logs import configure_logging
from sellflow.postgres.database import Database, Login, SessionConnection
from sellflow.postgres.opening import open_database, prepare
from sellflow.settings import Settings, load_settings

T = TypeVar("T")


def start(**overrides: object) -> Settings:
    """Return the settings, with logging set up."""
    settings = load_settings(**overrides)
    configure_logging(settings)
    return settings


@contextmanager
def ready_database(settings: Settings) -> Iterator[Database]:
    """Yield a database to work with; the embedded one is migrated here, any other by `sellflow migrate`."""
    from sellflow.roles import prepare_above  # noqa: PLC0415 - loads every domain

    with open_database(settings) as database:
        if settings.embedded:
            asyncio.run(prepare(database, prepare_above(database.settings)))
        yield database


def as_owner(settings: Settings, work: Callable[[SessionConnection], Awaitable[T]]) -> T:
    """Run `work` on one connection of the owner, who sees every shop."""

    async def main(database: Database) -> T:
        connection = await database.connect(Login.OWNER, purpose="command")
        try:
            return await work(connection)
        finally:
            await connection.close()

    with ready_database(settings) as database:
        return asyncio.run(main(database))
