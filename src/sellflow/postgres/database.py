"""Connections to the one database: two addresses, five logins."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import structlog

from sellflow.errors import DatabaseUnavailableError
from sellflow.settings import Settings

log = structlog.get_logger(__name__)

if TYPE_CHECKING:  # the driver's classes are generic in its stubs alone
    SessionConnection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    Connection: TypeAlias = SessionConnection | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
else:
    SessionConnection = Connection = asyncpg.Connection
    Pool = asyncpg.Pool

#: What a lost, refused or overloaded database raises; a caller may try again later.
UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidCatalogNameError,  # the database is being made anew
    asyncpg.InvalidAuthorizationSpecificationError,  # a login is missing, or its password was just changed
    asyncpg.InternalClientError,  # the driver's word when a connection is lost in the moment it is used
    asyncpg.ObjectNotInPrerequisiteStateError,  # the database is closed to connections, for maintenance
)


class Login(StrEnum):
    """Who connects. Row-level security gives each login its own view (see docs/decisions/0003)."""

    OWNER = "owner"
    WEB = "sellflow_web"
    WORKER = "sellflow_worker"
    INGEST = "sellflow_ingest"
    ADMIN = "sellflow_admin"


@dataclass(frozen=True)
class Database:
    """Where the database is and how each login enters it.

    `session_url` serves LISTEN, advisory locks and migrations; `pooled_url` everything else. When they differ,
    the pooled one is taken to lead through a transaction pooler, where prepared statements cannot be kept.
    """

    session_url: str
    pooled_url: str
    settings: Settings

    def user(self, login: Login) -> str:
        """Return the Postgres role of a login."""
        return self.settings.database_owner if login is Login.OWNER else login.value

    def password(self, login: Login) -> str | None:
        """Return the password of a login, or None where the server asks for none."""
        secret = {
            Login.OWNER: self.settings.database_owner_password,
            Login.WEB: self.settings.database_web_password,
            Login.WORKER: self.settings.database_worker_password,
            Login.INGEST: self.settings.database_ingest_password,
            Login.ADMIN: self.settings.database_admin_password,
        }[login]
        return secret.get_secret_value() or None

    async def connect(self, login: Login, *, purpose: str) -> SessionConnection:
        """Open one session connection; `purpose` is shown as its application name.

        Raises
        ------
        DatabaseUnavailableError
            If the server cannot be reached.
        """
        try:
            connection: SessionConnection = await asyncpg.connect(
                self.session_url,
                user=self.user(login),
                password=self.password(login),
                timeout=10,
                server_settings={"application_name": f"sellflow {purpose}"},
            )
            await self._limit_idling_or_close(connection)
        except UNAVAILABLE as error:
            raise DatabaseUnavailableError(f"Postgres cannot be reached as {self.user(login)}: {error}") from error
        return connection

    async def pool(self, login: Login, *, purpose: str, size: int, command_timeout: float | None = None) -> Pool:
        """Open a pool of at most `size` connections on the pooled address, none of them before it is needed."""
        direct = self.session_url == self.pooled_url
        return await asyncpg.create_pool(
            self.pooled_url,
            user=self.user(login),
            password=self.password(login),
            min_size=0,
            max_size=size,
            timeout=5,
            command_timeout=command_timeout,
            max_inactive_connection_lifetime=60,
            statement_cache_size=200 if direct else 0,
            # A pooler refuses parameters that it does not know.
            server_settings={"application_name": f"sellflow {purpose}"} if direct else {},
            init=self._limit_idling if direct else None,
            reset=_nothing_to_reset,
        )

    async def _limit_idling_or_close(self, connection: SessionConnection) -> None:
        """Limit idling; a connection that nobody gets to see is not left open."""
        try:
            await self._limit_idling(connection)
        except BaseException:
            connection.terminate()
            raise

    async def _limit_idling(self, connection: SessionConnection) -> None:
        """Let the server end a session that leaves a transaction idle: it may be frozen, or cut off.

        By a statement, since a pooler refuses to be asked for it at the start.
        """
        limit = round(self.settings.transaction_idle_limit * 1000)
        if limit:
            await connection.execute(f"SET idle_in_transaction_session_timeout = {limit}")


async def _nothing_to_reset(_: object) -> None:
    """Skip the driver's reset on release: settings are only ever made for one transaction (SET LOCAL)."""


async def close_connection(connection: SessionConnection, *, within: float = 2.0) -> None:
    """Close a session connection, or cut it; no fault of its end replaces what its user is being told.

    A cancelled task above all: it would go on, taking the fault for a lost database.
    """
    if connection.is_closed():
        return
    try:
        await connection.close(timeout=within)
    except UNAVAILABLE as error:
        log.warning("postgres.connection_cut", error=repr(error), within=within)
        connection.terminate()


async def close_pool(pool: Pool, *, within: float = 5.0) -> None:
    """Close a pool and cut what does not come back in time: the driver waits for a stuck connection without end."""
    try:
        async with asyncio.timeout(within):
            await pool.close()
    except UNAVAILABLE as error:
        log.warning("postgres.connections_cut", error=repr(error), within=within)
        pool.terminate()
