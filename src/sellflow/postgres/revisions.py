"""Which revision a database is at, and which one this version needs; cheap enough for every start."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from sellflow.errors import MigrationError
from sellflow.postgres.database import Pool, SessionConnection

MIGRATIONS = Path(str(files("sellflow.postgres") / "migrations"))


@cache
def newest_revision() -> str:
    """Return the revision that this version of Sellflow needs.

    Revisions are numbered by their file names, so this needs no look inside them (and no Alembic).
    """
    return max(path.stem for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


async def current_revision(connection: SessionConnection | Pool) -> str | None:
    """Return the revision of a database, or None for one that was never migrated."""
    if await connection.fetchval("SELECT to_regclass('schema_version')") is None:
        return None
    revision: str | None = await connection.fetchval("SELECT version_num FROM schema_version")
    return revision


async def check_schema(connection: SessionConnection | Pool) -> None:
    """Make sure that a serving process can go on with the database as it is now.

    A newer schema than its own is fine: that is how an update looks to the processes that it has not reached yet.

    Raises
    ------
    MigrationError
        If the schema is missing or older than the one this version needs.
    """
    revision = await current_revision(connection)
    if revision is None or revision < newest_revision():
        raise MigrationError(
            f"the database's schema is {revision or 'empty'}, this version needs {newest_revision()}: "
            "run `sellflow migrate`"
        )
