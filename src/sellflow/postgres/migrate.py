"""Brings the database's schema to this version: `sellflow migrate`."""

from __future__ import annotations

import psycopg
import structlog
from alembic import command, op
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from psycopg import sql
from sqlalchemy import Connection, create_engine, pool
from sqlalchemy.exc import DBAPIError

from sellflow.errors import DatabaseUnavailableError, MigrationError
from sellflow.postgres.database import Database, Login
from sellflow.postgres.revisions import MIGRATIONS

log = structlog.get_logger(__name__)

OLDEST_SERVER = 15


def migrate(database: Database, *, to: str = "head") -> None:
    """Run the missing revisions up to `to` as the owner, with limits on lock waits and statements.

    Raises
    ------
    DatabaseUnavailableError
        If the server cannot be reached.
    MigrationError
        If the server is too old, or a revision fails; the failed one is rolled back whole.
    """
    settings = database.settings

    def connect() -> psycopg.Connection:
        try:
            return psycopg.connect(
                database.session_url,
                user=database.user(Login.OWNER),
                password=database.password(Login.OWNER),
                application_name="sellflow migrate",
                connect_timeout=10,
                options=f"-c lock_timeout={int(settings.migration_lock_timeout * 1000)} "
                f"-c statement_timeout={int(settings.migration_statement_timeout * 1000)}",
            )
        except psycopg.OperationalError as error:  # SQLAlchemy would wrap it
            raise DatabaseUnavailableError(f"Postgres cannot be reached: {error}") from error

    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=pool.NullPool)
    try:
        with engine.connect() as open_connection:
            _check_server(open_connection)
            _upgrade(open_connection, to)
            _set_passwords(open_connection, database)
    except DBAPIError as error:
        raise MigrationError(f"the migration failed and was rolled back: {error.orig}") from error
    except CommandError as error:
        raise MigrationError(
            f"the database is not one that this version can migrate ({error}). Was it made by a newer version?"
        ) from error
    finally:
        engine.dispose()


def connection() -> Connection:
    """Return the connection that the running revision works on."""
    return op.get_bind()


def run_sql(text: str) -> None:
    """Run a script of statements as it stands: no placeholder in it is filled in."""
    connection().exec_driver_sql(text, execution_options={"no_parameters": True})


def run_sql_file(revision: str) -> None:
    """Run the SQL file of a revision."""
    run_sql((MIGRATIONS / "sql" / f"{revision}.sql").read_text(encoding="utf-8"))


def _check_server(open_connection: Connection) -> None:
    version = open_connection.exec_driver_sql("SHOW server_version_num").scalar_one()
    open_connection.commit()
    if int(version) // 10000 < OLDEST_SERVER:
        raise MigrationError(f"Postgres {OLDEST_SERVER} or newer is needed; the server is {int(version) // 10000}")


def _upgrade(open_connection: Connection, to: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = open_connection
    # One migration at a time, however many pods start it.
    open_connection.exec_driver_sql("SELECT pg_advisory_lock(hashtext('sellflow.migrate'))")
    open_connection.commit()
    try:
        ScriptDirectory.from_config(config).get_current_head()
        command.upgrade(config, to)
        open_connection.commit()
    finally:
        open_connection.rollback()
        open_connection.exec_driver_sql("SELECT pg_advisory_unlock(hashtext('sellflow.migrate'))")
        open_connection.commit()


def _set_passwords(open_connection: Connection, database: Database) -> None:
    """Set the passwords that are configured; a login without one is left as its administrator made it.

    The server is sent their hashes alone: it may write statements into its log.
    """
    driver = open_connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    for login in (Login.WEB, Login.WORKER, Login.INGEST, Login.ADMIN):
        password = database.password(login)
        if not password:
            continue
        hashed = driver.pgconn.encrypt_password(password.encode(), login.value.encode(), b"scram-sha-256").decode()
        try:
            driver.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(login.value), sql.Literal(hashed))
            )
            driver.commit()
        except psycopg.Error as error:
            raise MigrationError(
                f"the password of {login.value} could not be set: {error}. "
                "Let an administrator set it, and leave it out where `sellflow migrate` runs"
            ) from error
