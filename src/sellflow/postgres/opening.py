"""Opens the database for a command: the embedded server is started or joined, another one is checked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from sellflow.errors import MigrationError
from sellflow.postgres.database import Database, Login, SessionConnection
from sellflow.postgres.embedded import SUPERUSER, EmbeddedPostgres
from sellflow.postgres.revisions import current_revision, newest_revision
from sellflow.settings import Settings

#: Brings what lies above the schema (queues, keys) up to date; the caller's, as this room knows none of it.
Prepare = Callable[[SessionConnection], Awaitable[None]]


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """Yield the database as it is, migrated or not; an embedded server runs as long as somebody uses it."""
    if settings.embedded:
        local = settings.model_copy(update={"database_owner": SUPERUSER})
        with EmbeddedPostgres(settings.data_dir).running() as url:
            yield Database(url, url, local)
    else:
        pooled = settings.database_pooled_url or settings.database_session_url
        yield Database(settings.database_session_url, pooled, settings)


async def prepare(database: Database, prepare_above: Prepare) -> bool:
    """Migrate and prepare everything; return whether a migration was needed."""
    migrated = await _is_behind(database)
    if migrated:
        # Alembic and SQLAlchemy are only loaded by the process that needs them.
        from sellflow.postgres.migrate import migrate  # noqa: PLC0415

        migrate(database)
    connection = await database.connect(Login.OWNER, purpose="migrate")
    try:
        await prepare_above(connection)
    finally:
        await connection.close()
    return migrated


async def check_revision(database: Database, login: Login) -> None:
    """Make sure that the schema is the one this version needs.

    Raises
    ------
    MigrationError
        If it is not, naming both.
    """
    connection = await database.connect(login, purpose="check")
    try:
        revision = await current_revision(connection)
    finally:
        await connection.close()
    if revision != newest_revision():
        raise MigrationError(
            f"the database's schema is {revision or 'empty'}, this version needs {newest_revision()}: "
            "run `sellflow migrate`"
        )


async def _is_behind(database: Database) -> bool:
    connection = await database.connect(Login.OWNER, purpose="migrate")
    try:
        return await current_revision(connection) != newest_revision()
    finally:
        await connection.close()
