"""Backups with Postgres's own tools: one compressed file that any supported server reads."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

import psycopg

from sellflow.errors import ConfigurationError, DatabaseUnavailableError, SellflowError
from sellflow.postgres.database import Database, Login
from sellflow.postgres.embedded import packaged_binaries

#: What names the owner, made anew for the owner of the database that a backup is read into.
_OWNERS_OWN = """
DO $$
DECLARE
    tenant_table regclass;
BEGIN
    FOR tenant_table IN
        SELECT oid FROM pg_class WHERE relforcerowsecurity -- in any schema: services have their own
    LOOP
        EXECUTE format('CREATE POLICY owner_all ON %s TO CURRENT_USER USING (true) WITH CHECK (true)', tenant_table);
    END LOOP;
    -- As pgmq makes them for its queues.
    ALTER DEFAULT PRIVILEGES IN SCHEMA pgmq GRANT SELECT ON TABLES TO pg_monitor;
    ALTER DEFAULT PRIVILEGES IN SCHEMA pgmq GRANT SELECT ON SEQUENCES TO pg_monitor;
END
$$
"""


class BackupError(SellflowError):
    """A backup could not be written or read."""

    code = "database.backup"


def write_backup(database: Database, file: Path) -> int:
    """Write the database to `file` and return its size in bytes; a failed backup leaves no file.

    Raises
    ------
    ConfigurationError
        If the file exists.
    BackupError
        If pg_dump fails, with what it said.
    """
    if file.exists():
        raise ConfigurationError(f"{file} exists already: name another file, or remove it first")
    partial = file.with_name(f"{file.name}.partial")
    try:
        partial.touch(mode=0o600)
        _run(database, "pg_dump", ["--format=custom", "--no-owner", f"--file={partial}"])
        partial.rename(file)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    return file.stat().st_size


def read_backup(database: Database, file: Path) -> None:
    """Read `file` into an empty database, whole or not at all.

    Raises
    ------
    ConfigurationError
        If the file is missing or the database holds tables.
    BackupError
        If pg_restore fails, with what it said.
    """
    if not file.is_file():
        raise ConfigurationError(f"there is no file {file}")
    with _connect(database) as connection:
        tables = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchone()
        if tables and tables[0]:
            raise ConfigurationError(
                f"the database holds {tables[0]} tables: a backup is restored into an empty one. Stop Sellflow and "
                "set SELLFLOW_DATA_DIR to a new folder, or SELLFLOW_DATABASE_SESSION_URL to a new database"
            )
        _make_logins(connection)
    with NamedTemporaryFile("w", prefix="sellflow-restore-") as contents:
        contents.writelines(_without_owner(_run(database, "pg_restore", ["--list", str(file)])))
        contents.flush()
        options = ["--no-owner", "--exit-on-error", "--single-transaction", f"--use-list={contents.name}"]
        _run(database, "pg_restore", [*options, str(file)])
    with _connect(database) as connection:
        connection.execute(_OWNERS_OWN)


def _without_owner(contents: str) -> list[str]:
    """Leave out of a backup's table of contents what names its owner, who may have another name here."""
    return [
        line
        for line in contents.splitlines(keepends=True)
        if " DEFAULT ACL " not in line and not re.search(r" POLICY \S+ \S+ owner_all ", line)
    ]


def _make_logins(connection: psycopg.Connection) -> None:
    """Make the logins that the backup grants rights to: roles belong to the server, not to the database."""
    for login in (Login.WEB, Login.WORKER, Login.INGEST, Login.ADMIN):
        known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [login.value]).fetchone()
        if not known:
            role = psycopg.sql.Identifier(login.value)
            connection.execute(psycopg.sql.SQL("CREATE ROLE {} LOGIN").format(role))


def _connect(database: Database) -> psycopg.Connection:
    try:
        return psycopg.connect(
            database.session_url, user=database.user(Login.OWNER), password=database.password(Login.OWNER)
        )
    except psycopg.OperationalError as error:
        raise DatabaseUnavailableError(f"Postgres cannot be reached: {error}") from error


def _run(database: Database, program: str, arguments: Sequence[str]) -> str:
    """Run one of Postgres's tools as the owner and return what it prints.

    The password goes by the environment, not the command line.
    """
    environment = os.environ | {
        "PGPASSWORD": database.password(Login.OWNER) or "",
        "PGUSER": database.user(Login.OWNER),
    }
    command = [str(_tools(database) / program), f"--dbname={database.session_url}", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise BackupError(f"{program} failed:\n{done.stderr.strip()}")
    return done.stdout


def _tools(database: Database) -> Path:
    """Return the folder of the tools of the server's own version, where installed; the packaged ones otherwise.

    A newer pg_restore sends settings that an older server does not know.
    """
    with _connect(database) as connection:
        major = connection.info.server_version // 10000
    installed = Path(f"/usr/lib/postgresql/{major}/bin")
    return installed if (installed / "pg_dump").exists() else packaged_binaries()
