"""Which revision a database is at, and which one this version needs; cheap enough for every start."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from sellflow.postgres.database import SessionConnection

MIGRATIONS = Path(str(files("sellflow.postgres") / "migrations"))


def newest_revision() -> str:
    """Return the revision that this version of Sellflow needs.

    Revisions are numbered by their file names, so this needs no look inside them (and no Alembic).
    """
    return max(path.stem for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


async def current_revision(connection: SessionConnection) -> str | None:
    """Return the revision of a database, or None for one that was never migrated."""
    if await connection.fetchval("SELECT to_regclass('schema_version')") is None:
        return None
    revision: str | None = await connection.fetchval("SELECT version_num FROM schema_version")
    return revision
